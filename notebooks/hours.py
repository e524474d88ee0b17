"""Clicks and spend of recruitment by hour: from contributions, wherever they were counted, and from the board's view."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from include import pipelines
from include.spark.lake import instants
from notebooks.stores import times

PIPELINE = pipelines.get("recruitment")
FATES = ("counted", "ignored", "rejected")


def fates(rows: DataFrame, ledger: DataFrame) -> DataFrame:
    """A row per fate: the number of classified rows that have it, and the number in the ledger."""
    lake_fates = rows.groupBy("fate").agg(F.count(F.lit(1)).alias("lake"))
    sums = ledger.agg(*(F.sum(f"{fate}_rows").alias(fate) for fate in FATES))
    ledger_fates = sums.selectExpr(
        f"stack({len(FATES)}, {', '.join(f'{fate!r}, {fate}' for fate in FATES)}) AS (fate, ledger)"
    )
    return ledger_fates.join(lake_fates, "fate", how="left").select(
        "fate",
        F.coalesce("lake", F.lit(0)).alias("lake"),
        F.col("ledger").cast("bigint").alias("ledger"),
    )


def with_hour(contributions: DataFrame) -> DataFrame:
    """hour_utc, clicks and spend of each contribution, as the view recruitment.board_contributions has them."""
    # In bigint: seconds of the year 2100 are more than an int holds.
    hour = F.timestamp_seconds(F.unix_date("dates").cast("bigint") * 86_400 + F.col("hours") * 3_600)
    return contributions.select(hour.alias("hour_utc"), "clicks", F.col("bid_sum").alias("spend"))


def by_hour(rows: DataFrame) -> DataFrame:
    """The sums of clicks and spend, a row per hour_utc."""
    return rows.groupBy("hour_utc").agg(F.sum("clicks").alias("clicks"), F.sum("spend").alias("spend"))


def same_hours(board: DataFrame, hours: DataFrame) -> DataFrame:
    """The rows of the board whose hour the other frame has too.

    The hours go into the query as a list: the view's index finds them, and a range could span years (`ts` is the
    visitor's clock).
    """
    wanted = instants(times(hours, "hour_utc")) or "NULL"
    return board.where(f"hour_utc IN ({wanted})")


def side_by_side(lake: DataFrame, warehouse: DataFrame, board: DataFrame) -> DataFrame:
    """A row per hour, hour_utc as text, with the figures of all three.

    `equal`: lake and warehouse agree on what the chosen minutes contribute. `whole`: the board shows the same figures,
    because no other minute contributes to the hour.
    """
    figures = None
    for name, frame in (("lake", lake), ("warehouse", warehouse), ("board", board)):
        named = frame.select("hour_utc", *(F.col(of).alias(f"{of}_{name}") for of in ("clicks", "spend")))
        figures = named if figures is None else figures.join(named, "hour_utc", how="full")
    figures = figures.fillna(0)
    return figures.select(
        F.date_format("hour_utc", "yyyy-MM-dd HH:mm").alias("hour_utc"),
        "clicks_lake",
        "clicks_warehouse",
        "clicks_board",
        "spend_lake",
        "spend_warehouse",
        "spend_board",
        _same("lake", "warehouse").alias("equal"),
        _same("lake", "board").alias("whole"),
    ).orderBy("hour_utc")


def _same(one: str, other: str):
    return (F.col(f"clicks_{one}") == F.col(f"clicks_{other}")) & (F.col(f"spend_{one}") == F.col(f"spend_{other}"))
