"""Recruitment: what one raw event means, and what the counted events of a minute contribute to the facts."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from include.spark import fate
from include.spark.values import amount, first_of_list, in_range, instant, texts, time_of_uuid, whole_number

CLICK, CONVERSION, QUALIFIED, UNQUALIFIED = "click", "conversion", "qualified", "unqualified"
IMPRESSION = "impression"
NO_JOB = "no_job"
TRACKS = (CLICK, CONVERSION, QUALIFIED, UNQUALIFIED)  # values of custom_track that facts count; "clicks" is a click
FACT_KEY = ("job_id", "dates", "hours", "publisher_id", "campaign_id", "group_id")
ED_KEYS = ("jobId", "publisherId", "customEvent")
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
    said = _said(raw)
    filled = _filled_from_ed(said) if options.get("recover", True) else _first_publisher(said, F.col("said_publisher"))
    explained = _typed(filled).withColumn("bid_stored", _bid_of_click()).withColumn("reason", _reason())
    return explained.withColumns({"fate": _fate(), "kind": _kind(), "event": _event()})


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


def _said(raw: DataFrame) -> DataFrame:
    """`said_…`: what the row itself says, as text."""
    return texts(
        raw,
        said_job=F.col("job_id"),
        said_publisher=F.col("publisher_id"),
        said_campaign=F.col("campaign_id"),
        said_group=F.col("group_id"),
        said_track=F.lower("custom_track"),
        said_ev=F.col("ev"),
        said_bid=F.col("bid"),
        said_ts=F.col("ts"),
    )


def _filled_from_ed(said: DataFrame) -> DataFrame:
    """Gaps of `said_…` filled from `ed`, whose keys come in two spellings."""
    ed = F.col("ed_says")
    spelled = {f"ed_{key.lower()}_{n}": ed[name] for key in ED_KEYS for n, name in enumerate((key, key.lower()))}
    read = texts(said.withColumn("ed_says", F.from_json("ed", "map<string,string>")), **spelled)
    job, publisher, track = (F.coalesce(F.col(f"ed_{key.lower()}_0"), F.col(f"ed_{key.lower()}_1")) for key in ED_KEYS)
    is_custom_event = whole_number(F.col("said_ev")) == 2
    filled = read.withColumns(
        {
            "said_job": F.coalesce("said_job", first_of_list(job)),
            "said_track": F.coalesce("said_track", F.when(is_custom_event, F.lower(track))),
        }
    )
    return _first_publisher(texts(filled, said_job=F.col("said_job")), F.coalesce("said_publisher", publisher))


def _first_publisher(said: DataFrame, publisher: Column) -> DataFrame:
    return texts(said, said_publisher=first_of_list(publisher))


def _typed(said: DataFrame) -> DataFrame:
    """created_at, counted_kind, and `typed_…`: the values that facts are made of, null where the text says none."""
    is_page_view = whole_number(F.col("said_ev")) == 1
    track = F.col("said_track")
    counted_kind = (
        F.when(track.isin(*TRACKS), track)
        .when(track == "clicks", F.lit(CLICK))
        .when(track.isNull() & is_page_view, F.lit(IMPRESSION))
    )
    return said.withColumns(
        {
            "created_at": time_of_uuid(F.col("create_time")),
            "counted_kind": counted_kind,
            "typed_ts": instant(F.col("said_ts")),
            "typed_job": whole_number(F.col("said_job")),
            "typed_bid": amount(F.col("said_bid")),
        }
    ).withColumns({name: in_range(F.col(name)) for name in ("created_at", "typed_ts")})


def _event() -> Column:
    """The typed values of a row, in the columns of the fact key, and its bid."""
    return F.struct(
        F.col("typed_job").alias("job_id"),
        F.col("typed_ts").cast("date").alias("dates"),
        F.hour("typed_ts").alias("hours"),
        _key(F.col("said_publisher")).alias("publisher_id"),
        _key(F.col("said_campaign")).alias("campaign_id"),
        _key(F.col("said_group")).alias("group_id"),
        F.col("bid_stored").alias("bid"),
    )


def _key(text: Column) -> Column:
    return F.coalesce(whole_number(text), F.lit(0))


def _bid_of_click() -> Column:
    """The bid as it is stored; null when there is none, when the event is no click, and when it can't be stored."""
    bid, is_click = F.col("typed_bid"), F.col("counted_kind") == CLICK
    return F.when(is_click & (bid >= 0) & (bid < BID_LIMIT), bid).cast("decimal(20,6)")


def _is(kind: str) -> Column:
    return F.col("kind") == kind


def _reason() -> Column:
    """The first rule that the row breaks, in the order of the design (§8); null when it breaks none."""
    said_job, said_bid, bid = F.col("said_job"), F.col("said_bid"), F.col("typed_bid")
    is_click = F.col("counted_kind") == CLICK
    bid_does_not_matter = said_job.isNull() | ~is_click | said_bid.isNull() | F.col("bid_stored").isNotNull()
    return (
        F.when(F.col("created_at").isNull(), Rejection.CREATE_TIME.saying(F.col("create_time")))
        .when(F.col("counted_kind").isNull(), F.lit(None))
        .when(F.col("typed_ts").isNull(), Rejection.TS.saying(F.col("ts")))
        .when(said_job.isNotNull() & F.col("typed_job").isNull(), Rejection.JOB_ID.saying(said_job))
        .when(bid_does_not_matter, F.lit(None))
        .when(bid.isNull(), Rejection.BID.saying(said_bid))
        .when(bid < 0, Rejection.BID_NEGATIVE.saying(said_bid))
        .otherwise(Rejection.BID_TOO_LARGE.saying(said_bid))
    )


def _fate() -> Column:
    counts = F.col("counted_kind").isNotNull() & F.col("said_job").isNotNull()
    return (
        F.when(F.col("reason").isNotNull(), F.lit(fate.REJECTED))
        .when(counts, F.lit(fate.COUNTED))
        .otherwise(F.lit(fate.IGNORED))
    )


def _kind() -> Column:
    counted_kind = F.col("counted_kind")
    has_no_job = counted_kind.isNotNull() & F.col("said_job").isNull()
    return F.when(has_no_job, F.lit(NO_JOB)).otherwise(
        F.coalesce(counted_kind, F.col("said_track"), F.lit(fate.NO_KIND))
    )
