"""Reads the raw rows of a batch's minutes from Cassandra, by partition key and never by a scan."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from include.pipelines import Pipeline
from include.spark import contract
from include.spark.problems import JobFailed, JobRefused
from include.spark.values import last_of_equal_keys, text, trimmed

KEY = ("minute", "shard", "create_time")
# What Python's parser and the longest event allow: with its defaults, Spark refuses events that ingest and imports
# admit.
_JSON = {"maxNestingDepth": "2000", "maxNumLen": "4000000"}


def read_minutes(spark: SparkSession, pipeline: Pipeline, minutes: Sequence[datetime]) -> DataFrame:
    """Key and payload of every row in these minutes (naive, UTC). Lazy: the lake is read when the frame is used."""
    table = _table(spark, pipeline)
    shards = ", ".join(str(shard) for shard in range(pipeline.shards))
    in_partitions = F.expr(f"minute IN ({instants(minutes)}) AND shard IN ({shards})")
    return table.where(in_partitions).select(*key_of(pipeline), "payload")


def key_of(pipeline: Pipeline) -> tuple[str, ...]:
    """The columns that identify a row of the lake table."""
    return KEY if pipeline.event_id in KEY else (*KEY, pipeline.event_id)


def with_fields(rows: DataFrame, pipeline: Pipeline) -> DataFrame:
    """Adds `is_object`, the declared fields, and the columns of include/spark/contract.py.

    The fields are strings without surrounding white space, null if they are empty or a word for null. A number has the
    digits that Java writes for it, a nested value is JSON, and if a field occurs twice, the last one counts.
    """
    names = [name for name in pipeline.fields if name not in key_of(pipeline)]
    # A map, since a struct drops fields that its schema does not name. It is parsed once: an expression that the columns of one
    # step share is computed once, whereas a separate column would be copied from step to step.
    parsed = F.from_json("payload", "map<string,string>", _JSON)
    values = last_of_equal_keys(parsed)
    others = (*key_of(pipeline), "payload")
    fields = rows.select(
        *others,
        *(F.element_at(values, name).alias(name) for name in names),
        F.map_keys(parsed).alias("_names"),
        parsed.isNotNull().alias("is_object"),
    )
    others = (*others, "_names", "is_object")
    # In two steps: the branches of a condition share nothing, so an expression that occurs twice there is computed twice.
    texts = fields.selectExpr(*others, *(f"{trimmed(f'`{name}`')} AS `{name}`" for name in names))
    words = texts.selectExpr(*others, *(f"{text(f'`{name}`', pipeline.null_words)} AS `{name}`" for name in names))
    return contract.with_contract(words, pipeline, key_of(pipeline))


def instants(times: Sequence[datetime]) -> str:
    """These times (naive, UTC, whole seconds) as SQL literals.

    One string, because 600 literals as Column objects cost a second of round trips to the JVM.
    """
    return ", ".join(f"TIMESTAMP '{time:%Y-%m-%d %H:%M:%S}Z'" for time in times)


def _table(spark: SparkSession, pipeline: Pipeline) -> DataFrame:
    reader = spark.read.format("org.apache.spark.sql.cassandra")
    try:
        table = reader.options(keyspace=pipeline.keyspace, table=pipeline.table).load()
    except AnalysisException as error:
        raise JobFailed(
            f"The lake has no table {pipeline.lake_table}, or the account of connection lake_reader lacks SELECT on it "
            f"({error.desc}). Run the DAG minutemark_setup."  # ty: ignore[missing-attribute]
        ) from error
    if missing := [name for name in (*key_of(pipeline), "payload") if name not in table.columns]:
        raise JobRefused(
            f"The lake table {pipeline.lake_table} has a different layout: it lacks {', '.join(missing)}. Declare another "
            f"`table` in include/pipelines/{pipeline.name}.py, run the DAG minutemark_setup, and copy the old table: "
            f"./minutemark import --pipeline {pipeline.name} --from {pipeline.lake_table}"
        )
    return table
