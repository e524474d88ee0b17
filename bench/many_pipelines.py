"""What a pipeline costs alongside others: `python -m bench.many_pipelines --pipelines 20 --minutes 30`.

Creates `--pipelines` pipelines from the skeleton in a copy of the project, starts a throw-away stack, and writes 1,000 events a
minute for each of them to the lake. After a warm-up it measures the seconds from the tick to the merge of each run
and the CPU of each part of the stack, and counts failed runs and the open sessions of each store. At the end, each
pipeline is verified; a failed run or a difference gives exit status 1.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from local.isolation import isolate, work_in_copy

_WARM_UP = timedelta(minutes=3)  # in the first batches, the driver still compiles its code
_SEED = 19


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.many_pipelines", description=__doc__.splitlines()[0])
    parser.add_argument("--pipelines", type=int, default=20)
    parser.add_argument("--minutes", type=int, default=30, help="time to measure, after a warm-up")
    parser.add_argument("--events", type=int, default=1_000, help="events a minute for each pipeline")
    args = parser.parse_args()
    if args.minutes > 90:
        parser.error("--minutes can be at most 90: only the newest 100 runs of each DAG are read.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the stack is stopped on the way out
    with tempfile.TemporaryDirectory(prefix="mm-bench-") as folder:
        project = Path(folder) / "project"
        work_in_copy(project)
        isolate(Path(folder))
        os.environ["MINUTEMARK_INGEST"] = ""  # producers write to the lake: only the chain is measured
        return _measure(args, project)


def _measure(args: argparse.Namespace, project: Path) -> int:
    from bench.continuous import Cpu
    from include import pipelines
    from include.verify.verify import run_verify
    from local import new_pipeline, start, supervisor

    names = [f"store_{number:02}" for number in range(1, args.pipelines + 1)]
    for name in names:
        new_pipeline.make(name, project)
    pipelines.all_pipelines.cache_clear()
    try:
        airflow = start.run().airflow
        for dag_id in airflow.dags():
            if not dag_id.startswith(tuple(f"{name}_minute" for name in names)):
                airflow.pause(dag_id)
        begin = datetime.now(UTC).replace(tzinfo=None) + _WARM_UP
        end = begin + timedelta(minutes=args.minutes)
        with concurrent.futures.ThreadPoolExecutor(len(names)) as producers:
            sent = [producers.submit(_send, name, args.events, end) for name in names]
            time.sleep(_WARM_UP.total_seconds())
            cpu = Cpu()
            while datetime.now(UTC).replace(tzinfo=None) < end:
                time.sleep(1)
                cpu.record_drivers()
            used, sessions = cpu.cores(), _sessions()
            events = sum(future.result() for future in sent)
        figures = _figures(airflow, names, begin, end)
        reports = [run_verify(name, None, None, patience=240) for name in names]
        clean = all(report.clean for report in reports)
        seconds = {name: round(cores * 60 / len(names), 2) for name, cores in used.items()}
        summary = {
            "pipelines": len(names),
            "minutes": args.minutes,
            "events": events,
            **figures,
            "cpu_seconds_per_pipeline_and_minute": seconds,
            "sessions": sessions,
            "clean": clean,
        }
        print(json.dumps(summary, indent=1))
        return 0 if clean and not figures["failed_runs"] else 1
    finally:
        supervisor.shut_down()


def _send(name: str, events: int, end: datetime) -> int:
    """Write `events` events a minute until `end`; returns how many were written."""
    from include import pipelines
    from include.demo.traffic import run_traffic

    seconds = (end - datetime.now(UTC).replace(tzinfo=None)).total_seconds()
    time.sleep(random.Random(f"{_SEED} {name}").random())  # so that producers do not all write at the same moment
    total = round(events * seconds / 60)
    return run_traffic(pipelines.get(name), events=total, seconds=seconds, until=end, seed=_SEED).events


def _figures(airflow, names: list[str], begin: datetime, end: datetime) -> dict:
    """Figures of the scheduled runs that were due in that time."""
    from bench.minutes import percentile
    from include.warehouse.session import warehouse

    states = Counter()
    for name in names:
        for run in airflow.runs(f"{name}_minute", 100):
            due = datetime.fromisoformat(run["run_after"]).replace(tzinfo=None)
            if run["run_type"] == "scheduled" and begin <= due < end:
                states[run["state"]] += 1
    marks = ", ".join(["%s"] * len(names))
    with warehouse() as conn:
        cursor = conn.cursor()
        cursor.execute(
            "SELECT tick, merged_at FROM etl.batches WHERE kind = 'minute' AND merged_at IS NOT NULL "
            f"AND tick >= %s AND tick < %s AND pipeline IN ({marks})",
            (begin, end, *names),
        )
        seconds = sorted((merged_at - tick).total_seconds() for tick, merged_at in cursor.fetchall())
    return {
        "runs": dict(states),
        "failed_runs": states["failed"],
        "merges": len(seconds),
        "tick_to_merge_p50": seconds and round(percentile(seconds, 0.5), 1),
        "tick_to_merge_p95": seconds and round(percentile(seconds, 0.95), 1),
        "tick_to_merge_worst": seconds and round(seconds[-1], 1),
    }


def _sessions() -> dict[str, dict[str, int]]:
    """For each store: the open sessions, without those of this process, and the sessions that were closed in the last minute.

    The kernel lists a closed connection for a minute, but not the process that closed it: closed sessions of this
    process are counted too.
    """
    from local import ports

    chosen = ports.chosen()
    stores = {"cassandra": "CASSANDRA_PORT", "warehouse": "MARIADB_PORT", "metadata": "POSTGRES_PORT"}
    states = Counter(
        (connection.raddr.port, connection.status)
        for connection in psutil.net_connections("tcp")
        if connection.raddr and connection.pid != os.getpid()
    )
    return {
        store: {
            "open": states[chosen[port], psutil.CONN_ESTABLISHED],
            "closed_in_the_last_minute": states[chosen[port], psutil.CONN_TIME_WAIT],
        }
        for store, port in stores.items()
    }


if __name__ == "__main__":
    sys.exit(main())
