"""The change log: which minutes of a lake table were written, and when last. Writers touch, pollers look.

`day_changed_at` is static: one row per day tells whether anything in that day is new, whatever the lake holds.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from include.lake.keys import time_of

if TYPE_CHECKING:
    from cassandra.cluster import Session

_TOUCH = (
    "INSERT INTO minutemark.minute_changes (lake_table, day, minute, changed_at, day_changed_at) "
    "VALUES (?, ?, ?, now(), now())"
)
_DAYS = "SELECT DISTINCT lake_table, day, day_changed_at FROM minutemark.minute_changes"
_MINUTES = "SELECT minute, changed_at FROM minutemark.minute_changes WHERE lake_table = %s AND day = %s"
_DAY = (
    "SELECT day_changed_at, minute, changed_at, WRITETIME(day_changed_at) AS day_written, WRITETIME(changed_at) AS written "
    "FROM minutemark.minute_changes WHERE lake_table = %s AND day = %s"
)
_FORGET = "DELETE FROM minutemark.minute_changes USING TIMESTAMP %s WHERE lake_table = %s AND day = %s"
_TOUCHES_PER_BATCH = 200
_EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True)
class DayState:
    """All that the change log says of one day, at one look."""

    day: date
    day_changed_at: UUID
    minutes: Mapping[datetime, UUID]
    written_at: int  # write timestamp of its newest cell: microseconds since 1970, by the server's clock


def clock(session: Session) -> datetime:
    """The lake's clock now, in UTC: the only clock that change times are compared with."""
    return time_of(session.execute("SELECT now() AS now FROM system.local").one().now)


def write_clock(session: Session) -> int:
    """The same as a write timestamp: microseconds since 1970."""
    return (clock(session) - _EPOCH) // timedelta(microseconds=1)


def changed_days(session: Session, lake_table: str) -> dict[date, UUID]:
    """The newest touch of every day of that lake table that was ever touched."""
    rows = session.execute(_DAYS)
    return {row.day.date(): row.day_changed_at for row in rows if row.lake_table == lake_table and row.day_changed_at}


def minutes_of_day(session: Session, lake_table: str, day: date) -> dict[datetime, UUID]:
    """The last touch of every touched minute of that day."""
    return {row.minute: row.changed_at for row in session.execute(_MINUTES, (lake_table, day)) if row.changed_at}


def state_of_day(session: Session, lake_table: str, day: date) -> DayState | None:
    """The day's touches and when they were written; None for a day that the change log does not have."""
    rows = list(session.execute(_DAY, (lake_table, day)))
    if not rows or rows[0].day_changed_at is None:
        return None
    stamps = [stamp for row in rows for stamp in (row.day_written, row.written) if stamp is not None]
    minutes = {row.minute: row.changed_at for row in rows if row.changed_at}
    return DayState(day, rows[0].day_changed_at, minutes, max(stamps))


def forget(session: Session, lake_table: str, state: DayState) -> None:
    """Remove what that look has seen of the day, and nothing that was written since.

    The deletion carries the write timestamp of the newest cell seen: a later touch has a later one, and survives,
    whichever of the two arrives first.
    """
    session.execute(_FORGET, (state.written_at, lake_table, state.day))


def touch(session: Session, lake_table: str, minutes: Iterable[datetime]) -> None:
    """Say that these minutes were written. Call it after the events are acknowledged, never before.

    The session must leave the write timestamp to the server, as those of include/lake/session.py do: with a client's,
    a touch from a clock that is ahead would beat all later ones.
    """
    from cassandra.query import BatchStatement, BatchType

    if session.use_client_timestamp:
        raise ValueError("This session sends client timestamps: set use_client_timestamp=False, or use lake().")
    days: dict[date, list[datetime]] = defaultdict(list)
    for minute in sorted(set(minutes)):
        days[minute.date()].append(minute)
    statement = session.prepare(_TOUCH) if days else None
    for day, of_day in days.items():
        for start in range(0, len(of_day), _TOUCHES_PER_BATCH):
            batch = BatchStatement(BatchType.UNLOGGED)  # one partition: a single write, all or nothing
            for minute in of_day[start : start + _TOUCHES_PER_BATCH]:
                batch.add(statement, (lake_table, day, minute))
            session.execute(batch)


def digest(days: Mapping[date, UUID]) -> str:
    """A short text that changes whenever a day's newest touch does."""
    lines = "".join(f"{day.isoformat()} {changed_at}\n" for day, changed_at in sorted(days.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:32]
