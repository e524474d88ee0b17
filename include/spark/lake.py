"""The raw rows of a batch's minutes, read from Cassandra by partition key and never by a scan."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from include.pipelines import Pipeline
from include.spark.problems import JobFailed, JobRefused

KEY = ("minute", "shard", "create_time")


def read_minutes(spark: SparkSession, pipeline: Pipeline, minutes: Sequence[datetime]) -> DataFrame:
    """Key and declared columns of every row in these minutes (naive, UTC); lazy: the lake is read when it is used."""
    table = _table(spark, pipeline)
    _check_columns(table, pipeline)
    shards = ", ".join(str(shard) for shard in range(pipeline.shards))
    in_partitions = F.expr(f"minute IN ({instants(minutes)}) AND shard IN ({shards})")
    return table.where(in_partitions).select(*KEY, *pipeline.columns)


def instants(times: Sequence[datetime]) -> str:
    """These times (naive, UTC, whole seconds) as SQL literals.

    One text: 600 literals as Column objects cost a second of round trips to the JVM.
    """
    return ", ".join(f"TIMESTAMP '{time:%Y-%m-%d %H:%M:%S}Z'" for time in times)


def _table(spark: SparkSession, pipeline: Pipeline) -> DataFrame:
    reader = spark.read.format("org.apache.spark.sql.cassandra")
    try:
        return reader.options(keyspace=pipeline.keyspace, table=pipeline.table).load()
    except AnalysisException as error:
        raise JobFailed(
            f"The lake has no table {pipeline.lake_table}, or its reader may not see it ({error.desc}). "
            "Run the DAG minutemark_setup."
        ) from error


def _check_columns(table: DataFrame, pipeline: Pipeline) -> None:
    missing = [name for name in (*KEY, *pipeline.columns) if name not in table.columns]
    if missing:
        added = ", ".join(f"{name} text" for name in missing)
        raise JobRefused(
            f"The lake table {pipeline.lake_table} lacks {', '.join(missing)}, which include/pipelines/{pipeline.name}.py "
            f"declares. Run in cqlsh: ALTER TABLE {pipeline.lake_table} ADD ({added});"
        )
