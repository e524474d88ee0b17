"""The change log: when each minute of a lake table was last written. Writers touch minutes; polls read the log.

`changed_days` has one partition for each lake table and one row for each day, with the day's newest touch: a poll reads
that partition. `minute_changes` has the minutes of a day.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from include.chunks import slices
from include.durations import EPOCH, MICROSECOND
from include.lake.keys import time_of
from include.lake.shared_session import rows_of

if TYPE_CHECKING:
    from cassandra.cluster import Session

_TOUCH_MINUTE = "INSERT INTO minutemark.minute_changes (lake_table, day, minute, changed_at) VALUES (?, ?, ?, now())"
_TOUCH_DAY = "INSERT INTO minutemark.changed_days (lake_table, day, changed_at) VALUES (?, ?, now())"
_DAYS = "SELECT day, changed_at FROM minutemark.changed_days WHERE lake_table = %s"
_MINUTES = "SELECT minute, changed_at FROM minutemark.minute_changes WHERE lake_table = %s AND day = %s"
_DAY_WRITTEN = (
    "SELECT changed_at, WRITETIME(changed_at) AS written FROM minutemark.changed_days "
    "WHERE lake_table = %s AND day = %s"
)
_MINUTES_WRITTEN = (
    "SELECT minute, changed_at, WRITETIME(changed_at) AS written FROM minutemark.minute_changes "
    "WHERE lake_table = %s AND day = %s"
)
_FORGET_MINUTES = "DELETE FROM minutemark.minute_changes USING TIMESTAMP %s WHERE lake_table = %s AND day = %s"
_FORGET_DAY = "DELETE FROM minutemark.changed_days USING TIMESTAMP %s WHERE lake_table = %s AND day = %s"
# Former versions kept the newest touch of a day as a static column of its minutes.
_FORMER_COLUMN = (
    "SELECT column_name FROM system_schema.columns WHERE keyspace_name = 'minutemark' AND table_name = 'minute_changes' "
    "AND column_name = 'day_changed_at'"
)
_FORMER_DAYS = (
    "SELECT DISTINCT lake_table, day, day_changed_at, WRITETIME(day_changed_at) AS written "
    "FROM minutemark.minute_changes"
)
_COPY_DAY = "INSERT INTO minutemark.changed_days (lake_table, day, changed_at) VALUES (?, ?, ?) USING TIMESTAMP ?"
_TOUCHES_PER_BATCH = 200


@dataclass(frozen=True)
class DayState:
    """Everything that one call of state_of_day returned about a day."""

    day: date
    day_changed_at: UUID
    minutes: Mapping[datetime, UUID]
    written_at: int  # write timestamp of its newest cell: microseconds since 1970, by the server's clock


def clock(session: Session) -> datetime:
    """The lake's clock now, in UTC: the only clock with which change times are compared."""
    return time_of(session.execute("SELECT now() AS now FROM system.local").one().now)


def write_clock(session: Session) -> int:
    """The lake's clock as a write timestamp: microseconds since 1970."""
    return (clock(session) - EPOCH) // MICROSECOND


def changed_days(session: Session, lake_table: str) -> dict[date, UUID]:
    """The newest touch of every day that the change log has of that lake table. Reads one partition."""
    return _touch_by_day(session.execute(_DAYS, (lake_table,)))


async def changed_days_in_trigger(session: Session, lake_table: str) -> dict[date, UUID]:
    """Like changed_days, inside a trigger, whose event loop must not wait for the lake's answer."""
    return _touch_by_day(await rows_of(session, _DAYS, (lake_table,)))


def _touch_by_day(rows: Iterable) -> dict[date, UUID]:
    return {row.day.date(): row.changed_at for row in rows if row.changed_at}


def minutes_of_day(session: Session, lake_table: str, day: date) -> dict[datetime, UUID]:
    """The last touch of every touched minute of that day."""
    return {row.minute: row.changed_at for row in session.execute(_MINUTES, (lake_table, day)) if row.changed_at}


def state_of_day(session: Session, lake_table: str, day: date) -> DayState | None:
    """The day's touches and when they were written; None for a day that the change log does not have."""
    day_row = session.execute(_DAY_WRITTEN, (lake_table, day)).one()
    if day_row is None or day_row.changed_at is None:
        return None
    rows = [row for row in session.execute(_MINUTES_WRITTEN, (lake_table, day)) if row.changed_at]
    minutes = {row.minute: row.changed_at for row in rows}
    return DayState(day, day_row.changed_at, minutes, max([day_row.written, *(row.written for row in rows)]))


def forget(session: Session, lake_table: str, state: DayState) -> None:
    """Remove what state_of_day returned for the day, and nothing that was written since.

    Both deletions carry the write timestamp of the newest cell read: a later touch has a later one, and survives,
    whichever of the two arrives first. The minutes are deleted first: a day without minutes is removed by the next run, but
    minutes without their day would stay forever.
    """
    for statement in (_FORGET_MINUTES, _FORGET_DAY):
        session.execute(statement, (state.written_at, lake_table, state.day))


def copy_former_days(reader: Session, writer: Session) -> int:
    """Copy the days that a writer of a former version has touched; returns how many. Scans the whole change log.

    The copies keep their write timestamps: a day that was touched or removed since stays as it is, so that copying again
    changes nothing. A lake that this version created has no such days.
    """
    from cassandra.concurrent import execute_concurrent_with_args

    if reader.execute(_FORMER_COLUMN).one() is None:
        return 0
    days = [tuple(row) for row in reader.execute(_FORMER_DAYS) if row.day_changed_at]
    if days:
        execute_concurrent_with_args(writer, writer.prepare(_COPY_DAY), days, concurrency=32)
    return len(days)


def touch(session: Session, lake_table: str, minutes: Iterable[datetime]) -> None:
    """Record that these minutes were written. Call it after the events are acknowledged, never before.

    A writer that fails or ends before this returns must write its events again: their minutes may be touched without
    their days.

    The session must leave the write timestamp to the server, as those of include/lake/session.py do: with a client's
    timestamp, a touch from a clock that is ahead would override all later ones.
    """
    if session.use_client_timestamp:
        raise ValueError("This session sends client timestamps: set use_client_timestamp=False, or use lake().")
    days: dict[date, list[datetime]] = defaultdict(list)
    for minute in sorted(set(minutes)):
        days[minute.date()].append(minute)
    if not days:
        return
    statement = session.prepare(_TOUCH_MINUTE)
    for day, day_minutes in days.items():
        _write_to_one_partition(session, statement, [(lake_table, day, minute) for minute in day_minutes])
    # After the minutes, never before: a poll that has seen the day's new touch must find the minute's.
    _write_to_one_partition(session, session.prepare(_TOUCH_DAY), [(lake_table, day) for day in days])


def _write_to_one_partition(session: Session, statement: object, rows: list[tuple]) -> None:
    """Write rows of one partition in unlogged batches: each is a single write, all or nothing."""
    from cassandra.query import BatchStatement, BatchType

    for part in slices(rows, _TOUCHES_PER_BATCH):
        batch = BatchStatement(BatchType.UNLOGGED)
        for row in part:
            batch.add(statement, row)
        session.execute(batch)


def digest(days: Mapping[date, UUID]) -> str:
    """A short text that changes whenever a day's newest touch does."""
    lines = "".join(f"{day.isoformat()} {changed_at}\n" for day, changed_at in sorted(days.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:32]
