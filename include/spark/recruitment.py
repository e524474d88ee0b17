"""Recruitment: interprets one raw event, and sums what the counted events of a minute contribute to the facts."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from include import pipelines
from include.spark import fate
from include.spark.values import (
    amount,
    first_of_list,
    in_range,
    instant,
    key,
    last_of_equal_keys,
    text,
    time_of_uuid,
    trimmed,
    whole_number,
)

CLICK, CONVERSION, QUALIFIED, UNQUALIFIED = "click", "conversion", "qualified", "unqualified"
IMPRESSION = "impression"
NO_JOB = "no_job"
TRACKS = (CLICK, CONVERSION, QUALIFIED, UNQUALIFIED)  # values of custom_track that facts count; "clicks" is a click
FACT_KEY = ("job_id", "dates", "hours", "publisher_id", "campaign_id", "group_id")
BID_LIMIT = 10**14  # the whole part of DECIMAL(20, 6)


class Rejection(fate.Rejection):
    """Reasons, in the order in which they are checked."""

    CREATE_TIME = "create_time is not a time-UUID between 1970 and 2100"
    TS = "ts is not a timestamp between 1970 and 2100"
    JOB_ID = "job_id is not a whole number"
    BID = "bid is not a number"
    BID_NEGATIVE = "bid is negative"
    BID_TOO_LARGE = f"bid is not below {BID_LIMIT}"


def classify(raw: DataFrame, options: Mapping[str, object]) -> DataFrame:
    """Adds created_at, fate, kind, reason (null unless rejected) and `event`, a struct of the row's typed values.

    Option `recover`: fill an empty job_id, publisher_id and, where ev = 2, custom_track from the JSON in `ed`.
    """
    fields = _fields_with_ed(raw) if options.get("recover", True) else _fields(raw)
    typed = fields.withColumns(_typed())
    is_counted = F.col("counted_kind").isNotNull() & _has_job()
    return typed.withColumns(
        {"reason": _reason(), "fate": fate.decide(_reason(), is_counted), "kind": _kind(), "event": _event()}
    )


def contributions(counted: DataFrame) -> DataFrame:
    """What each minute adds to each fact key; `counted` has minute, created_at, kind and event of the counted rows."""
    return (
        counted.select("minute", "created_at", "kind", "event.*")
        .groupBy("minute", *FACT_KEY)
        .agg(
            F.count(F.lit(1)).alias("event_count"),
            F.count_if(_is(CLICK)).alias("clicks"),
            F.count_if(_is(IMPRESSION)).alias("impressions"),
            F.count_if(_is(CONVERSION)).alias("conversions"),
            F.count_if(_is(QUALIFIED)).alias("qualified"),
            F.count_if(_is(UNQUALIFIED)).alias("unqualified"),
            F.coalesce(F.sum("bid"), F.lit(0)).cast("decimal(30,6)").alias("bid_sum"),
            F.count("bid").alias("bid_count"),
            F.max("created_at").alias("newest_create_time"),
        )
    )


OUTPUTS = {"events": contributions}


def _fields(raw: DataFrame) -> DataFrame:
    """`raw_…`: the times of the row, and the strings of its job, publisher and kind."""
    return raw.withColumns(
        {
            **_times(),
            "raw_job": F.col("job_id"),
            "raw_publisher": F.col("publisher_id"),
            "raw_track": F.lower("custom_track"),
        }
    )


def _fields_with_ed(raw: DataFrame) -> DataFrame:
    """Like _fields, with gaps filled from `ed`."""
    parsed = raw.withColumn("ed_fields", F.from_json("ed", "map<string,string>"))
    with_ed = parsed.withColumn("ed_fields", last_of_equal_keys(F.col("ed_fields")))
    is_custom_event = whole_number(F.col("ev")) == 2
    track_in_ed = F.when(is_custom_event, _ed_text("customEvent"))
    return with_ed.withColumns(
        {
            **_times(),
            "raw_job": F.coalesce("job_id", first_of_list(_ed_text("jobId"))),
            "raw_publisher": F.coalesce("publisher_id", _ed_text("publisherId")),
            "raw_track": F.lower(F.coalesce("custom_track", track_in_ed)),
        }
    )


def _times() -> dict[str, Column]:
    return {"raw_created_at": time_of_uuid(F.col("create_time")), "raw_ts": instant(F.col("ts"))}


def _ed_text(name: str) -> Column:
    """The value in `ed` under this key, which comes in two spellings."""
    null_words = pipelines.get("recruitment").null_words
    spellings = (text(trimmed(f"ed_fields['{spelled}']"), null_words) for spelled in (name, name.lower()))
    return F.expr(f"coalesce({', '.join(spellings)})")


def _typed() -> dict[str, Column]:
    """created_at, counted_kind, and `typed_…`: the values that facts are made of, null if the string has none."""
    is_page_view = whole_number(F.col("ev")) == 1
    track = F.col("raw_track")
    counted_kind = (
        F.when(track.isin(*TRACKS), track)
        .when(track == "clicks", F.lit(CLICK))
        .when(track.isNull() & is_page_view, F.lit(IMPRESSION))
    )
    return {
        "created_at": in_range(F.col("raw_created_at")),
        "counted_kind": counted_kind,
        "typed_ts": in_range(F.col("raw_ts")),
        "typed_job": whole_number(F.col("raw_job")),
        "typed_bid": amount(F.col("bid")),
    }


def _event() -> Column:
    """The typed values of a row, in the columns of the fact key, and its bid."""
    return F.struct(
        F.col("typed_job").alias("job_id"),
        F.col("typed_ts").cast("date").alias("dates"),
        F.hour("typed_ts").alias("hours"),
        key(first_of_list(F.col("raw_publisher"))).alias("publisher_id"),
        key(F.col("campaign_id")).alias("campaign_id"),
        key(F.col("group_id")).alias("group_id"),
        _bid_of_click().alias("bid"),
    )


def _bid_of_click() -> Column:
    """The bid as it is stored; null if there is none, if the event is not a click, or if it cannot be stored."""
    bid, is_click = F.col("typed_bid"), F.col("counted_kind") == CLICK
    return F.when(is_click & (bid >= 0) & (bid < BID_LIMIT), bid).cast("decimal(20,6)")


def _is(kind: str) -> Column:
    return F.col("kind") == kind


def _has_job() -> Column:
    """Whether the row names a job, readable or not. Ids of jobs start at 1: producers send zero or less for no job."""
    raw_job = F.coalesce(F.trim("raw_job"), F.lit(""))
    return (raw_job != "") & (F.col("typed_job").isNull() | (F.col("typed_job") > 0))


def _reason() -> Column:
    """The first rule that the row breaks, in the order of the design (§8); null if it breaks none."""
    has_job, bid = _has_job(), F.col("typed_bid")
    is_click = F.col("counted_kind") == CLICK
    bid_does_not_matter = ~has_job | ~is_click | F.col("bid").isNull() | _bid_of_click().isNotNull()
    return (
        F.when(F.col("created_at").isNull(), Rejection.CREATE_TIME.with_value(F.col("create_time")))
        .when(F.col("counted_kind").isNull(), F.lit(None))
        .when(F.col("typed_ts").isNull(), Rejection.TS.with_value(F.col("ts")))
        .when(has_job & F.col("typed_job").isNull(), Rejection.JOB_ID.with_value(F.trim("raw_job")))
        .when(bid_does_not_matter, F.lit(None))
        .when(bid.isNull(), Rejection.BID.with_value(F.col("bid")))
        .when(bid < 0, Rejection.BID_NEGATIVE.with_value(F.col("bid")))
        .otherwise(Rejection.BID_TOO_LARGE.with_value(F.col("bid")))
    )


def _kind() -> Column:
    counted_kind = F.col("counted_kind")
    has_no_job = counted_kind.isNotNull() & ~_has_job()
    return F.when(has_no_job, F.lit(NO_JOB)).otherwise(
        F.coalesce(counted_kind, F.col("raw_track"), F.lit(fate.NO_KIND))
    )
