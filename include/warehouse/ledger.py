"""The ledger: a row per pipeline and minute. A poll records what it saw, a merge what it read; the database derives
`pending` from both, so neither overwrites what the other recorded."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from types import MappingProxyType
from uuid import UUID

from include.chunks import slices
from include.durations import DAY, SECOND
from include.lake.keys import time_of
from include.pipelines import Pipeline
from include.warehouse import folded_hours, hours
from include.warehouse.delta import Pending
from include.warehouse.lengths import LONGEST_REASON
from include.warehouse.session import column, execute, in_transaction, read, reading, rows, server_time, value, write
from include.warehouse.statements import Statements

sql = Statements(__file__)

log = logging.getLogger(__name__)

_MINUTES_PER_QUERY = 500
COUNT_LIMIT = 10_000  # pending minutes: counting a larger backlog every minute would take too long

RECHECK = "judged again"  # in held_changed_at: it differs from every change, so that the minute is pending
# Prefix of the reason of a minute that housekeeping closed; its next event reopens it.
DEMO_EVENTS_ONLY = "Demo events of long ago"


def read_cursors(conn, pipeline: Pipeline) -> dict[date, tuple[UUID, datetime]]:
    """Each day whose minutes a poll has read, with the day's newest touch and the lake's clock at that poll."""
    query = "SELECT day, day_changed_at, drilled_at FROM etl.day_cursors WHERE pipeline = %(pipeline)s"
    with reading(conn) as cursor:
        records = execute(cursor, query, {"pipeline": pipeline.name}).fetchall()
    return {day: (UUID(_text(changed_at)), read_at) for day, changed_at, read_at in records}


def days_to_read(
    days: Mapping[date, UUID], cursors: Mapping[date, tuple[UUID, datetime]], settle: timedelta
) -> list[date]:
    """Days with a new touch, and days whose newest touch was so recent at the last poll that it may hide another one.

    The row of a day keeps one of two simultaneous touches, which need not be the one that became visible last.
    """
    due = []
    for day, changed_at in sorted(days.items()):
        polled_touch, read_at = cursors.get(day, (None, None))
        if read_at is None or polled_touch != changed_at or time_of(changed_at) > read_at - settle:
            due.append(day)
    return due


def record_poll(
    conn,
    pipeline: Pipeline,
    clock: datetime,
    days: Mapping[date, UUID],
    minutes: Mapping[datetime, UUID],
) -> int:
    """Record the `days` that were read and the touches of their `minutes`; returns how many minutes had a new touch.

    A new touch opens a closed minute again, unless the lake's retention may have removed part of it.
    One transaction: cursors that moved without their minutes would lose these touches forever. `days` must be read
    before `minutes`: then a touch in between changes the day again, and the next poll reads it.
    """

    def record(cursor) -> int:
        touched = _new_touches(cursor, pipeline, minutes)
        if touched:
            _reopen(cursor, pipeline, clock, [minute for minute, _ in touched])
            cursor.executemany(
                sql("record_change"), [(pipeline.name, minute, str(uuid), time_of(uuid)) for minute, uuid in touched]
            )
        if days:
            cursor.executemany(
                sql("move_cursor"), [(pipeline.name, day, str(days[day]), clock) for day in sorted(days)]
            )
        return len(touched)

    return in_transaction(conn, record)


def record_poll_time(conn, pipeline: Pipeline, clock: datetime) -> None:
    """Record a poll of the change log, with or without changes: otherwise a silent lake and a dead scheduler look alike."""

    def record(cursor) -> None:
        last_clock = _last_clock(cursor, pipeline)
        _reread_minutes_now_in_range(cursor, pipeline, last_clock or clock, clock)
        if last_clock:
            hours.add_reached_hours(cursor, pipeline, clock)
        cursor.execute(sql("record_poll_time"), {"pipeline": pipeline.name, "clock": clock})

    in_transaction(conn, record)


def _last_clock(cursor, pipeline: Pipeline) -> datetime | None:
    """The lake's clock at the last recorded poll; None before the first."""
    query = "SELECT lake_clock FROM etl.looks WHERE pipeline = %(pipeline)s"
    return value(cursor, query, {"pipeline": pipeline.name})


