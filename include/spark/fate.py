"""The three fates of a raw row, and the reasons for rejections."""

from __future__ import annotations

from datetime import datetime
from enum import Enum

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from include.pipelines import Pipeline

COUNTED = "counted"
IGNORED = "ignored"
REJECTED = "rejected"

NO_KIND = "none"
NOT_AN_OBJECT = "the event is not a JSON object"
IS_MISSING = " is required, and the event does not have it"
_LONGEST_VALUE = 200  # characters that a reason quotes; the whole reason may have 500


class Rejection(Enum):
    """Why a row breaks the contract; the value is the sentence a person reads. Pipelines subclass it."""

    def with_value(self, value: Column) -> Column:
        """The sentence and the value, e.g. "bid is negative: -3"."""
        shown = F.coalesce(F.substring(value, 1, _LONGEST_VALUE), F.lit("nothing"))
        return F.concat(F.lit(f"{self.value}: "), shown)


def decide(reason: Column, is_counted: Column) -> Column:
    """The fate of a row: rejected if it has a reason, otherwise counted or ignored."""
    return F.when(reason.isNotNull(), F.lit(REJECTED)).when(is_counted, F.lit(COUNTED)).otherwise(F.lit(IGNORED))


def apply_common_rules(classified: DataFrame, pipeline: Pipeline, clock: datetime | None = None) -> DataFrame:
    """Rejects rows by the rules that all pipelines share.

    The payload must be a JSON object, the minute must be in the pipeline's range at `clock`, the lake's time, and an event of
    a counted kind must have all required fields.
    """
    unreadable = ~F.col("is_object")
    reason = F.concat(
        F.lit(f"{NOT_AN_OBJECT}: "), F.substring(F.coalesce("payload", F.lit("nothing")), 1, _LONGEST_VALUE)
    )
    missing = F.coalesce(
        *(F.when(F.col(name).isNull(), F.lit(f"{name}{IS_MISSING}")) for name in pipeline.required), F.lit(None)
    )
    out_of_range = F.when(F.col("minute") < _instant(pipeline.earliest), F.lit(pipeline.too_early_reason))
    if clock is not None:
        is_too_far_ahead = F.col("minute") > _instant(clock + pipeline.most_ahead)
        out_of_range = out_of_range.when(is_too_far_ahead, F.lit(pipeline.too_far_ahead_reason))
    lacks_a_field = (F.col("fate") == COUNTED) & missing.isNotNull()
    return classified.withColumns(
        {
            "fate": F.when(unreadable | out_of_range.isNotNull() | lacks_a_field, F.lit(REJECTED)).otherwise(
                F.col("fate")
            ),
            "reason": F.when(unreadable, reason)
            .when(out_of_range.isNotNull(), out_of_range)
            .when(lacks_a_field, missing)
            .otherwise(F.col("reason")),
        }
    )


def _instant(time: datetime) -> Column:
    return F.expr(f"TIMESTAMP '{time:%Y-%m-%d %H:%M:%S.%f}Z'")
