"""Whether a minute costs more when the lake holds more: `python -m bench.flat_cost [--rows 10000 1000000] [--rounds 10]`.

Starts a throw-away Cassandra node and MariaDB server, fills one lake per size, puts the same minute of events into each,
and has the job transform that minute, size after size in turn, so that a noisy machine is noisy for all of them. Beside it
the classic job of the field (scan for the newest time, filter, aggregate, append), and the sensor's poll at one and three
years of minutes. Prints a table of medians and ratios; the smallest lake is 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from include import pipelines
from include.connections import endpoint
from include.demo import recruitment as demo
from include.lake import change_log
from include.lake.keys import GREGORIAN_EPOCH
from include.lake.session import lake
from include.lake.writer import Event, EventWriter
from local import connections
from tests import stores

RECRUITMENT = pipelines.get("recruitment")
DELTA = datetime(2026, 6, 1, 12)  # the minute that every lake has
DELTA_ROWS = 5_000
ROWS_A_MINUTE = 2_000  # of the rest
YEARS = (1, 3)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000, 10_000_000])
    parser.add_argument("--rounds", type=int, default=10)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mm-bench-") as name:
        folder = Path(name)
        with stores.mariadb_server(folder) as warehouse, stores.cassandra_node(folder) as node:
            os.environ.update({**warehouse, **node, **connections.spark("local[*]")})
            from include.operations.setup import set_up

            set_up()
            lakes = [_lake(rows) for rows in sorted(asked.rows)]
            _print(_jobs(lakes, asked.rounds), "Spark job, the same 5,000 rows")
            _print(_polls(asked.rounds), "poll of the change log")
    return 0


@dataclasses.dataclass(frozen=True)
class Lake:
    """A lake table of that many rows besides the delta's."""

    rows: int
    pipeline: pipelines.Pipeline

    def __str__(self) -> str:
        return f"{self.rows:,} rows"


def _lake(rows: int) -> Lake:
    pipeline = dataclasses.replace(RECRUITMENT, keyspace=f"lake_{rows}")
    with lake("lake_admin") as session:
        replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
        session.execute(f"CREATE KEYSPACE {pipeline.keyspace} WITH replication = {replication}")
        columns = ", ".join(f"{name} text" for name in pipeline.columns)
        session.execute(
            f"CREATE TABLE {pipeline.lake_table} (minute timestamp, shard int, create_time timeuuid, {columns}, "
            "PRIMARY KEY ((minute, shard), create_time))"
        )
        for login in (connections.LAKE_LOGINS["lake_reader"], connections.LAKE_LOGINS["lake_writer"]):
            session.execute(f"GRANT ALL ON KEYSPACE {pipeline.keyspace} TO {login}")
    from tqdm import tqdm

    begun = time.monotonic()
    with lake("lake_writer") as session:
        writer = EventWriter(session, pipeline)
        writer.write(_events(DELTA, DELTA_ROWS))
        with tqdm(desc=f"lake of {rows:,} rows", total=rows, unit=" rows", unit_scale=True) as bar:
            for number in range(0, rows, ROWS_A_MINUTE):
                count = min(ROWS_A_MINUTE, rows - number)
                writer.write(_events(DELTA - timedelta(minutes=1 + number // ROWS_A_MINUTE), count))
                bar.update(count)
    print(f"{rows:,} rows written in {time.monotonic() - begun:.0f} s", file=sys.stderr)
    return Lake(rows, pipeline)


def _events(minute: datetime, count: int) -> Iterator[Event]:
    """Events spread over that minute; the same for the same minute."""
    rng = random.Random(minute.isoformat())
    for number in range(count):
        time_of_event = minute + timedelta(seconds=60) * number / count
        ticks = (time_of_event - GREGORIAN_EPOCH) // timedelta(microseconds=1) * 10
        fields = (ticks & 0xFFFFFFFF, (ticks >> 32) & 0xFFFF, (ticks >> 48) & 0x0FFF, 0, 0, (1 << 40) + number)
        yield Event(uuid.UUID(fields=fields, version=1), demo.event(rng, time_of_event))


def _jobs(lakes: Sequence[Lake], rounds: int) -> dict[str, list[float]]:
    """Seconds of each round: ours and the classic job, on every lake."""
    from pyspark.sql import SparkSession

    from include.spark import run, submission

    settings = {
        **submission.session_settings("local[*]"),
        **submission.lake_settings(endpoint("lake_reader")),
        **submission.warehouse_settings(endpoint("warehouse_etl")),
    }
    spark = SparkSession.builder.master("local[*]").config(map=settings).getOrCreate()
    run.keep_class_lookups(spark)
    attempt = iter(range(1, 10**6))

    def ours(on: Lake) -> None:
        pipelines.all_pipelines()["recruitment"] = on.pipeline
        job = run.Job(
            "recruitment", 0, next(attempt), (DELTA,), {}, True, {}, submission.jdbc_url(endpoint("warehouse_etl"))
        )
        run.run(spark, job)

    works = {
        **{f"minute, {on}": lambda on=on: ours(on) for on in lakes},
        **{f"classic, {on}": lambda on=on: _classic(spark, on) for on in lakes},
    }
    try:
        return _timed(works, rounds)
    finally:
        spark.stop()


def _classic(spark, on: Lake) -> None:
    """What the field's pipelines do each minute: find the newest time in the whole table, take what is newer, aggregate."""
    from pyspark.sql import functions as F

    table = (
        spark.read.format("org.apache.spark.sql.cassandra")
        .options(keyspace=on.pipeline.keyspace, table=on.pipeline.table)
        .load()
    )
    newest = table.agg(F.max("create_time")).collect()[0][0]
    fresh = table.where((F.col("create_time") <= newest) & (F.col("minute") >= F.lit(DELTA.replace(tzinfo=UTC))))
    clicks = fresh.where(F.col("custom_track") == "click").groupBy("job_id", F.to_date("ts"), F.hour("ts"))
    clicks.agg(F.count(F.lit(1)), F.sum(F.col("bid").cast("double"))).collect()


def _polls(rounds: int) -> dict[str, list[float]]:
    """Seconds of the sensor's poll when the change log knows every minute of one year, and then of three.

    Not in turn: a poll reads the days of all lake tables, so that two change logs of one node would measure each other.
    """
    seconds: dict[str, list[float]] = {}
    days = 0
    with lake("lake_writer") as writer, lake("lake_reader") as reader:
        for years in YEARS:
            for day in range(days, days := 365 * years):
                midnight = datetime(2026, 1, 1) - timedelta(days=day)
                change_log.touch(writer, "bench.events", (midnight + timedelta(minutes=m) for m in range(1_440)))
            poll = {f"{years} years of minutes": lambda: change_log.changed_days(reader, "bench.events")}
            seconds |= _timed(poll, rounds)
    return seconds


def _timed(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Each work once to warm up, then all of them in turn, `rounds` times."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for counted in (False, *[True] * rounds):
        for name, work in works.items():
            begun = time.perf_counter()
            work()
            if counted:
                seconds[name].append(time.perf_counter() - begun)
    return seconds


def _print(seconds: Mapping[str, Iterable[float]], title: str) -> None:
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    first = next(iter(medians.values()))
    print(f"\n{title}\n" + "".join(f"  {name:<32}{one:8.3f} s {one / first:7.2f}\n" for name, one in medians.items()))


if __name__ == "__main__":
    sys.exit(main())
