"""What every notebook needs: a Spark session that reads the lake, and the warehouse's tables through it.

Both are queried as the read-only accounts of AIRFLOW_CONN_LAKE_READER and AIRFLOW_CONN_WAREHOUSE_BI. A password goes from
there to Spark inside this process: a setting that a session starts with would be on its command line.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from include.connections import LAKE_READER, WAREHOUSE_BI, endpoint
from include.pipelines import Pipeline
from include.spark import jvm, settings, stores
from include.spark.lake import instants
from include.window import WindowRefused, as_minute, parse_range

MASTER = "local[*]"
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
MAX_MINUTES = 1_440


class NothingToRead(LookupError):
    """None of the chosen minutes can be compared; the message says what to choose."""


def session() -> SparkSession:
    """A local Spark session that reads the lake, with the settings of a pipeline's job."""
    os.environ.update(jvm.environment(MASTER))
    builder = SparkSession.builder.master(MASTER).appName("notebook")
    return with_lake(builder.config(map=settings.session_settings(MASTER)).getOrCreate())


def with_lake(spark: SparkSession) -> SparkSession:
    """Set up a session, opened here or elsewhere, to read the lake by key, with times in UTC; returns it."""
    for name, value in {**settings.reading_settings(), **stores.lake_settings(endpoint(LAKE_READER))}.items():
        spark.conf.set(name, value)
    return spark


def warehouse(spark: SparkSession, table: str) -> DataFrame:
    """A table or view of the warehouse. Lazy: the server applies a `where`."""
    account = endpoint(WAREHOUSE_BI)
    return spark.read.jdbc(stores.jdbc_url(account), table, properties=stores.jdbc_properties(account))


def minutes(first: str | None, last: str | None) -> list[datetime]:
    """The minutes (naive, UTC) from `first` to `last` (excluded); without both, the last 60 minutes.

    Raises WindowRefused, which says what to write instead.
    """
    if first or last:
        start, end = parse_range(first, last)
    else:
        end = as_minute(datetime.now(UTC))
        start = end - HOUR
    count = (end - start) // MINUTE
    if count > MAX_MINUTES:
        raise WindowRefused(f"From {first} to {last} there are {count} minutes: choose {MAX_MINUTES} at most.")
    return [start + number * MINUTE for number in range(count)]


def finished(spark: SparkSession, pipeline: Pipeline, chosen: Sequence[datetime]) -> DataFrame:
    """The ledger's rows of the chosen minutes that are merged and have not changed in the lake since."""
    ledger = warehouse(spark, "etl.board_minutes").where(F.col("pipeline") == pipeline.name)
    return only_minutes(ledger, chosen).where("state = 'merged' AND pending = 0")


def minutes_of(ledger: DataFrame) -> list[datetime]:
    """The minutes (naive, UTC) of rows of the ledger, in order. Raises NothingToRead if it has none."""
    minutes = times(ledger, "minute_utc")
    if not minutes:
        raise NothingToRead(
            "None of the chosen minutes has been merged and settled. Choose others: "
            "`./minutemark query \"SELECT MIN(minute), MAX(minute) FROM etl.minute_ledger WHERE state = 'merged'\"`."
        )
    return minutes


def times(frame: DataFrame, column: str) -> list[datetime]:
    """The times (naive, UTC, whole seconds) of a column, in order."""
    # As numbers: a datetime from Spark has passed through this machine's time zone.
    seconds = sorted(row[0] for row in frame.select(F.unix_seconds(column)).collect())
    return [datetime.fromtimestamp(second, UTC).replace(tzinfo=None) for second in seconds]


def only_minutes(table: DataFrame, wanted: Sequence[datetime]) -> DataFrame:
    """The rows of these minutes (naive, UTC), from a view with the column minute_utc."""
    return table.where(f"minute_utc IN ({instants(wanted)})")
