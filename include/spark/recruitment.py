"""Recruitment: what one raw event means, and what the counted events of a minute contribute to the facts."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from include.spark import fate
from include.spark.values import amount, first_of_list, instant, present, time_of_uuid, whole_number

CLICK, CONVERSION, QUALIFIED, UNQUALIFIED = "click", "conversion", "qualified", "unqualified"
IMPRESSION = "impression"
NO_JOB = "no_job"
TRACKS = (CLICK, CONVERSION, QUALIFIED, UNQUALIFIED)  # values of custom_track that facts count; "clicks" is a click
FACT_KEY = ("job_id", "dates", "hours", "publisher_id", "campaign_id", "group_id")
BID_LIMIT = 10**14  # the whole part of DECIMAL(20, 6)


class Rejection(fate.Rejection):
    """Reasons in the order in which they are looked for."""

    CREATE_TIME = "create_time is no time-UUID of the years 1970 to 2100"
    TS = "ts is no time of the years 1970 to 2100"
    JOB_ID = "job_id is no number"
    BID = "bid is no number"
    BID_NEGATIVE = "bid is negative"
    BID_TOO_LARGE = f"bid is not below {BID_LIMIT}"


def classify(raw: DataFrame, options: Mapping[str, object]) -> DataFrame:
    """Adds created_at, fate, kind, reason (null unless rejected) and `event`, a struct of the row's typed values.

    Option `recover`: fill an empty job_id, publisher_id and, where ev = 2, custom_track from the JSON in `ed`.
    """
    told = _told_with_ed(raw) if options.get("recover", True) else _told(raw)
    typed = told.select("*", time_of_uuid(F.col("create_time")).alias("created_at"), _event().alias("event"))
    explained = typed.select("*", _reason().alias("reason"))
    return explained.select("*", _fate().alias("fate"), _kind().alias("kind"))


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


def _told(raw: DataFrame) -> DataFrame:
    """`told`: what the row itself says, as text."""
    job, publisher, track = present(F.col("job_id")), present(F.col("publisher_id")), present(F.col("custom_track"))
    return raw.select("*", _texts(job, publisher, track).alias("told"))


def _told_with_ed(raw: DataFrame) -> DataFrame:
    """`told`, its gaps filled from `ed`, whose keys come in two spellings."""
    read = raw.select("*", F.from_json("ed", "map<string,string>").alias("ed_says"))

    def ed(key: str) -> Column:
        return F.coalesce(present(F.col("ed_says")[key]), present(F.col("ed_says")[key.lower()]))

    is_custom_event = whole_number(present(F.col("ev"))) == 2
    job = F.coalesce(present(F.col("job_id")), first_of_list(ed("jobId")))
    publisher = F.coalesce(present(F.col("publisher_id")), ed("publisherId"))
    track = F.coalesce(present(F.col("custom_track")), F.when(is_custom_event, ed("customEvent")))
    return read.select("*", _texts(job, publisher, track).alias("told"))


def _texts(job: Column, publisher: Column, track: Column) -> Column:
    return F.struct(
        job.alias("job_id"),
        first_of_list(publisher).alias("publisher_id"),
        F.lower(track).alias("track"),
        _counted_kind(track).alias("counted_kind"),
        present(F.col("bid")).alias("bid"),
        present(F.col("ts")).alias("ts"),
    )


def _counted_kind(track: Column) -> Column:
    """The kind of an event that facts count, else null."""
    lower = F.lower(track)
    is_page_view = whole_number(present(F.col("ev"))) == 1
    return (
        F.when(lower.isin(*TRACKS), lower)
        .when(lower == "clicks", F.lit(CLICK))
        .when(lower.isNull() & is_page_view, F.lit(IMPRESSION))
    )


def _event() -> Column:
    ts = instant(F.col("told.ts"))
    return F.struct(
        whole_number(F.col("told.job_id")).alias("job_id"),
        ts.cast("date").alias("dates"),
        F.hour(ts).alias("hours"),
        _key(F.col("told.publisher_id")).alias("publisher_id"),
        _key(present(F.col("campaign_id"))).alias("campaign_id"),
        _key(present(F.col("group_id"))).alias("group_id"),
        _bid_of_click().alias("bid"),
    )


def _key(text: Column) -> Column:
    return F.coalesce(whole_number(text), F.lit(0))


def _bid_of_click() -> Column:
    """The bid as it is stored; null when there is none, when the event is no click, and when it can't be stored."""
    bid = amount(F.col("told.bid"))
    is_click = F.col("told.counted_kind") == CLICK
    return F.when(is_click & (bid >= 0) & (bid < BID_LIMIT), bid).cast("decimal(20,6)")


def _is(kind: str) -> Column:
    return F.col("kind") == kind


def _reason() -> Column:
    """The first rule that the row breaks, in the order of the design (§8); null when it breaks none."""
    told_job, told_bid = F.col("told.job_id"), F.col("told.bid")
    is_counted_kind = F.col("told.counted_kind").isNotNull()
    is_click = F.col("told.counted_kind") == CLICK
    job_is_no_number = told_job.isNotNull() & F.col("event.job_id").isNull()
    bid = amount(told_bid)
    bid_does_not_matter = told_job.isNull() | ~is_click | told_bid.isNull() | F.col("event.bid").isNotNull()
    return (
        F.when(F.col("created_at").isNull(), Rejection.CREATE_TIME.saying(F.col("create_time")))
        .when(~is_counted_kind, F.lit(None))
        .when(F.col("event.dates").isNull(), Rejection.TS.saying(F.col("ts")))
        .when(job_is_no_number, Rejection.JOB_ID.saying(told_job))
        .when(bid_does_not_matter, F.lit(None))
        .when(bid.isNull(), Rejection.BID.saying(told_bid))
        .when(bid < 0, Rejection.BID_NEGATIVE.saying(told_bid))
        .otherwise(Rejection.BID_TOO_LARGE.saying(told_bid))
    )


def _fate() -> Column:
    counts = F.col("told.counted_kind").isNotNull() & F.col("told.job_id").isNotNull()
    return (
        F.when(F.col("reason").isNotNull(), F.lit(fate.REJECTED))
        .when(counts, F.lit(fate.COUNTED))
        .otherwise(F.lit(fate.IGNORED))
    )


def _kind() -> Column:
    counted_kind = F.col("told.counted_kind")
    has_no_job = counted_kind.isNotNull() & F.col("told.job_id").isNull()
    return F.when(has_no_job, F.lit(NO_JOB)).otherwise(
        F.coalesce(counted_kind, F.col("told.track"), F.lit(fate.NO_KIND))
    )
