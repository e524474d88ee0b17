"""Polls the change log, and opens the batch of a run. This module does not use Airflow."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from include.connections import LAKE_READER, endpoint
from include.durations import EPOCH, HOUR, MINUTE, minute_ceil, minute_floor
from include.errors import MinutemarkError
from include.lake import change_log, counts
from include.lake.errors import unreadable_minutes
from include.pipelines import Pipeline
from include.warehouse import batches, folded_hours, ledger, rejected_share
from include.warehouse.batches import RunInfo
from include.warehouse.delta import Pending, PlannedMinute, estimate, plan

log = logging.getLogger(__name__)

MAX_RANGE = 1_440  # minutes of one run
SAMPLE_THRESHOLD = 60  # unread minutes: from this number on, a sample of the lake estimates their rows


class RangeRefused(MinutemarkError):
    """A range of minutes that no run can take; the message says what to request instead."""


@dataclass(frozen=True)
class Poll:
    """What a poll of the change log found."""

    clock: datetime  # the lake's, before anything was read
    digest: str  # changes when the newest touch of any day changes
    pending_count: int  # counted up to ledger.COUNT_LIMIT


def poll(pipeline: Pipeline, lake_session, conn) -> Poll:
    """Record changed minutes in the ledger. Reads one row per day of the change log, and the minutes of due days only.

    A day is due if it has a new touch, or if its newest touch was too recent at the last poll: see ledger.days_to_read.
    """
    clock = change_log.clock(lake_session)
    days = change_log.changed_days(lake_session, pipeline.lake_table)
    due = ledger.days_to_read(days, ledger.read_cursors(conn, pipeline), pipeline.settle)
    minutes = {}
    for day in due:  # read after the days: the next poll notices a touch in between
        minutes.update(change_log.minutes_of_day(lake_session, pipeline.lake_table, day))
    if due:
        ledger.record_poll(conn, pipeline, clock, {day: days[day] for day in due}, minutes)
    ledger.close_expired(conn, pipeline, clock)
    rejected_share.recheck_waiting(conn, pipeline, clock)
    ledger.record_poll_time(conn, pipeline, clock)
    return Poll(clock, change_log.digest(days), ledger.pending_count(conn, pipeline))


def open_delta(
    pipeline: Pipeline,
    lake_session,
    conn,
    run: RunInfo,
    *,
    polled: Poll,
) -> int | None:
    """Open a batch of minutes that `polled` or earlier polls found changed; None if no pending minute can be read."""
    batches.close_abandoned(conn, pipeline, run.dag_id, run.run_id)
    typical = ledger.typical_rows(conn, pipeline)
    pending = _with_sampled_rows(pipeline, lake_session, ledger.pending_minutes(conn, pipeline, polled.clock))
    pending, folded = _with_folded_hours(pipeline, conn, polled.clock, pending, typical)
    delta = plan(
        pending,
        clock=polled.clock,
        pipeline=pipeline,
        typical_rows=typical,
        last=batches.last_delta(conn, pipeline),
        folded=folded,
    )
    if not delta.minutes:
        return None
    return batches.open_batch(
        conn,
        pipeline,
        run,
        lake_clock=polled.clock,
        minutes=delta.minutes,
        is_delta=True,
        split_size=delta.split_size,
    )


def open_range(pipeline: Pipeline, lake_session, conn, run: RunInfo, *, start: datetime, end: datetime) -> int:
    """Open a batch of the minutes from `start` to `end` (excluded): changed, held or neither. Raises RangeRefused.

    If an hour of these minutes is folded, its other minutes are added.
    """
    if (count := (minute_ceil(end) - minute_floor(start)) // MINUTE) > MAX_RANGE:
        raise RangeRefused(
            f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} has {count} minutes; one run takes at most {MAX_RANGE}. "
            f"Backfill the DAG {pipeline.name}_reconcile instead; each of its runs covers an hour."
        )
    minutes = list(minutes_between(start, end))
    polled = poll(pipeline, lake_session, conn)
    refuse_closed(pipeline, polled.clock, start)
    folded = folded_hours.folded_among(conn.cursor(), pipeline.name, minutes)
    if folded and pipeline.is_closed(folded[0], polled.clock):
        raise RangeRefused(
            f"The contributions of {folded[0]:%Y-%m-%d %H}:00 to {folded[0]:%H}:59 are folded, so this hour can only be "
            f"replaced as a whole, and its first minutes are closed. Choose minutes from {folded[0] + HOUR:%Y-%m-%d %H:%M} on."
        )
    return _open_exactly(pipeline, conn, run, polled, minutes)


def open_reconcile(
    pipeline: Pipeline, lake_session, conn, run: RunInfo, *, start: datetime, end: datetime
) -> int | None:
    """Open a batch of the minutes from `start` to `end` (excluded) whose rows or ids in the lake differ from the ledger's.

    For writers that never touch the change log. Held minutes stay held; pending live minutes are left to the minute DAG.
    Returns None if none differs. Minutes that cannot be read are left out and logged; if there are such minutes and no
    other minute differs, raises LakeUnreadable.
    """
    polled = poll(pipeline, lake_session, conn)
    start = max(start, pipeline.first_open(polled.clock))
    if start >= end:
        return None
    minutes = list(minutes_between(start, end))
    ledger_rows = ledger.ledger_of(conn, pipeline, start, end)
    live = minute_floor(polled.clock) - pipeline.live_minutes * MINUTE
    candidates = [minute for minute in minutes if not _is_excluded(ledger_rows.get(minute), minute >= live)]
    unreadable: dict[datetime, Exception] = {}
    lake_counts = counts.minute_counts(
        lake_session, pipeline, candidates, on_unreadable=lambda minute, _, error: unreadable.setdefault(minute, error)
    )
    differing_minutes = [minute for minute in lake_counts if lake_counts[minute] != _last_read(ledger_rows.get(minute))]
    if unreadable:
        problem = unreadable_minutes(
            pipeline.lake_table, unreadable, endpoint(LAKE_READER), "All other minutes were compared."
        )
        if not differing_minutes:
            raise problem
        log.error("%s", problem)
    return _open_exactly(pipeline, conn, run, polled, differing_minutes) if differing_minutes else None


def minutes_between(start: datetime, end: datetime) -> Iterator[datetime]:
    """Every minute from that of `start` to `end` (excluded). Raises RangeRefused unless `start` is before `end`."""
    if start >= end:
        raise RangeRefused(
            f"`from` ({start:%Y-%m-%d %H:%M}) must be before `to` ({end:%Y-%m-%d %H:%M}), which is not included."
        )
    minute = minute_floor(start)
    while minute < end:
        yield minute
        minute += MINUTE


def refuse_closed(pipeline: Pipeline, clock: datetime, start: datetime, step: timedelta = MINUTE) -> None:
    """Raise RangeRefused if part of a range is closed: reading it again would erase correct facts.

    `step` is the length of the range's whole chunks: the message names the first one that is open.
    """
    first_open = pipeline.first_open(clock)
    if start < first_open:
        earliest = EPOCH - (EPOCH - first_open) // step * step
        raise RangeRefused(
            f"Minutes of {pipeline.name} before {first_open:%Y-%m-%d %H:%M} are closed: {pipeline.retention_text}. Their facts "
            f"stay as they are. Choose a range that starts at {earliest:%Y-%m-%d %H:%M} or later."
        )


def _open_exactly(pipeline: Pipeline, conn, run: RunInfo, polled: Poll, minutes: list[datetime]) -> int:
    ledger_rows = ledger.ledger_of(conn, pipeline, minutes[0], minutes[-1] + MINUTE)
    typical = ledger.typical_rows(conn, pipeline)
    planned_minutes = [_planned_minute(minute, ledger_rows.get(minute), typical) for minute in minutes]
    return batches.open_batch(conn, pipeline, run, lake_clock=polled.clock, minutes=planned_minutes)


def _planned_minute(minute: datetime, row: dict | None, typical_rows: float | None) -> PlannedMinute:
    if row is None or (row["seen_changed_at"] is None and row["raw_rows"] is None):
        return PlannedMinute(minute)  # never touched: most likely empty
    return PlannedMinute(minute, row["seen_changed_at"], estimate(row["raw_rows"], typical_rows))


def _with_sampled_rows(pipeline: Pipeline, lake_session, pending: list[Pending]) -> list[Pending]:
    """The pending minutes. If many were never read, their rows are estimated from a sample of the lake.

    The average of earlier batches does not apply to a new history: a batch of thousands of minutes would be far too
    large, or far too small.
    """
    unread_minutes = [changed.minute for changed in pending if changed.raw_rows is None]
    if len(unread_minutes) < SAMPLE_THRESHOLD:
        return pending
    rows = counts.sampled_rows(lake_session, pipeline, unread_minutes)
    return [replace(changed, raw_rows=rows.get(changed.minute, changed.raw_rows)) for changed in pending]


def _with_folded_hours(
    pipeline: Pipeline, conn, clock: datetime, pending: list[Pending], typical_rows: float | None
) -> tuple[list[Pending], dict[datetime, list[PlannedMinute]]]:
    """The pending minutes that this run may take and, for those in folded hours, all minutes of their hour.

    A folded hour that is closed cannot be replaced, so its minutes stay pending and are not read. Of the others, a batch takes
    the oldest, as many as `max_minutes` allows.
    """
    hours = folded_hours.folded_among(conn.cursor(), pipeline.name, [changed.minute for changed in pending])
    minutes_by_hour: dict[datetime, list[PlannedMinute]] = {}
    for hour in hours:
        if len(minutes_by_hour) == max(1, pipeline.max_minutes // 60) or pipeline.is_closed(hour, clock):
            continue
        ledger_rows = ledger.ledger_of(conn, pipeline, hour, hour + HOUR)
        minutes_by_hour[hour] = [
            _planned_minute(minute, ledger_rows.get(minute), typical_rows) for minute in folded_hours.minutes_of(hour)
        ]
    blocked_hours = set(hours) - set(minutes_by_hour)
    readable = [changed for changed in pending if folded_hours.hour_of(changed.minute) not in blocked_hours]
    folded = {
        changed.minute: minutes_by_hour[hour]
        for changed in readable
        if (hour := folded_hours.hour_of(changed.minute)) in minutes_by_hour
    }
    return readable, folded


def _is_excluded(row: dict | None, is_live: bool) -> bool:
    if row is None:
        return False
    return row["state"] in ("held", "closed") or (is_live and bool(row["pending"]))


def _last_read(row: dict | None) -> tuple[int, int]:
    """Rows and id checksum of the last merged read; a minute never read counts as empty."""
    return (0, 0) if row is None else (row["raw_rows"] or 0, row["id_checksum"] or 0)
