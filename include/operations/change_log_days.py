"""Days of the change log that everything was merged of: what a poll reads, a row a day, must not grow for ever.

A late touch of a forgotten day makes the day appear anew, with that minute alone: the next poll takes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from uuid import UUID

from include.connections import LAKE_WRITER, endpoint
from include.lake import change_log
from include.lake.keys import time_of
from include.lake.session import explained
from include.pipelines import Pipeline
from include.warehouse import ledger

_EPOCH = datetime(1970, 1, 1)  # of Cassandra's write timestamps
_MICROSECOND = timedelta(microseconds=1)


def forget_days(
    reader, writer, conn, lake_table: str, pipelines: Sequence[Pipeline], age: timedelta, *, dry: bool = False
) -> tuple[int, int]:
    """Forget the days of a lake table that nobody touched for `age` and all of its `pipelines` have merged.

    Returns how many were forgotten, and how many of that age had to stay: a minute is pending or held, or a touch
    carries a write timestamp that is no server's.
    """
    oldest = change_log.clock(reader) - age
    forgotten = kept = 0
    days = change_log.changed_days(reader, lake_table)
    for day in sorted(day for day, changed_at in days.items() if is_old(day, changed_at, oldest)):
        state = change_log.state_of_day(reader, lake_table, day)
        if state is None or not is_old(day, state.day_changed_at, oldest):
            continue
        # Every touch from now on must be newer than the deletion: one from a clock far ahead would hide those.
        is_covered = state.written_at < (oldest - _EPOCH) // _MICROSECOND and all(
            ledger.covers_day(conn, pipeline, day, state.day_changed_at, state.minutes) for pipeline in pipelines
        )
        conn.rollback()
        if not is_covered:
            kept += 1
            continue
        forgotten += 1
        if not dry:
            with explained(endpoint(LAKE_WRITER)):  # the reader's session is the inner one
                change_log.forget(writer, lake_table, state)
            for pipeline in pipelines:
                ledger.forget_day(conn, pipeline, day, state.day_changed_at)
    return forgotten, kept


def is_old(day: date, changed_at: UUID, oldest: datetime) -> bool:
    """A day that is over since then, and that nobody touched since then either."""
    return day < oldest.date() and time_of(changed_at) < oldest