def _reread_minutes_now_in_range(cursor, pipeline: Pipeline, last_clock: datetime, clock: datetime) -> None:
    """Make pending the minutes whose events were rejected as too far ahead and are in range now. See Pipeline.out_of_range."""
    range_binds = {
        "pipeline": pipeline.name,
        "start": min(last_clock, clock),
        "until": clock + pipeline.most_ahead,
        "ahead_seconds": pipeline.most_ahead // SECOND,
    }
    for binds in _by_minutes(pipeline.name, column(cursor, sql("came_into_range"), range_binds)):
        execute(cursor, sql("read_again"), binds)


def _reopen(cursor, pipeline: Pipeline, clock: datetime, minutes: Sequence[datetime]) -> None:
    """Open the closed minutes among these.

    Their folded hours are read as a whole, so minutes of these hours that were closed with only demo events are opened, too.
    """
    reopen_binds = {"demo": f"{DEMO_EVENTS_ONLY}%", "oldest": pipeline.first_open(clock)}
    touched = set(minutes)
    whole_hours = folded_hours.folded_among(cursor, pipeline.name, touched)
    candidates = touched.union(*map(folded_hours.minutes_of, whole_hours))
    demo_minutes: list[datetime] = []
    other_minutes: list[datetime] = []
    for binds in _by_minutes(pipeline.name, sorted(candidates)):
        for minute, is_demo_only in execute(cursor, sql("reopenable"), binds | reopen_binds).fetchall():
            if is_demo_only:
                demo_minutes.append(minute)
            elif minute in touched:
                other_minutes.append(minute)
    for statement, reopened_minutes in (
        (sql("forget_rejected"), demo_minutes),
        (sql("forget_fields"), demo_minutes),
        (sql("forget_read"), demo_minutes),
        (sql("reopen"), other_minutes),
    ):
        for binds in _by_minutes(pipeline.name, reopened_minutes):
            execute(cursor, statement, binds | reopen_binds)


def _new_touches(cursor, pipeline: Pipeline, minutes: Mapping[datetime, UUID]) -> list[tuple[datetime, UUID]]:
    """The minutes with a new touch, sorted, so that two polls lock rows in the same order."""
    known: dict[datetime, str] = {}
    for day in {minute.date() for minute in minutes}:
        start = datetime(day.year, day.month, day.day)
        binds = {"pipeline": pipeline.name, "start": start, "end": start + DAY}
        seen = execute(cursor, sql("seen_on_day"), binds).fetchall()
        known |= {minute: _text(changed_at) for minute, changed_at in seen}
    return [(minute, uuid) for minute, uuid in sorted(minutes.items()) if known.get(minute) != str(uuid)]


def pending_minutes(conn, pipeline: Pipeline, clock: datetime) -> list[Pending]:
    """The minutes that the next batch chooses from: the newest live, the oldest pending, and suspects; oldest first.

    The result is bounded by the pipeline's limits, however long the backlog is. Minutes of blocked folded hours are left
    out.
    """
    cursor = conn.cursor()
    binds = {"pipeline": pipeline.name, "horizon": clock + pipeline.future_tolerance}
    pending: dict[datetime, Pending] = {}
    for query, limit in (
        (sql("newest_live"), pipeline.live_minutes),
        (sql("oldest_pending"), pipeline.max_minutes),
        (sql("suspects"), pipeline.max_minutes),
    ):
        cursor.execute(query, {**binds, "limit": limit})
        for minute, changed_at, raw_rows, split_size in cursor.fetchall():
            pending[minute] = Pending(minute, _text(changed_at), raw_rows, split_size)
    return [pending[minute] for minute in sorted(pending)]


def pending_count(conn, pipeline: Pipeline, limit: int = COUNT_LIMIT) -> int:
    """How many minutes are pending, counted up to `limit`."""
    return value(conn.cursor(), sql("pending_count"), {"pipeline": pipeline.name, "limit": limit})


def settles_at(conn, pipeline: Pipeline) -> datetime | None:
    """When all pending minutes will have settled, by the lake's clock.

    None if none is pending, or if a minute is pending for another reason, such as a new touch or a release.
    """
    touched = value(conn.cursor(), sql("last_to_settle"), {"pipeline": pipeline.name})
    return None if touched is None else touched + pipeline.settle


