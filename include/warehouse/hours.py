"""Hours of create_time for consumers in Airflow: which ones are complete, and which of these are announced.

A merge raises the version of its hours, and an hour is due if Airflow's own record has no event of that version. Only one
task at a time may offer the hours of a pipeline: see plugins/assets.py. The reasons are in ADR 35.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from include.connections import WAREHOUSE_BI
from include.durations import HOUR, MICROSECOND
from include.pipelines import Pipeline
from include.warehouse.folded_hours import hour_of
from include.warehouse.session import column, execute, in_transaction, reading, rows, warehouse
from include.warehouse.statements import Statements

sql = Statements(__file__)

log = logging.getLogger(__name__)

MAX_HOURS = 24  # or batches to check: a task handles at most this many, and the next run continues
MAX_FACT_HOURS = 48  # an event lists the newest of its fact hours, and counts all
QUIET = timedelta(minutes=2)  # a changed hour is announced when no merge has changed it for this long
LONGEST_WAIT = HOUR  # an hour is announced after this time even if merges keep changing it
# If a gate has not passed this long after the merge, or after the gate's last failure, its run has ended or waits for a slot.
CHECK_AFTER = timedelta(minutes=5)


@dataclass(frozen=True)
class Hour:
    """A complete hour with its rows by fate: the content of an asset event."""

    start: datetime  # UTC, like everything in the warehouse
    version: int
    correction: bool  # it was announced before
    raw_rows: int
    counted_rows: int
    ignored_rows: int
    rejected_rows: int
    held_minutes: tuple[datetime, ...]  # their newest rows are not published
    fact_hours: tuple[datetime, ...]  # of the facts that its rows add to, or added to when it was announced before

    @property
    def listed_fact_hours(self) -> list[str]:
        return [_iso(hour) for hour in self.fact_hours[-MAX_FACT_HOURS:]]

    @property
    def key(self) -> str:
        """The partition key, in the form that Airflow's time-based partition mappers read."""
        return self.start.isoformat(timespec="seconds")

    def as_json(self) -> dict[str, Any]:
        return {
            "start": _iso(self.start),
            "end": _iso(self.start + HOUR),
            "version": self.version,
            "correction": self.correction,
            "raw_rows": self.raw_rows,
            "counted_rows": self.counted_rows,
            "ignored_rows": self.ignored_rows,
            "rejected_rows": self.rejected_rows,
            "held_minutes": [_iso(minute) for minute in self.held_minutes],
            "fact_hours": self.listed_fact_hours,
            "fact_hours_count": len(self.fact_hours),
        }


@dataclass(frozen=True)
class Offer:
    """An event that a task was about to emit. Airflow has recorded it if the task succeeded."""

    hour: datetime
    version: int
    offered_at: datetime  # UTC


