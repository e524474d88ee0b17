"""`make status`: every process of the stack, its memory, the ports, and how fresh each pipeline is."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Sequence

import psutil

from include.errors import MinutemarkError
from include.warehouse.status import freshness, named_fields, open_alerts
from local import ports, supervisor, warehouse

ONE_OFFS = ("airflow-migrate", "spark-archive", "superset-load")


def gather() -> dict:
    """The state of the stack as JSON shows it. `memory_mb` counts what a process and its children hold, shared pages once."""
    drivers = supervisor.spark_drivers()
    processes = [_process(info, drivers) for info in supervisor.processes()]
    processes += [_spark_driver(process) for process in drivers] if processes else []
    status = {
        "running": bool(processes),
        "healthy": bool(processes) and all(entry["state"] == "RUNNING" for entry in processes if entry["wanted"]),
        "processes": processes,
        "memory_mb": sum(entry["memory_mb"] or 0 for entry in processes),
        "ports": ports.chosen(),
        "pipelines": {},
        "alerts": [],
    }
    try:
        with warehouse.reader() as connection:
            for row in freshness(connection):
                status["pipelines"][row["pipeline"]] = _pipeline(row)
            status["alerts"] = [_alert(row) for row in open_alerts(connection)]
    except MinutemarkError as error:
        status["warehouse"] = str(error)
    return status


def _pipeline(row: dict) -> dict:
    """A pipeline's fields as JSON shows them; seconds are rounded to one decimal, None if unknown."""
    seconds = {
        "newest_event_seconds": row["lag"],
        "lag_median_seconds": row["lag_median"],
        "lag_p95_seconds": row["lag_p95"],
        "lag_worst_seconds": row["lag_worst"],
        "delay_seconds": row["delay"],
        "looked_seconds_ago": row["look_age"],
    }
    return {
        "state": row["state"],
        **{name: None if value is None else round(value, 1) for name, value in seconds.items()},
        "pending_minutes": int(row["pending"]),
        "held_minutes": int(row["held"]),
        "new_fields": row["new_fields"],
    }


def _alert(row: dict) -> dict:
    return {
        "pipeline": row["pipeline"],
        "problem": row["problem"],
        "since": row["began_at"].isoformat(timespec="seconds") + "Z",
        "told": row["told_at"] is not None,
        "found": row["found"],
        "what_to_do": row["remedy"],
    }


def _process(info: dict, drivers: Sequence[psutil.Process]) -> dict:
    up = info["statename"] == "RUNNING"
    return {
        "name": info["name"],
        "state": info["statename"],
        # A stopped program is wanted only once it has been started: `make services` starts no Airflow.
        "wanted": info["name"] not in ONE_OFFS and (info["start"] > 0 or up),
        "pid": info["pid"] or None,
        "uptime_seconds": int(time.time() - info["start"]) if up else None,
        "memory_mb": _memory_mb(info["pid"], drivers) if up else None,
    }


def _spark_driver(process: psutil.Process) -> dict:
    """A warm driver. It is not `wanted`, because the next run starts a missing driver."""
    return {
        "name": "spark-driver",
        "state": "RUNNING",
        "wanted": False,
        "pid": process.pid,
        "uptime_seconds": int(time.time() - process.create_time()),
        "memory_mb": _memory_mb(process.pid),
    }


def _memory_mb(pid: int, drivers: Iterable[psutil.Process] = ()) -> int:
    """The memory of a process and its children, without these warm drivers: a driver is a child of the task that started it."""
    total = 0
    others = {process for driver in drivers for process in supervisor.with_children(driver)}
    with contextlib.suppress(psutil.Error):
        for process in supervisor.with_children(psutil.Process(pid)) - others:
            with contextlib.suppress(psutil.Error):
                memory = process.memory_full_info()
                total += getattr(memory, "pss", 0) or memory.rss
    return total // 2**20


def show(as_json: bool) -> int:
    """Print the status; the exit status is 0 when everything that was started runs, 3 when nothing runs, else 1."""
    status = gather()
    if as_json:
        print(json.dumps(status, indent=1))
    else:
        _print(status)
    return 0 if status["healthy"] else 1 if status["running"] else 3


def _print(status: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    if not status["running"]:
        print("Nothing is running. `make run` starts everything, `make services` only the stores.")
        return
    table = Table("process", "state", "pid", "uptime", "memory")
    for entry in status["processes"]:
        if entry["wanted"] or entry["state"] not in ("STOPPED", "EXITED"):
            uptime = "" if entry["uptime_seconds"] is None else f"{entry['uptime_seconds'] // 60} min"
            memory = "" if entry["memory_mb"] is None else f"{entry['memory_mb']:,} MB"
            table.add_row(entry["name"], entry["state"].lower(), str(entry["pid"] or ""), uptime, memory)
    table.add_row("all", "", "", "", f"{status['memory_mb']:,} MB")
    Console().print(table)
    print("Ports: " + ", ".join(f"{name}={port}" for name, port in status["ports"].items()))
    for pipeline, row in status["pipelines"].items():
        print("\n".join(_freshness(pipeline, row)))
    for alert in status["alerts"]:
        print(f"ALERT {alert['pipeline']}: {alert['problem']} since {alert['since']}. {alert['found']}")
        print(f"  What to do: {alert['what_to_do']}")
    if "warehouse" in status:
        print(status["warehouse"])


def _freshness(pipeline: str, row: dict) -> list[str]:
    age = row["newest_event_seconds"]
    newest = "nothing merged yet" if age is None else f"newest event {age} s old"
    delay = row["delay_seconds"]
    waiting = f"oldest unmerged live change {delay} s old" if delay else "no live change waits"
    lines = [
        f"{pipeline} is {row['state']}: {newest}, minutes pending: {row['pending_minutes']}, held: {row['held_minutes']}, "
        f"{waiting}"
    ]
    if row["lag_p95_seconds"] is not None:
        hour = ", ".join(f"{name} {row[f'lag_{name}_seconds']} s" for name in ("median", "p95", "worst"))
        lines.append(f"  age of the newest event over the last hour: {hour}")
    if row["new_fields"]:
        lines.append(f"  undeclared fields, first sent within the last day: {named_fields(row['new_fields'])}")
    return lines