def typical_rows(conn, pipeline: Pipeline) -> float | None:
    """Average rows of the non-empty minutes of the last five merged batches; None without such minutes."""
    average = value(conn.cursor(), sql("typical_rows"), {"pipeline": pipeline.name})
    return None if average is None else float(average)


def ledger_of(conn, pipeline: Pipeline, start: datetime, end: datetime) -> dict[datetime, dict]:
    """Every ledger row of the minutes from `start` to `end` (excluded), by minute."""
    records = read(conn, rows, sql("of_range"), {"pipeline": pipeline.name, "start": start, "end": end})
    return {row["minute"]: row for row in records}


def close_expired(conn, pipeline: Pipeline, clock: datetime) -> int:
    """Close the pending and held minutes past the lake's retention: the lake may have lost part of them.

    What they published stays. A held minute would stay held forever: it can neither be released nor read again.
    """
    if pipeline.lake_retention is None:
        return 0
    binds = {"pipeline": pipeline.name, "oldest": pipeline.first_open(clock)}
    closed = 0
    if held := read(conn, column, sql("expired_holds"), binds):
        reason = (
            f"{pipeline.retention_text}; this minute was not published in that time. It is not read again, and what it "
            "published before stays. It was held because: "
        )
        for minutes in _by_minutes(pipeline.name, held):
            closed += write(conn, sql("close_held"), minutes | {"reason": reason, "longest": LONGEST_REASON})
        if closed:
            log.warning(
                "Held minutes of %s that are closed now: %d, from %s to %s. %s, and these minutes were not published in that "
                "time. What they published before stays; column `reason` of etl.minute_ledger says why they were held.",
                pipeline.name,
                closed,
                held[0],
                held[-1],
                pipeline.retention_text,
            )
    reason = f"{pipeline.retention_text}; events of this minute that came later are not counted."
    return closed + write(conn, sql("close_expired"), binds | {"reason": reason})


def covers_day(conn, pipeline: Pipeline, day: date, day_changed_at: UUID, minutes: Mapping[datetime, UUID]) -> bool:
    """Whether all touches of a day were polled and their minutes merged or closed: the change log then no longer needs the day.

    A held minute is not covered: a user still has to decide what happens to it.
    """
    start = datetime(day.year, day.month, day.day)
    ledger_rows = ledger_of(conn, pipeline, start, start + DAY)
    day_cursor = read_cursors(conn, pipeline).get(day)
    if day_cursor is None or day_cursor[0] != day_changed_at or any(row["pending"] for row in ledger_rows.values()):
        return False
    return all(_covers(ledger_rows.get(minute), str(changed_at)) for minute, changed_at in minutes.items())


def _covers(row: dict | None, changed_at: str) -> bool:
    if row is None or _text(row["seen_changed_at"]) != changed_at:
        return False
    return row["state"] == "closed" or (row["state"] == "merged" and _text(row["read_changed_at"]) == changed_at)


def forget_day(conn, pipeline: Pipeline, day: date, day_changed_at: UUID) -> None:
    """Remove the day's cursor, unless a poll has moved it since. Polls read the minutes of a day without a cursor."""
    write(conn, sql("forget_day"), {"pipeline": pipeline.name, "day": day, "seen": str(day_changed_at)})


def close(cursor, pipeline: Pipeline, minutes: Mapping[datetime, str | None], reason: str) -> int:
    """Close minutes whose `seen_changed_at` is still the given one; returns how many. Does not commit.

    Take the pipeline's lock first: a merge that has already checked the minute would mark it as merged again.
    """
    closed = 0
    for minute, changed_at in sorted(minutes.items()):
        binds = {"pipeline": pipeline.name, "minute": minute, "changed_at": changed_at, "reason": reason}
        closed += execute(cursor, sql("close_minute"), binds).rowcount
    return closed


def staged_counts(cursor, attempt: int | None) -> Sequence[tuple[datetime, int, int]]:
    """Each minute that the attempt has counted, with its rows and how many of them are rejected."""
    query = "SELECT minute, raw_rows, rejected_rows FROM etl.staged_counts WHERE attempt = %(attempt)s"
    return execute(cursor, query, {"attempt": attempt}).fetchall()


