"""Rows a second from the lake to merged facts: `python -m bench.throughput [--pipeline ecommerce] [--rows 300000]`.

Starts a throw-away Cassandra node and MariaDB server, writes demo events into so many minutes, and takes them through one
batch as a run does, with a driver that is warm: the Spark job, both gates and the merge. The first batch warms up; each
further round reads the same minutes again, and replaces what they held. Prints the seconds of each step.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

from include import pipelines, runs
from include.connections import endpoint
from include.demo.traffic import demo_of
from include.lake.keys import time_uuid
from include.lake.session import lake
from include.lake.writer import Event, EventWriter
from include.pipelines import Pipeline
from include.warehouse import batches, gates, merge
from include.warehouse.session import warehouse
from local import connections
from tests import stores

FIRST = datetime(2026, 6, 1, 12)
MASTER = "local[*]"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pipeline", default="ecommerce", choices=sorted(pipelines.all_pipelines()))
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    pipeline = pipelines.get(asked.pipeline)
    with tempfile.TemporaryDirectory(prefix="mm-bench-") as name:
        folder = Path(name)
        with stores.mariadb_server(folder) as server, stores.cassandra_node(folder) as node:
            os.environ.update({**server, **node, **connections.spark(MASTER)})
            from include.operations.setup import set_up

            set_up()
            _fill(pipeline, asked.rows, asked.minutes)
            _print(asked.rows, _rounds(pipeline, asked.minutes, asked.rounds))
    return 0


def _fill(pipeline: Pipeline, rows: int, minutes: int) -> None:
    begun = time.monotonic()
    with lake("lake_writer") as session:
        writer = EventWriter(session, pipeline)
        for number in range(minutes):
            writer.write(_events(pipeline, FIRST + timedelta(minutes=number), rows // minutes))
    print(f"{rows:,} rows of {pipeline.name} written in {time.monotonic() - begun:.0f} s", file=sys.stderr)


def _events(pipeline: Pipeline, minute: datetime, count: int) -> Iterator[Event]:
    rng, demo = random.Random(minute.isoformat()), demo_of(pipeline)
    for number in range(count):
        at = minute + timedelta(seconds=60) * number / count
        yield Event(time_uuid(at, str(uuid.UUID(int=rng.getrandbits(128)))), demo.event(rng, at))


def _rounds(pipeline: Pipeline, minutes: int, rounds: int) -> list[dict[str, float]]:
    """Seconds of each step, round by round; the first one is the cold one."""
    from pyspark.sql import SparkSession

    from include.spark import run, submission

    settings = {
        **submission.session_settings(MASTER),
        **submission.lake_settings(endpoint("lake_reader")),
        **submission.warehouse_settings(endpoint("warehouse_etl")),
    }
    # As the flags of a driver that stays: C2 compiles, too.
    settings |= submission.runtime(submission.spark_jars(), short_lived=False)
    spark = SparkSession.builder.master(MASTER).config(map=settings).getOrCreate()
    run.keep_class_lookups(spark)
    logging.basicConfig(format="%(message)s")
    run.log.setLevel(logging.INFO)
    try:
        return [_round(pipeline, minutes, number, spark, run, submission) for number in range(rounds + 1)]
    finally:
        spark.stop()


def _round(pipeline: Pipeline, minutes: int, number: int, spark, run, submission) -> dict[str, float]:
    end = FIRST + timedelta(minutes=minutes)
    how = {"kind": "manual", "dag_id": "bench", "run_id": str(number), "tick": None, "options": {}}
    with lake("lake_reader") as session, warehouse() as conn:
        batch_id = runs.open_range(pipeline, session, conn, start=FIRST, end=end, **how)
        batch = batches.get(conn, batch_id)
        asked = dataclasses.replace(batch, minutes=tuple(planned.minute for planned in batch.minutes))
        attempt = batches.mint_attempt(conn, batch_id)

        def transform() -> None:
            prepared = submission.prepare(
                asked, attempt, endpoint("lake_reader"), endpoint("warehouse_etl"), MASTER, 300_000
            )
            try:
                assert run.attempt(spark, run.Job.read(prepared.job_file)) == 0
            finally:
                shutil.rmtree(prepared.dir)

        def gate(name: str) -> None:
            result = gates.run_gate(conn, batch_id, name)
            assert result.passed, result

        steps: dict[str, Callable[[], object]] = {
            "transform": transform,
            "check_staging": lambda: gate("staging"),
            "merge": lambda: merge.merge(batch_id),
            "check_warehouse": lambda: gate("warehouse"),
        }
        return {name: _seconds(step) for name, step in steps.items()}


def _seconds(step: Callable[[], object]) -> float:
    begun = time.perf_counter()
    step()
    return time.perf_counter() - begun


def _print(rows: int, rounds: list[dict[str, float]]) -> None:
    for number, seconds in enumerate(rounds):
        merged = sum(seconds.values()) - seconds["check_warehouse"]
        steps = "  ".join(f"{name} {one:6.2f}" for name, one in seconds.items())
        print(
            f"{'cold' if number == 0 else 'warm'}  {steps}  lake to merged {merged:6.2f} s  {rows / merged:8,.0f} rows/s"
        )
    warm = [sum(one.values()) - one["check_warehouse"] for one in rounds[1:]]
    if warm:
        print(f"median of {len(warm)} warm rounds: {rows / statistics.median(warm):,.0f} rows/s")


if __name__ == "__main__":
    sys.exit(main())
