"""What it costs to merge a history with few rows per minute: `python -m bench.sparse` (--rows 100000 --minutes 39000).

Starts throw-away stores, spreads `--rows` rows over `--minutes` minutes, and merges the backlog as the minute DAG does, run after
run, with ten live minutes in each batch. Prints for each run its minutes, the seconds of its steps, and the CPU seconds of
all processes, stores included, which show what a run costs on a shared machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from bench.rigs import MASTER, Rig, Timing, minutes_up_to, session
from include import pipelines
from include.connections import LAKE_WRITER
from include.demo.traffic import demo_of
from include.lake.keys import time_uuid
from include.lake.session import lake
from include.lake.writer import Event, EventWriter
from include.operations.setup import set_up
from include.pipelines import Pipeline
from include.warehouse.session import warehouse
from local import connections, throwaway

NEWEST = datetime(2026, 6, 1, 12)  # the newest minute of the backlog
LIVE_ROWS = 300  # in each live minute


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.sparse", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--minutes", type=int, default=39_000)
    parser.add_argument("--pipelines", nargs="+", default=sorted(pipelines.all_pipelines()))
    parser.add_argument(
        "--max-minutes", type=int, help="maximum number of minutes in a batch, instead of the pipeline's own limit"
    )
    parser.add_argument("--runs", type=int, help="stop after this number of runs")
    args = parser.parse_args()
    if args.rows < args.minutes:
        parser.error("--rows must be at least --minutes: each minute has an event.")
    os.environ["TZ"] = "UTC"
    time.tzset()
    passwords = connections.new_passwords()
    with tempfile.TemporaryDirectory(prefix="mm-bench-") as name:
        folder = Path(name)
        cassandra = throwaway.cassandra_node(folder, heap_mb=1_024, throw_away=False)
        with throwaway.warehouse_server(folder, passwords) as server, cassandra as node:
            os.environ |= {**server, **node, **connections.spark(MASTER), "MINUTEMARK_INGEST": ""}
            set_up()
            spark = session(passwords)
            try:
                for pipeline in map(pipelines.get, args.pipelines):
                    if args.max_minutes:
                        pipeline = dataclasses.replace(pipeline, max_minutes=args.max_minutes)
                    rig = Rig(pipeline.name, pipeline, server)
                    _warm_up(rig, spark)
                    _catch_up(rig, spark, args)
            finally:
                spark.stop()
    return 0


def _warm_up(rig: Rig, spark) -> None:
    """Run some live minutes first: in operation, the driver is warm when a backlog arrives."""
    for _ in range(3):
        _write(rig.pipeline, _current_minute(), minutes=10, rows=10 * LIVE_ROWS)
        cpu = _cpu_seconds()
        _print(rig.run(spark), "warm-up", cpu)
        rig.settle()


def _catch_up(rig: Rig, spark, args: argparse.Namespace) -> None:
    _write(rig.pipeline, NEWEST, args.minutes, args.rows)
    runs, seconds = 0, 0.0
    while runs != args.runs:
        _write(rig.pipeline, _current_minute(), minutes=10, rows=10 * LIVE_ROWS)
        cpu = _cpu_seconds()
        timing = rig.run(spark)
        runs, seconds = runs + 1, seconds + timing.run
        _print(timing, f"run {runs}", cpu)
        rig.settle()
        if not _has_backlog(rig.pipeline):
            break
    print(f"{rig.name}: {args.rows:,} rows over {args.minutes:,} minutes: {runs} runs, {seconds:.1f} s", flush=True)


def _print(timing: Timing, name: str, cpu_before: float) -> None:
    steps = {"job": timing.job, **timing.steps}
    detail = ", ".join(f"{step} {seconds:.2f}" for step, seconds in steps.items())
    cpu = f"CPU {_cpu_seconds() - cpu_before:.1f} s"
    print(f"  {name}: {timing.minutes:,} minutes in {timing.run:.2f} s, {cpu} ({detail})", flush=True)


def _cpu_seconds() -> float:
    """The CPU seconds of this process and all that it started: the stores and Spark's JVM."""
    own = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in [own, *own.children(recursive=True)])


def _write(pipeline: Pipeline, newest: datetime, minutes: int, rows: int) -> None:
    with lake(LAKE_WRITER) as lake_session:
        EventWriter(lake_session, pipeline).write(_events(pipeline, newest, minutes, rows))


def _events(pipeline: Pipeline, newest: datetime, minutes: int, rows: int) -> Iterator[Event]:
    """One event in each minute, and the other rows in random minutes; oldest minute first."""
    rng, demo = random.Random(rows), demo_of(pipeline)
    times = sorted([*range(minutes), *(rng.randrange(minutes) for _ in range(rows - minutes))])
    oldest = minutes_up_to(newest, minutes)[-1]
    for number, minute in enumerate(times):
        at = oldest + timedelta(minutes=minute, microseconds=rng.randrange(59_000_000))
        yield Event(time_uuid(at, f"sparse {number}"), demo.event(rng, at))


def _has_backlog(pipeline: Pipeline) -> bool:
    with warehouse() as conn:
        cursor = conn.cursor()
        cursor.execute(
            "SELECT 1 FROM etl.minute_ledger WHERE pipeline = %(pipeline)s AND pending = 1 AND minute <= %(newest)s LIMIT 1",
            {"pipeline": pipeline.name, "newest": NEWEST},
        )
        return cursor.fetchone() is not None


def _current_minute() -> datetime:
    return datetime.now(UTC).replace(second=0, microsecond=0, tzinfo=None)


if __name__ == "__main__":
    sys.exit(main())