def hold(
    cursor,
    pipeline_name: str,
    minutes: Iterable[tuple[datetime, str | None, str]],
    attempt: int | None,
    *,
    batch_id: int | None = None,
    failing_checks: Mapping[datetime, Iterable[str]] = MappingProxyType({}),
    waiting: Collection[datetime] = (),
) -> None:
    """Hold each (minute, the change that was read, reason), unless it is closed, or merged by this or a newer attempt.

    With `attempt` None, every minute that is not closed is held. Does not commit.

    Facts and counts of the minute's last merge stay. A touch after the held change makes it pending again. A release that
    no merge has used becomes void: it was given for another failure. `waiting` minutes are held until their hour is read.
    """
    holds = sorted(minutes)
    cursor.executemany(sql("add_minute"), [(pipeline_name, minute) for minute, _, _ in holds])
    now = server_time(cursor)
    held_since = {}
    for binds in _by_minutes(pipeline_name, [minute for minute, _, _ in holds]):
        for minute, state, merged_attempt, first_hold in execute(cursor, sql("lock_minutes"), binds).fetchall():
            is_newer = attempt is None or merged_attempt is None or merged_attempt < attempt
            if state != "closed" and is_newer:
                held_since[minute] = first_hold if state == "held" and first_hold is not None else now
    counts = {minute: (raw, rejected) for minute, raw, rejected in staged_counts(cursor, attempt)}
    to_hold = [row for row in holds if row[0] in held_since]
    cursor.executemany(
        sql("record_hold"),
        [
            (
                pipeline_name,
                minute,
                held_since[minute],
                now,
                batch_id,
                attempt,
                changed_at,
                *counts.get(minute, (None, None)),
                checks,
            )
            for minute, changed_at, _ in to_hold
            for checks in [json.dumps(list(failing_checks.get(minute, ())))]
        ],
    )
    for binds in _by_minutes(pipeline_name, list(held_since)):
        execute(cursor, sql("void_releases"), binds)
    cursor.executemany(
        sql("hold"),
        [
            (pipeline_name, minute, "held", reason[:LONGEST_REASON], changed_at, int(minute in waiting))
            for minute, changed_at, reason in to_hold
        ],
    )


def hold_without_reading(
    cursor, pipeline_name: str, minutes: Iterable[tuple[datetime, str]], failing_checks: Sequence[str]
) -> None:
    """Hold each (minute, reason) because of the counts of the minute's newest read, without another read. Does not commit.

    Take the pipeline's lock first. The minutes must be merged or held, and not pending.
    """
    holds = sorted(minutes)
    checks = json.dumps(list(failing_checks))
    cursor.executemany(sql("record_hold_as_read"), [(checks, pipeline_name, minute) for minute, _ in holds])
    cursor.executemany(
        sql("hold_without_reading"), [(reason[:LONGEST_REASON], pipeline_name, minute) for minute, reason in holds]
    )


def make_held_pending(cursor, pipeline_name: str, minutes: Sequence[datetime]) -> None:
    """Make these held minutes pending: their gate may let them pass now. Does not commit."""
    for binds in _by_minutes(pipeline_name, minutes):
        execute(cursor, sql("make_held_pending"), binds | {"judged_again": RECHECK})


def rows_of(conn, pipeline: Pipeline, minutes: Iterable[datetime]) -> dict[datetime, dict]:
    """The ledger rows of exactly these minutes, by minute; a minute that was never seen is missing."""
    with reading(conn) as cursor:
        return {
            row["minute"]: row
            for binds in _by_minutes(pipeline.name, sorted(set(minutes)))
            for row in rows(cursor, sql("of_minutes"), binds)
        }


def _by_minutes(pipeline: str, minutes: Sequence[datetime]) -> Iterator[dict]:
    """Binds of a statement about these minutes, a few hundred at a time."""
    for part in slices(minutes, _MINUTES_PER_QUERY):
        yield {"pipeline": pipeline, "minutes": part}


def _text(value: str | bytes | None) -> str | None:
    """The value as text: mysqlclient returns ascii_bin columns as text, other libraries as bytes."""
    return value.decode() if isinstance(value, bytes | bytearray) else value