def add_reached_hours(cursor, pipeline: Pipeline, clock: datetime) -> None:
    """Add the hours that the lake's clock has reached since the last poll, so that hours without rows are announced too."""
    binds = {"pipeline": pipeline.name, "clock": clock, "ahead": pipeline.future_tolerance // MICROSECOND}
    [(last_clock, current_clock)] = execute(cursor, sql("reached"), binds).fetchall()
    if current_clock < clock:
        log.warning(
            "The lake's clock is %s, more than %s ahead of the warehouse's. Correct the clock of the Cassandra "
            "node or of the warehouse. Until then, hours are announced according to the warehouse's clock plus that tolerance.",
            clock,
            pipeline.future_tolerance,
        )
    hour, last = hour_of(last_clock) + HOUR, hour_of(current_clock)
    while hour <= last:
        cursor.execute(sql("add_hour"), {"pipeline": pipeline.name, "hour": hour})
        hour += HOUR


def is_any_due(conn, pipeline: Pipeline) -> bool:
    """Whether an hour must be announced, an offer confirmed in Airflow, or a merge checked."""
    if unchecked(conn, pipeline, 1):
        return True
    queries = (sql("to_announce"), sql("offered"))
    return any(rows(conn.cursor(), query, _binds(pipeline, 1)) for query in queries)


def unchecked(conn, pipeline: Pipeline, limit: int = MAX_HOURS) -> list[int]:
    """Batches whose gate has not passed within CHECK_AFTER of the merge or of its last failure; oldest first.

    Their hours are announced when that gate passes.
    """
    binds = {"pipeline": pipeline.name, "unchecked": CHECK_AFTER // MICROSECOND, "limit": limit}
    return column(conn.cursor(), sql("unchecked"), binds)


def offers(conn, pipeline: Pipeline) -> list[Offer]:
    """Events that a task has offered and that Airflow may or may not have recorded; the task has ended."""
    records = rows(conn.cursor(), sql("offers"), {"pipeline": pipeline.name})
    return [Offer(**row) for row in records]


def confirm(conn, pipeline: Pipeline, offered: Iterable[Offer], recorded: Collection[tuple[datetime, int]]) -> None:
    """Mark offers as announced if Airflow has `recorded` their (hour, version), and withdraw the others."""

    def write(cursor) -> None:
        for offer in offered:
            was_recorded = (offer.hour, offer.version) in recorded
            cursor.execute(
                sql("announce") if was_recorded else sql("withdraw"),
                {"pipeline": pipeline.name, "hour": offer.hour, "version": offer.version},
            )

    in_transaction(conn, write)


def offer(conn, pipeline: Pipeline, limit: int = MAX_HOURS) -> list[Hour]:
    """The hours to announce now, newest first. They are recorded as offered before their task emits them."""
    with reading(conn) as cursor:
        records = execute(cursor, sql("to_announce"), _binds(pipeline, limit)).fetchall()
        due = [_read(cursor, pipeline, *row) for row in records]
    if not due:
        return []

    def write(cursor) -> None:
        for hour in due:
            cursor.execute(
                sql("offer"),
                {
                    "pipeline": pipeline.name,
                    "hour": hour.start,
                    "version": hour.version,
                    "fact_hours": json.dumps(hour.listed_fact_hours),
                },
            )

    in_transaction(conn, write)
    return due


def _read(
    cursor, pipeline: Pipeline, hour: datetime, version: int, announced_version: int | None, fact_hours: str | None
) -> Hour:
    minutes = rows(cursor, sql("minutes_of_hour"), {"pipeline": pipeline.name, "start": hour, "end": hour + HOUR})
    counts = ("raw_rows", "counted_rows", "ignored_rows", "rejected_rows")
    return Hour(
        start=hour,
        version=version,
        correction=announced_version is not None,
        **{name: sum(row[name] or 0 for row in minutes) for name in counts},
        held_minutes=tuple(row["minute"] for row in minutes if row["state"] == "held"),
        fact_hours=tuple(sorted(_fact_hours(cursor, pipeline, hour).union(map(_time, json.loads(fact_hours or "[]"))))),
    )


def _fact_hours(cursor, pipeline: Pipeline, hour: datetime) -> set[datetime]:
    """Hours of the facts that rows of this hour of create_time add to."""
    hours: set[datetime] = set()
    for fact in pipeline.facts:
        if fact.hour_sql is not None:
            hours.update(column(cursor, sql("fact_hours", fact=fact), {"start": hour, "end": hour + HOUR}))
    return hours


def _binds(pipeline: Pipeline, limit: int) -> dict[str, object]:
    return {
        "pipeline": pipeline.name,
        "settle": pipeline.settle // MICROSECOND,
        "ahead": pipeline.future_tolerance // MICROSECOND,
        "live": timedelta(minutes=pipeline.live_minutes) // MICROSECOND,
        "quiet": QUIET // MICROSECOND,
        "longest": LONGEST_WAIT // MICROSECOND,
        "limit": limit,
    }


def _iso(time: datetime) -> str:
    return time.replace(tzinfo=UTC).isoformat()


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=None)


def figures(pipeline: Pipeline, fact_hours: Iterable[str]) -> dict[str, list[dict[str, object]]]:
    """The measures of the pipeline's facts in each of these hours, by table, as the bi account reads them.

    Facts are keyed by the event's own time: an hour of create_time adds to the `fact_hours` of its asset event.
    """
    hours = [_time(text) for text in fact_hours]
    if not hours:
        return {}
    with warehouse(WAREHOUSE_BI) as conn:
        return {
            fact.table: rows(conn.cursor(), sql("figures", fact=fact), {"hours": hours})
            for fact in pipeline.facts
            if fact.hour_sql is not None
        }
