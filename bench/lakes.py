"""Lakes of any size for benchmarks, written by Spark: one busy minute, repeated with shifted times."""

from __future__ import annotations

import dataclasses
import json
import random
import time
from datetime import UTC, datetime, timedelta

from include import pipelines
from include.demo import recruitment as demo
from include.lake.keys import GREGORIAN_EPOCH
from include.lake.session import lake
from include.pipelines import Pipeline
from local import connections

ROWS_PER_MINUTE = 2_000
_MINUTE_US = 60_000_000
_SETTLED_SECONDS = 5


def make_table(name: str) -> Pipeline:
    """Create an empty lake table like the recruitment pipeline's, in a keyspace of that name; returns its pipeline."""
    pipeline = dataclasses.replace(pipelines.get("recruitment"), keyspace=name)
    with lake("lake_admin") as session:
        session.execute(
            f"CREATE KEYSPACE {name} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
        )
        session.execute(
            f"CREATE TABLE {pipeline.lake_table} (minute timestamp, shard int, create_time timeuuid, payload text, "
            "PRIMARY KEY ((minute, shard), create_time))"
        )
        for account in ("lake_reader", "lake_writer"):  # Spark also writes with the account that it reads with
            session.execute(f"GRANT ALL ON KEYSPACE {name} TO {connections.LAKE_LOGINS[account]}")
    return pipeline


def fill(
    spark,
    pipeline: Pipeline,
    newest: datetime,
    rows: int,
    *,
    rows_per_minute: int = ROWS_PER_MINUTE,
    unique: bool = False,
) -> int:
    """Write `rows` rows of `events` into the pipeline's table, without touching the change log; returns the number of minutes."""
    minutes = rows // rows_per_minute
    _write(events(spark, pipeline, newest, minutes, rows_per_minute=rows_per_minute, unique=unique), pipeline)
    return minutes


def events(spark, pipeline: Pipeline, newest: datetime, minutes: int, *, rows_per_minute: int, unique: bool = False):
    """A frame of `rows_per_minute` events in each of `minutes` minutes, up to and including `newest` (UTC).

    Every minute has the same visits, moved in time. With `unique` no two events share a job, so each counted event
    is a separate fact.
    """
    from pyspark.sql import functions as F

    from include.spark.lake import KEY

    first = newest - timedelta(minutes=minutes - 1)
    start = F.lit(int(first.replace(tzinfo=UTC).timestamp()) * 1_000_000)
    begin = start + F.col("number") * _MINUTE_US  # start of the event's minute, in µs since 1970
    gregorian = (datetime(1970, 1, 1) - GREGORIAN_EPOCH) // timedelta(microseconds=1)
    ticks = (begin + F.col("us") + gregorian) * 10
    job = F.col("number") * rows_per_minute + F.col("visit") + 10_000_000
    frame = (
        spark.range(0, minutes, 1, min(minutes, 64))
        .withColumnRenamed("id", "number")
        .crossJoin(F.broadcast(_visits(spark, rows_per_minute)))
        .withColumns(
            {
                "minute": F.timestamp_micros(begin),
                "create_time": F.format_string(
                    "%08x-%04x-1%03x-8000-%012x",
                    ticks.bitwiseAND(F.lit(0xFFFFFFFF)),
                    F.shiftright(ticks, 32).bitwiseAND(F.lit(0xFFFF)),
                    F.shiftright(ticks, 48).bitwiseAND(F.lit(0x0FFF)),
                    F.col("visit") + (1 << 40),
                ),
                "ts": F.date_format(F.timestamp_micros(begin + F.col("us")), "yyyy-MM-dd HH:mm:ss.SSS"),
            }
        )
    )
    if unique:
        frame = frame.withColumns(
            {
                "job_id": F.when(F.col("job_id").isNotNull(), job.cast("string")),
                "ed": F.regexp_replace("ed", '("job[Ii]d":"?)\\d+', F.concat(F.lit("$1"), job.cast("string"))),
            }
        )
    payload = F.to_json(F.struct("create_time", *pipeline.fields))  # nulls are omitted
    return frame.select(*KEY, payload.alias("payload"))


def await_compaction() -> None:
    """Return when the node has had nothing to flush or compact for a few seconds."""
    with lake("lake_admin") as session:
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < _SETTLED_SECONDS:
            if session.execute("SELECT * FROM system_views.sstable_tasks").one():
                quiet_since = time.monotonic()
            time.sleep(0.5)


def _visits(spark, count: int):
    """The visits of one minute: raw columns, the microseconds since its start, the visit's number and shard."""
    from pyspark.sql import functions as F

    columns = pipelines.get("recruitment").fields
    rng, noon = random.Random(count), datetime(2026, 1, 1, 12)
    visits = [
        {"visit": number, "us": _MINUTE_US * number // count, "shard": number % 4, **demo.event(rng, noon)}
        for number in range(count)
    ]
    schema = f"visit long, us long, shard int, {', '.join(f'{column} string' for column in columns)}"
    # As one literal: a list of rows would need Python workers, which the pipeline's session does not start.
    values = F.from_json(F.lit(json.dumps(visits)), f"array<struct<{schema.replace(' ', ':').replace(',:', ',')}>>")
    return spark.range(1).select(F.inline(values))


def _write(rows, pipeline: Pipeline) -> None:
    options = {
        "keyspace": pipeline.keyspace,
        "table": pipeline.table,
        "spark.cassandra.output.ignoreNulls": "true",  # a null would be a tombstone
        "spark.cassandra.output.batch.size.bytes": "32768",
        "spark.cassandra.output.batch.grouping.key": "partition",
        "spark.cassandra.output.concurrent.writes": "8",
    }
    rows.write.format("org.apache.spark.sql.cassandra").options(**options).mode("append").save()
