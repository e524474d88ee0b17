"""Skeleton: what one raw event means, and what a minute contributes to the facts."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from include.spark import fate
from include.spark.values import amount, in_range, instant, time_of_uuid

KINDS = ("sale", "refund")  # values of event_type that the facts count
FACT_KEY = ("hour", "kind")
VALUE_LIMIT = 10**10  # the whole part of DECIMAL(12, 2)


class Rejection(fate.Rejection):
    """Reasons, in the order in which they are checked."""

    CREATE_TIME = "create_time is not a time-UUID between 1970 and 2100"
    EVENT_TIME = "event_time is not a timestamp between 1970 and 2100"
    VALUE = "value is not a number"
    VALUE_NEGATIVE = "value is negative"
    VALUE_TOO_LARGE = f"value is not below {VALUE_LIMIT}"


def classify(raw: DataFrame, options: Mapping[str, object]) -> DataFrame:
    """Adds created_at, fate, kind, reason (null unless rejected) and `event`, a struct of the row's typed values."""
    typed = raw.withColumns(_typed())
    is_counted = F.col("counted_kind").isNotNull()
    return typed.withColumns(
        {"reason": _reason(), "fate": fate.decide(_reason(), is_counted), "kind": _kind(), "event": _event()}
    )


def contributions(counted: DataFrame) -> DataFrame:
    """What each minute adds to each fact key; `counted` has minute, kind and event of the counted rows."""
    return (
        counted.select("minute", "kind", "event.*")
        .groupBy("minute", *FACT_KEY)
        .agg(
            F.count(F.lit(1)).alias("event_count"),
            F.sum("value").cast("decimal(22,2)").alias("value_sum"),
        )
    )


OUTPUTS = {"events": contributions}


def _typed() -> dict[str, Column]:
    """created_at, raw_kind, counted_kind, and `typed_…`: the values of the facts, null where the text has none."""
    kind = F.lower("event_type")
    return {
        "created_at": in_range(time_of_uuid(F.col("create_time"))),
        "raw_kind": kind,
        "counted_kind": F.when(kind.isin(*KINDS), kind),
        "typed_time": in_range(instant(F.col("event_time"))),
        "typed_value": amount(F.col("value")),
    }


def _event() -> Column:
    """The typed values of a row: what its fact key needs besides the kind, and what is summed up."""
    return F.struct(F.date_trunc("hour", "typed_time").alias("hour"), _value().alias("value"))


def _value() -> Column:
    """The value, rounded to the cent; null if it is absent, negative or too large."""
    return F.when(F.col("typed_value") >= 0, F.col("typed_value")).cast("decimal(12,2)")


def _reason() -> Column:
    """The first rule that the row breaks; null if it breaks none."""
    value = F.col("typed_value")
    return (
        F.when(F.col("created_at").isNull(), Rejection.CREATE_TIME.with_value(F.col("create_time")))
        .when(F.col("counted_kind").isNull(), F.lit(None))
        .when(F.col("typed_time").isNull(), Rejection.EVENT_TIME.with_value(F.col("event_time")))
        .when(_value().isNotNull(), F.lit(None))
        .when(value.isNull(), Rejection.VALUE.with_value(F.col("value")))
        .when(value < 0, Rejection.VALUE_NEGATIVE.with_value(F.col("value")))
        .otherwise(Rejection.VALUE_TOO_LARGE.with_value(F.col("value")))
    )


def _kind() -> Column:
    return F.coalesce("counted_kind", "raw_kind", F.lit(fate.NO_KIND))
