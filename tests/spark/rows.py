"""Hand-written raw rows: a field that a test does not set is absent, as in the lake."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from include import pipelines
from include.spark import lake, recruitment

PIPELINE = pipelines.get("recruitment")
EVENT_ID = "0e207ccf-156b-11f1-8000-0a0b0c0d0e0f"  # 2026-03-01 12:34:56.789012 UTC, and 700 ns
EVENT_TIME_US = 1_772_368_496_789_012
MINUTE = datetime(2026, 3, 1, 12, 34)
CLICK = {"create_time": EVENT_ID, "ts": "2026-03-01 12:34:55.130", "ev": "2", "custom_track": "click", "job_id": "258"}


def raw_frame(
    spark: SparkSession, *rows: Mapping[str, str | None], pipeline: pipelines.Pipeline = PIPELINE
) -> DataFrame:
    """The rows as the lake returns them, all in MINUTE: key and payload."""
    key = {"minute": f"{MINUTE:%Y-%m-%dT%H:%M:%S}Z", "shard": 0}
    payloads = [{name: value for name, value in row.items() if value is not None} for row in rows]
    return lake_frame(
        spark,
        *({**key, **row, "payload": json.dumps(payloads[number])} for number, row in enumerate(rows)),
        pipeline=pipeline,
    )


def lake_frame(spark: SparkSession, *rows: Mapping[str, object], pipeline: pipelines.Pipeline = PIPELINE) -> DataFrame:
    """Hand-written rows of the lake table, parsed from JSON, so that no Python worker is needed."""
    types = {"minute": "timestamp", "shard": "int"}
    columns = ", ".join(f"{name}: {types.get(name, 'string')}" for name in (*lake.key_of(pipeline), "payload"))
    parsed = F.from_json(F.lit(json.dumps(rows)), f"array<struct<{columns}>>")
    return spark.range(1).coalesce(1).select(F.inline(parsed))


def fields_of(rows: DataFrame, pipeline: pipelines.Pipeline = PIPELINE) -> DataFrame:
    """The columns that a transform gets."""
    return lake.with_fields(rows, pipeline)


def classify(spark: SparkSession, *rows: Mapping[str, str | None], recover: bool = True) -> list[Row]:
    """The rows' fates, in their order."""
    return recruitment.classify(fields_of(raw_frame(spark, *rows)), {"recover": recover}).collect()


def click(**changes: str | None) -> dict[str, str | None]:
    """A click that counts, with some values changed."""
    return {**CLICK, **changes}


def custom_event(**ed: object) -> dict[str, str | None]:
    """An event whose kind, job and publisher are only in `ed`."""
    return {**CLICK, "custom_track": None, "job_id": None, "ed": json.dumps(ed)}
