"""Events outside the pipeline's range of create_time are rejected, whatever their other fields."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from pyspark.sql import SparkSession

from include.spark import recruitment, run
from tests.spark.rows import MINUTE, PIPELINE, click, raw_frame

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


def fates(spark: SparkSession, clock: datetime, earliest: datetime = PIPELINE.earliest) -> list[tuple]:
    """Fate and reason of a click, of an event of an ignored kind, and of a click with a negative bid; all in MINUTE."""
    pipeline = replace(PIPELINE, earliest=earliest)
    rows = raw_frame(spark, click(), click(custom_track="alive"), click(bid="-3"))
    rows_with_fates = run.materialized(rows, recruitment, pipeline, {}, clock)
    return [(row.fate, row.reason) for row in rows_with_fates.select("fate", "reason").collect()]


def test_a_minute_is_in_range_up_to_a_day_ahead_of_the_lakes_clock(spark: SparkSession) -> None:
    assert [fate for fate, _ in fates(spark, MINUTE - DAY)] == ["counted", "ignored", "rejected"]
    too_far_ahead = ("rejected", "create_time is more than 24 hours ahead of the lake's clock")
    assert fates(spark, MINUTE - DAY - SECOND) == [too_far_ahead] * 3


def test_a_minute_before_the_earliest_that_the_pipeline_accepts_is_rejected(spark: SparkSession) -> None:
    assert [fate for fate, _ in fates(spark, MINUTE, earliest=MINUTE)] == ["counted", "ignored", "rejected"]
    too_early = ("rejected", "create_time is before 2026-03-02, the earliest that this pipeline accepts")
    assert fates(spark, MINUTE, earliest=datetime(2026, 3, 2)) == [too_early] * 3
