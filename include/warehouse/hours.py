"""Hours of create_time as consumers in Airflow know them: which ones are complete, and which of these are announced.

What is due is derived: a merge raises the version of its hours, and an hour is due if Airflow's own record has no event of
that version. Only one task at a time may offer the hours of a pipeline: see plugins/assets.py. The reasons are in ADR 35.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from include.connections import WAREHOUSE_BI
from include.pipelines import Pipeline
from include.warehouse.folded_hours import HOUR, hour_of
from include.warehouse.session import in_transaction, rows, warehouse

log = logging.getLogger(__name__)

AT_ONCE = 24  # hours of one task: the others follow with the next run
MOST_FACT_HOURS = 48  # of one event: it lists the newest, and counts all
QUIET = timedelta(minutes=2)  # a changed hour is announced when no merge has changed it for so long
LONGEST_QUIET = timedelta(hours=1)  # where merges change it again and again
UNCHECKED = timedelta(minutes=5)  # a merge without its gate for so long: its run has ended, or waits for a slot
_MICROSECOND = timedelta(microseconds=1)

_BOUND = "LEAST({clock}, {at} + INTERVAL %(ahead)s MICROSECOND)"  # a lake whose clock is ahead reaches no hour before its time
_CLOCK = _BOUND.format(clock="k.lake_clock", at="CURRENT_TIMESTAMP(6)")
# Complete: its end and the settle time are over, none of its minutes is pending or waits for its hour, and the gate after
# their merges has passed. An hour that has just ended is announced at once. Merges of an older one may continue, as in a
# backfill or an import.
_IS_DUE = (
    f"h.hour <= {_CLOCK} - INTERVAL 1 HOUR - INTERVAL %(settle)s MICROSECOND "
    f"AND (h.announced_version IS NULL AND h.hour >= {_CLOCK} - INTERVAL 1 HOUR - INTERVAL %(live)s MICROSECOND "
    " OR h.changed_since IS NULL OR h.changed_at <= CURRENT_TIMESTAMP(6) - INTERVAL %(quiet)s MICROSECOND "
    " OR h.changed_since <= CURRENT_TIMESTAMP(6) - INTERVAL %(longest)s MICROSECOND) "
    "AND NOT EXISTS (SELECT 1 FROM etl.minute_ledger AS l FORCE INDEX (PRIMARY) "
    " LEFT JOIN etl.batches AS b ON b.batch_id = l.batch_id WHERE l.pipeline = %(pipeline)s "
    " AND l.minute >= h.hour AND l.minute < h.hour + INTERVAL 1 HOUR "
    " AND (l.pending = 1 OR (l.state = 'held' AND l.waiting = 1) OR b.unchecked_since IS NOT NULL))"
)
# The newest first: a backlog of the past never delays the hour that has just ended.
_DUE = (
    "SELECT h.hour, h.version, h.announced_version, h.fact_hours FROM etl.looks AS k "
    "STRAIGHT_JOIN etl.hours AS h FORCE INDEX (hours_to_announce) ON h.pipeline = %(pipeline)s AND h.to_announce = {state} "
    f"WHERE k.pipeline = %(pipeline)s AND {_IS_DUE} ORDER BY h.hour DESC LIMIT %(limit)s"
)
_TO_ANNOUNCE, _OFFERED = (_DUE.format(state=state) for state in (1, 2))


@dataclass(frozen=True)
class Hour:
    """A complete hour, and where each of its raw rows went: the content of an asset event."""

    start: datetime  # UTC, as everything in the warehouse
    version: int
    correction: bool  # it was announced before
    raw_rows: int
    counted_rows: int
    ignored_rows: int
    rejected_rows: int
    held_minutes: tuple[datetime, ...]  # not published, until they are released
    fact_hours: tuple[datetime, ...]  # of the facts that its rows add to, or added to when it was announced before

    @property
    def listed_fact_hours(self) -> list[str]:
        return [_iso(hour) for hour in self.fact_hours[-MOST_FACT_HOURS:]]

    @property
    def key(self) -> str:
        """The partition key, in the form that Airflow's mappers of time read."""
        return self.start.isoformat(timespec="seconds")

    def as_json(self) -> dict[str, object]:
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


