"""`make status`: every process of the stack, its memory, the ports, and how fresh each pipeline is."""

from __future__ import annotations

import contextlib
import json
import time

import psutil

from local import ports, supervisor, warehouse
from local.problems import Problem

ERRANDS = ("airflow-migrate", "spark-archive")


def gather() -> dict:
    """The state of the stack as JSON shows it. `memory_mb` counts what a process and its children hold, shared pages once."""
    listed = [_process(info) for info in supervisor.processes()]
    listed += [_spark_driver(process) for process in supervisor.spark_drivers()] if listed else []
    found = {
        "running": bool(listed),
        "healthy": bool(listed) and all(one["state"] == "RUNNING" for one in listed if one["wanted"]),
        "processes": listed,
        "memory_mb": sum(one["memory_mb"] or 0 for one in listed),
        "ports": ports.chosen(),
        "pipelines": {},
    }
    try:
        with warehouse.reader() as connection:
            for row in warehouse.freshness(connection):
                found["pipelines"][row["pipeline"]] = {
                    "newest_event_seconds": None if row["lag"] is None else round(row["lag"], 1),
                    "pending_minutes": int(row["pending"]),
                    "held_minutes": int(row["held"]),
                }
    except Problem as problem:
        found["warehouse"] = f"{problem.where}: {problem.found}"
    return found


def _process(info: dict) -> dict:
    up = info["statename"] == "RUNNING"
    return {
        "name": info["name"],
        "state": info["statename"],
        # A stopped program is wanted only once it has been started: `make services` starts no Airflow.
        "wanted": info["name"] not in ERRANDS and (info["start"] > 0 or up),
        "pid": info["pid"] or None,
        "uptime_seconds": int(time.time() - info["start"]) if up else None,
        "memory_mb": _memory_mb(info["pid"]) if up else None,
    }


def _spark_driver(process: psutil.Process) -> dict:
    """A driver that is kept between runs; a run without one starts its own."""
    return {
        "name": "spark-driver",
        "state": "RUNNING",
        "wanted": False,
        "pid": process.pid,
        "uptime_seconds": int(time.time() - process.create_time()),
        "memory_mb": _memory_mb(process.pid),
    }


def _memory_mb(pid: int) -> int:
    total = 0
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                memory = process.memory_full_info()
                total += getattr(memory, "pss", 0) or memory.rss
    return total // 2**20


def show(as_json: bool) -> int:
    """Print it; the exit status is 0 when everything that was started runs, 3 when nothing runs, else 1."""
    found = gather()
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        _print(found)
    return 0 if found["healthy"] else 1 if found["running"] else 3


def _print(found: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    if not found["running"]:
        print("Nothing runs. `make run` starts everything, `make services` only the stores.")
        return
    table = Table("process", "state", "pid", "uptime", "memory")
    for one in found["processes"]:
        if one["wanted"] or one["state"] not in ("STOPPED", "EXITED"):
            uptime = "" if one["uptime_seconds"] is None else f"{one['uptime_seconds'] // 60} min"
            memory = "" if one["memory_mb"] is None else f"{one['memory_mb']:,} MB"
            table.add_row(one["name"], one["state"].lower(), str(one["pid"] or ""), uptime, memory)
    table.add_row("all", "", "", "", f"{found['memory_mb']:,} MB")
    Console().print(table)
    print("Ports: " + ", ".join(f"{name}={port}" for name, port in found["ports"].items()))
    for pipeline, row in found["pipelines"].items():
        age = row["newest_event_seconds"]
        newest = "nothing merged yet" if age is None else f"newest event {age} s old"
        print(f"{pipeline}: {newest}, {row['pending_minutes']} minutes pending, {row['held_minutes']} held")
    if "warehouse" in found:
        print(found["warehouse"])
