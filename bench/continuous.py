"""How fresh the facts are, and at what cost: `python -m bench.continuous --minutes 60 [--schedule minute] [--kills SEED]`.

Starts a throw-away stack with demo traffic of one pipeline, 5,000 events a minute through its topic, and measures over the
given minutes: the age of the newest published event at every instant, the seconds from one merge to the next, and the CPU of
each part of the stack. With a seed, it kills a task of the chain, the scheduler with all its tasks, or the Spark driver at
random moments. At the end the traffic stops and everything is verified. The exit status is 1 if verify reports a difference,
or if minutes stay pending.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil

from local.isolation import isolate, work_in_copy

PAUSE_BETWEEN_KILLS = 60, 180  # seconds between two kills, at least and at most
_WARM_UP = 60.0  # seconds until the driver has compiled its code


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.continuous", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="minutes to measure, after a warm-up")
    parser.add_argument("--schedule", choices=("minute", "continuous"), default="continuous")
    parser.add_argument("--pipeline", default="recruitment")
    parser.add_argument("--events", type=int, default=5_000, help="events a minute")
    parser.add_argument(
        "--kills", type=int, metavar="SEED", help="kill tasks, scheduler and driver in the random order of this seed"
    )
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the stack is stopped on the way out
    with tempfile.TemporaryDirectory(prefix="mm-bench-") as folder:
        work_in_copy(Path(folder) / "project")
        isolate(Path(folder))
        os.environ |= {
            "MINUTEMARK_SCHEDULE": args.schedule,
            "MINUTEMARK_DEMO": "1",
            "MINUTEMARK_DEMO_EVENTS": str(args.events),
        }
        return _measure(args)


def _measure(args: argparse.Namespace) -> int:
    from include import pipelines
    from include.verify.verify import run_verify
    from include.warehouse.session import warehouse
    from local import start, supervisor

    pipeline = pipelines.get(args.pipeline)
    try:
        airflow = start.run().airflow
        for dag_id in airflow.dags():
            if dag_id.startswith(tuple(f"{name}_" for name in pipelines.all_pipelines() if name != pipeline.name)):
                airflow.pause(dag_id)
        time.sleep(_WARM_UP)
        with warehouse() as conn:
            begin = now(conn)
            cpu, kills = Cpu(), Counter()
            deadline = time.monotonic() + args.minutes * 60
            killer = _kills(args.kills, airflow, f"{pipeline.name}_minute") if args.kills is not None else iter(())
            pauses = random.Random(args.kills)
            next_kill = time.monotonic() + pauses.uniform(0, PAUSE_BETWEEN_KILLS[0])
            while (left := deadline - time.monotonic()) > 0:
                time.sleep(min(1.0, left))
                cpu.record_drivers()
                if time.monotonic() >= next_kill and (name := next(killer, None)):
                    kills[name] += 1
                    next_kill = time.monotonic() + pauses.uniform(*PAUSE_BETWEEN_KILLS)
            figures = figures_of(conn, pipeline, begin, now(conn))
            figures["cpu_cores"] = cpu.cores()
        end_traffic(airflow, pipeline)
        report = run_verify(pipeline.name, None, None, patience=240)
        clean = report.clean and not any(report.pipelines[0].totals[name] for name in ("pending", "open"))
        figures |= {"kills": dict(kills), "seed": args.kills, "clean": clean}
        print(json.dumps({"schedule": args.schedule, "events_a_minute": args.events, **figures}, indent=1))
        print(report)
        return 0 if clean else 1
    finally:
        supervisor.shut_down()


def end_traffic(airflow, pipeline) -> None:
    """Pause the traffic; return when all sent events are in the lake, the last minute is over, and none is pending."""
    from include.kafka import topics
    from include.kafka.ingest_mode import group_of, ingest_mode
    from include.warehouse.session import warehouse

    traffic, deadline = f"{pipeline.name}_demo_traffic", time.monotonic() + 240
    airflow.pause(traffic)
    for run in airflow.runs(traffic):
        while airflow.run_state(traffic, run["dag_run_id"]) in ("queued", "running") and time.monotonic() < deadline:
            time.sleep(1)
    while time.monotonic() < deadline:
        if not any(
            offsets.waiting
            for offsets in topics.offset_ranges(pipeline, group_of(pipeline.name, ingest_mode())).values()
        ):
            break
        time.sleep(1)
    time.sleep(60 - time.time() % 60)
    pending = "SELECT COUNT(*) FROM etl.minute_ledger WHERE pipeline = %s AND pending = 1"
    deadline = time.monotonic() + 240
    with warehouse() as conn:
        while one_value(conn, pending, pipeline.name) and time.monotonic() < deadline:
            time.sleep(1)


def now(conn):
    return one_value(conn, "SELECT CURRENT_TIMESTAMP(6)")


def one_value(conn, sql: str, *binds):
    cursor = conn.cursor()
    cursor.execute(sql, binds)
    [(value,)] = cursor.fetchall()
    conn.rollback()  # so that the next query sees later commits of other sessions
    return value


def figures_of(conn, pipeline, begin, end) -> dict:
    from include.warehouse import freshness

    lag = freshness.lag_between(freshness.history(conn, pipeline, begin), begin, end)
    cursor = conn.cursor()
    cursor.execute(
        "SELECT opened_at, merged_at, raw_rows, minutes FROM etl.batches WHERE pipeline = %(pipeline)s "
        "AND merged_at >= %(begin)s AND kind = 'minute' ORDER BY merged_at",
        {"pipeline": pipeline.name, "begin": begin},
    )
    batches = list(cursor.fetchall())
    merged = [merged_at for _, merged_at, *_ in batches]
    gaps = [(later - earlier).total_seconds() for earlier, later in zip(merged, merged[1:], strict=False)]
    lengths = [(merged_at - opened_at).total_seconds() for opened_at, merged_at, *_ in batches]
    return {
        "seconds": round((end - begin).total_seconds()),
        "age_p50": lag and round(lag.median, 1),
        "age_p95": lag and round(lag.p95, 1),
        "age_worst": lag and round(lag.worst, 1),
        "merges": len(batches),
        "seconds_between_merges": median(gaps),
        "seconds_from_batch_to_merge": median(lengths),
        "rows_a_batch": median([int(rows) for *_, rows, _ in batches]),
    }


def median(values: list[float]) -> float | None:
    return round(statistics.median(values), 1) if values else None


class Cpu:
    """CPU seconds by part of the stack. The time of an ended process counts as its parent's; drivers have no parent here."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._drivers: dict[tuple[int, float], float] = {}
        self._machine = _busy_seconds()
        self.record_drivers()
        self._first = self._by_part()

    def record_drivers(self) -> None:
        """Record the CPU seconds of running drivers: those of a killed driver can no longer be read."""
        from local import supervisor

        for driver in supervisor.spark_drivers():
            with contextlib.suppress(psutil.Error):
                self._drivers[driver.pid, driver.create_time()] = _seconds_of(driver)

    def cores(self) -> dict[str, float]:
        """Average number of busy cores by part; `machine` is the whole machine, other work included."""
        self.record_drivers()
        seconds = time.monotonic() - self._began
        used = self._by_part()
        used.subtract(self._first)
        used["all"] = used.total()
        used["machine"] = _busy_seconds() - self._machine
        return {name: round(spent / seconds, 2) for name, spent in sorted(used.items())}

    def _by_part(self) -> Counter[str]:
        from local import supervisor

        used = Counter({"spark": sum(self._drivers.values())})
        programs = {entry["pid"]: entry["name"] for entry in supervisor.processes() if entry["pid"]}
        [parent] = {psutil.Process(pid).ppid() for pid in programs}
        for pid in (parent, *programs):
            # The time of a killed program counts as supervisord's; here only the scheduler is killed.
            name = "scheduler and tasks" if programs.get(pid, "scheduler") == "scheduler" else programs[pid]
            program = psutil.Process(pid)
            for process in (program, *(program.children(recursive=True) if pid != parent else ())):
                with contextlib.suppress(psutil.Error):
                    if (process.pid, process.create_time()) not in self._drivers:
                        used[name] += _seconds_of(process)
        return used