def add_reached(cursor, pipeline: Pipeline, clock: datetime) -> None:
    """Add the hours that the lake's clock has reached since the last look, so that one without rows is announced too."""
    before, now = _BOUND.format(clock="lake_clock", at="looked_at"), "CAST(%(clock)s AS DATETIME(6))"
    cursor.execute(
        f"SELECT {before}, {_BOUND.format(clock=now, at='CURRENT_TIMESTAMP(6)')} FROM etl.looks "
        "WHERE pipeline = %(pipeline)s",
        {"pipeline": pipeline.name, "clock": clock, "ahead": pipeline.future_tolerance // _MICROSECOND},
    )
    before, reached = cursor.fetchone()
    if reached < clock:
        log.warning(
            "The lake's clock says %s, more than %s ahead of the warehouse's. Hours are announced by the warehouse's "
            "clock. Correct the clock of the Cassandra node or of the warehouse.",
            clock,
            pipeline.future_tolerance,
        )
    hour, last = hour_of(before) + HOUR, hour_of(reached)
    while hour <= last:
        cursor.execute(
            "INSERT INTO etl.hours (pipeline, hour) VALUES (%(pipeline)s, %(hour)s) "
            "ON DUPLICATE KEY UPDATE pipeline = VALUES(pipeline)",
            {"pipeline": pipeline.name, "hour": hour},
        )
        hour += HOUR


def is_any_due(conn, pipeline: Pipeline) -> bool:
    """Whether a complete hour is to be announced, an offered one to be looked up in Airflow, or a merge to be checked."""
    if unchecked(conn, pipeline, 1):
        return True
    cursor = conn.cursor()
    for query in (_TO_ANNOUNCE, _OFFERED):
        cursor.execute(query, _binds(pipeline, 1))
        if cursor.fetchone():
            return True
    return False


def unchecked(conn, pipeline: Pipeline, limit: int = AT_ONCE) -> list[int]:
    """Batches whose run has ended between their merge and the gate after it, or whose gate has failed; oldest first.

    Their hours are announced when that gate passes.
    """
    cursor = conn.cursor()
    cursor.execute(
        "SELECT batch_id FROM etl.batches FORCE INDEX (unchecked) WHERE pipeline = %(pipeline)s "
        "AND unchecked_since <= CURRENT_TIMESTAMP(6) - INTERVAL %(unchecked)s MICROSECOND "
        "ORDER BY unchecked_since LIMIT %(limit)s",
        {"pipeline": pipeline.name, "unchecked": UNCHECKED // _MICROSECOND, "limit": limit},
    )
    return [batch_id for (batch_id,) in cursor.fetchall()]


def offers(conn, pipeline: Pipeline) -> list[Offer]:
    """Events of which it is not known whether Airflow has recorded them; the task that offered them has ended."""
    found = rows(
        conn.cursor(),
        "SELECT hour, offered_version AS version, offered_at FROM etl.hours FORCE INDEX (hours_to_announce) "
        "WHERE pipeline = %(pipeline)s AND to_announce = 2 ORDER BY hour",
        {"pipeline": pipeline.name},
    )
    return [Offer(**row) for row in found]


def settle(conn, pipeline: Pipeline, offered: Iterable[Offer], recorded: Collection[tuple[datetime, int]]) -> None:
    """Mark offers as announced whose (hour, version) Airflow has `recorded`, and withdraw the others."""

    def write(cursor) -> None:
        for offer in offered:
            was_recorded = (offer.hour, offer.version) in recorded
            cursor.execute(
                "UPDATE etl.hours SET announced_version = offered_version, announced_at = CURRENT_TIMESTAMP(6), "
                "changed_since = CASE WHEN version = offered_version THEN NULL ELSE offered_at END "
                "WHERE pipeline = %(pipeline)s AND hour = %(hour)s AND offered_version = %(version)s"
                if was_recorded
                else "UPDATE etl.hours SET offered_version = announced_version "
                "WHERE pipeline = %(pipeline)s AND hour = %(hour)s AND offered_version = %(version)s",
                {"pipeline": pipeline.name, "hour": offer.hour, "version": offer.version},
            )

    in_transaction(conn, write)


def offer(conn, pipeline: Pipeline, limit: int = AT_ONCE) -> list[Hour]:
    """The hours to announce now, newest first. They are recorded as offered before their task emits them."""
    cursor = conn.cursor()
    cursor.execute(_TO_ANNOUNCE, _binds(pipeline, limit))
    due = [_read(cursor, pipeline, *row) for row in cursor.fetchall()]
    conn.rollback()  # nothing was written: the next transaction begins with what is committed now
    if not due:
        return []

    def write(cursor) -> None:
        for hour in due:
            cursor.execute(
                "UPDATE etl.hours SET offered_version = %(version)s, offered_at = CURRENT_TIMESTAMP(6), "
                "fact_hours = %(fact_hours)s WHERE pipeline = %(pipeline)s AND hour = %(hour)s",
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
    minutes = rows(
        cursor,
        "SELECT minute, state, raw_rows, counted_rows, ignored_rows, rejected_rows FROM etl.minute_ledger "
        "WHERE pipeline = %(pipeline)s AND minute >= %(start)s AND minute < %(end)s ORDER BY minute",
        {"pipeline": pipeline.name, "start": hour, "end": hour + HOUR},
    )
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
    found: set[datetime] = set()
    for fact in pipeline.facts:
        if fact.hour_sql is not None:
            cursor.execute(
                f"SELECT DISTINCT {fact.hour_sql} FROM {fact.contributions} WHERE minute >= %(start)s AND minute < %(end)s",
                {"start": hour, "end": hour + HOUR},
            )
            found.update(row[0] for row in cursor.fetchall())
    return found


def _binds(pipeline: Pipeline, limit: int) -> dict[str, object]:
    return {
        "pipeline": pipeline.name,
        "settle": pipeline.settle // _MICROSECOND,
        "ahead": pipeline.future_tolerance // _MICROSECOND,
        "live": timedelta(minutes=pipeline.live_minutes) // _MICROSECOND,
        "quiet": QUIET // _MICROSECOND,
        "longest": LONGEST_QUIET // _MICROSECOND,
        "limit": limit,
    }


def _iso(time: datetime) -> str:
    return time.replace(tzinfo=UTC).isoformat()


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=None)


def figures(pipeline: Pipeline, fact_hours: Iterable[str]) -> dict[str, list[dict[str, object]]]:
    """Sums of the pipeline's facts over each of these hours, by table, as the bi account reads them.

    Facts go by the event's own time: an hour of create_time adds to the `fact_hours` of its event.
    """
    hours = [_time(text) for text in fact_hours]
    if not hours:
        return {}
    found = {}
    with warehouse(WAREHOUSE_BI) as conn:
        for fact in pipeline.facts:
            if fact.hour_sql is None:
                continue
            sums = ", ".join(f"{one.combine}({one.fact_column}) AS {one.fact_column}" for one in fact.measures)
            query = f"SELECT hour, {sums} FROM {fact.table} WHERE hour IN (%(hours)s) GROUP BY hour ORDER BY hour"
            found[fact.table] = rows(conn.cursor(), query, {"hours": hours})
    return found
