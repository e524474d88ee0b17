"""Deletes days of the change log whose minutes are all merged or closed: a poll reads one row for each day.

A late touch of a deleted day adds the day again, with that minute alone: the next poll reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta

from include.connections import LAKE_WRITER, endpoint
from include.durations import DAY, EPOCH, MICROSECOND
from include.lake import change_log
from include.lake.keys import time_of
from include.lake.session import translate_errors
from include.pipelines import Pipeline
from include.warehouse import ledger

_JUNK_AGE = DAY  # a poll reads one row for each day, and a broken clock can create thousands of days


def forget_days(
    reader, writer, conn, lake_table: str, pipelines: Sequence[Pipeline], age: timedelta, *, dry: bool = False
) -> tuple[int, int]:
    """Delete the days of a lake table that were not touched for `age` and that its `pipelines` have merged or closed.

    A day that is outside the range of all of them is deleted a day after its last touch: its events are rejected, and the
    ledger makes future minutes pending when their time comes.
    Returns how many days were deleted, and how many of that age had to stay: a touch was not polled, a minute is
    pending or held, or a touch carries a write timestamp that no server set.
    """
    clock = change_log.clock(reader)
    forgotten = kept = 0
    for day, changed_at in sorted(change_log.changed_days(reader, lake_table).items()):
        is_junk = all(_is_out_of_range(pipeline, day, clock) for pipeline in pipelines)
        oldest = clock - (min(age, _JUNK_AGE) if is_junk else age)
        if not (is_junk or day < oldest.date()) or time_of(changed_at) >= oldest:
            continue
        state = change_log.state_of_day(reader, lake_table, day)
        if state is None or time_of(state.day_changed_at) >= oldest:
            continue
        # Every touch from now on must be newer than the deletion: a deletion with a timestamp far ahead would hide later touches.
        is_covered = state.written_at < (oldest - EPOCH) // MICROSECOND and all(
            ledger.covers_day(conn, pipeline, day, state.day_changed_at, state.minutes) for pipeline in pipelines
        )
        if not is_covered:
            kept += 1
            continue
        forgotten += 1
        if not dry:
            with translate_errors(endpoint(LAKE_WRITER)):  # else an error would name the reader's connection
                change_log.forget(writer, lake_table, state)
            for pipeline in pipelines:
                ledger.forget_day(conn, pipeline, day, state.day_changed_at)
    return forgotten, kept


def _is_out_of_range(pipeline: Pipeline, day: date, clock: datetime) -> bool:
    """Whether all minutes of the day are out of the pipeline's range."""
    first = datetime(day.year, day.month, day.day)
    return all(pipeline.out_of_range(minute, clock) for minute in (first, first + timedelta(hours=23, minutes=59)))