def _seconds_of(process: psutil.Process) -> float:
    return sum(process.cpu_times()[:4])  # the process's own seconds, and those of its ended children


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return times.user + times.nice + times.system


def _kills(seed: int, airflow, dag_id: str) -> Iterator[str]:
    """At each step, kill a task of the DAG, the scheduler or the driver, and yield its name."""
    from local import supervisor

    victims = {
        "task": lambda: tasks_of(airflow, dag_id),
        "scheduler": lambda: [
            program["pid"] for program in supervisor.processes() if program["name"] == "scheduler" and program["pid"]
        ],
        "driver": lambda: [driver.pid for driver in supervisor.spark_drivers()],
    }
    rng = random.Random(seed)
    while True:
        name = rng.choice(("task", "task", "scheduler", "driver"))
        deadline, killed = time.monotonic() + 20, False
        while not killed and time.monotonic() < deadline:
            with contextlib.suppress(OSError):  # the API may not answer in time
                killed = kill(victims[name]())
            time.sleep(0.05)
        yield name if killed else f"{name} not found"


def kill(pids: list[int]) -> bool:
    killed = False
    for pid in pids:
        members: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            members = [*process.children(recursive=True), process]
        for member in members:  # the others are killed even if one has just ended
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
                killed = True
    return killed


def tasks_of(airflow, dag_id: str, task_id: str | None = None) -> list[int]:
    """The ids of processes that run or supervise tasks of that DAG, or only those of one task.

    The titles of these processes end in the id of the task instance.
    """
    from local import supervisor

    page = airflow.get(f"/api/v2/dags/{dag_id}/dagRuns/~/taskInstances?state=running")
    ids = {task["id"] for task in page["task_instances"] if task_id in (None, task["task_id"])}
    pids = []
    for process in supervisor.marked_processes():
        with contextlib.suppress(psutil.Error):
            title = " ".join(process.cmdline()).strip()
            if title.startswith("airflow worker") and title.split()[-1] in ids:
                pids.append(process.pid)
    return pids


if __name__ == "__main__":
    sys.exit(main())
