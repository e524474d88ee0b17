"""The ledger: a row per pipeline and minute. A poll records what it saw, a merge what it read; the database derives
`pending` from both, so neither can overwrite the other's news."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from types import MappingProxyType
from uuid import UUID

from include.lake.keys import time_of
from include.pipelines import Pipeline
from include.warehouse import folded_hours, hours
from include.warehouse.delta import Pending
from include.warehouse.session import in_transaction, rows

_MINUTES_A_QUERY = 500
COUNT_LIMIT = 10_000  # pending minutes: what lies beyond is counted by nobody once a minute

# The condition on split_size makes each a walk of the index pending_minutes; MySQL would walk the primary key for the
# sake of the order. {order} and {condition} are ours.
_PENDING = (
    "SELECT minute, seen_changed_at, raw_rows, split_size FROM etl.minute_ledger FORCE INDEX (pending_minutes) "
    "WHERE pipeline = %(pipeline)s AND pending = 1 AND {condition} ORDER BY {order} LIMIT %(limit)s"
)
NEWEST_LIVE = _PENDING.format(condition="split_size IS NULL AND minute <= %(horizon)s", order="minute DESC")
OLDEST = _PENDING.format(condition="split_size IS NULL", order="minute")
SUSPECTS = _PENDING.format(condition="split_size IS NOT NULL", order="minute")
PENDING_COUNT = (
    "SELECT COUNT(*) FROM (SELECT 1 FROM etl.minute_ledger "
    "WHERE pipeline = %(pipeline)s AND pending = 1 LIMIT %(limit)s) AS found"
)

# Merged, with no change since: pending for its settle time alone.
_IS_SETTLING = (
    "state = 'merged' AND read_at IS NOT NULL AND settled_before IS NOT NULL AND read_changed_at = seen_changed_at "
    "AND split_size IS NULL"
)
# Of a backlog the first minute with news ends the search, however many are pending. A minute of a folded hour is not news: it
# may be pending for as long as another minute of its hour is held.
_LAST_TO_SETTLE = (
    "SELECT MAX(seen_changed_time) FROM etl.minute_ledger WHERE pipeline = %(pipeline)s AND pending = 1 AND NOT EXISTS ("
    "SELECT 1 FROM etl.minute_ledger AS l WHERE l.pipeline = %(pipeline)s AND l.pending = 1 "
    f"AND CASE WHEN {_IS_SETTLING} THEN 0 ELSE 1 END = 1 AND NOT EXISTS (SELECT 1 FROM etl.folded_hours AS f "
    "WHERE f.pipeline = l.pipeline AND f.hour = l.minute - INTERVAL MINUTE(l.minute) MINUTE))"
)

_SEE_MINUTE = (
    "INSERT INTO etl.minute_ledger (pipeline, minute, seen_changed_at, seen_changed_time) VALUES (%s, %s, %s, %s) "
    "ON DUPLICATE KEY UPDATE seen_changed_at = VALUES(seen_changed_at), seen_changed_time = VALUES(seen_changed_time)"
)
_KNOW_MINUTE = (
    "INSERT INTO etl.minute_ledger (pipeline, minute) VALUES (%s, %s) "
    "ON DUPLICATE KEY UPDATE pipeline = VALUES(pipeline)"
)
_LOCK_MINUTES = (
    "SELECT l.minute, l.state, l.attempt, h.held_since FROM etl.minute_ledger AS l FORCE INDEX (PRIMARY) "
    "LEFT JOIN etl.holds AS h FORCE INDEX (PRIMARY) ON h.pipeline = l.pipeline AND h.minute = l.minute "
    "WHERE l.pipeline = %(pipeline)s AND l.minute IN ({marks}) FOR UPDATE"
)
_HOLD = (
    "INSERT INTO etl.minute_ledger (pipeline, minute, state, reason, held_changed_at, waiting) "
    "VALUES (%s, %s, %s, %s, %s, %s) ON DUPLICATE KEY UPDATE state = VALUES(state), reason = VALUES(reason), "
    "held_changed_at = VALUES(held_changed_at), waiting = VALUES(waiting), split_size = NULL"
)
_RECORDED = (
    "ON DUPLICATE KEY UPDATE held_since = VALUES(held_since), held_at = VALUES(held_at), batch_id = VALUES(batch_id), "
    "attempt = VALUES(attempt), changed_at = VALUES(changed_at), rows_now = VALUES(rows_now), "
    "rejected_now = VALUES(rejected_now), failing_checks = VALUES(failing_checks)"
)
_HELD = "etl.holds (pipeline, minute, held_since, held_at, batch_id, attempt, changed_at, rows_now, rejected_now, failing_checks)"
_RECORD_HOLD = f"INSERT INTO {_HELD} VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) {_RECORDED}"
_RECORD_HOLD_AS_READ = (
    f"INSERT INTO {_HELD} SELECT d.* FROM (SELECT l.pipeline, l.minute, CURRENT_TIMESTAMP(6) AS since, "
    "CURRENT_TIMESTAMP(6) AS at, IF(l.state = 'held', h.batch_id, l.batch_id) AS batch, "
    "IF(l.state = 'held', h.attempt, l.attempt) AS attempt, l.seen_changed_at, "
    "IF(l.state = 'held', h.rows_now, l.raw_rows) AS raw, IF(l.state = 'held', h.rejected_now, l.rejected_rows) AS rejected, "
    "%s AS checks FROM etl.minute_ledger AS l "
    "LEFT JOIN etl.holds AS h ON h.pipeline = l.pipeline AND h.minute = l.minute "
    f"WHERE l.pipeline = %s AND l.minute = %s) AS d {_RECORDED}"
)
_HOLD_AS_READ = (
    "UPDATE etl.minute_ledger SET state = 'held', reason = %s, held_changed_at = seen_changed_at, waiting = 0, "
    "split_size = NULL WHERE pipeline = %s AND minute = %s"
)
JUDGED_AGAIN = "judged again"  # as held_changed_at, where it differs from every change, so that the minute is pending
_JUDGE_AGAIN = (
    f"UPDATE etl.minute_ledger SET held_changed_at = '{JUDGED_AGAIN}' WHERE pipeline = %(pipeline)s AND state = 'held' "
    "AND pending = 0 AND minute IN ({marks})"
)
_VOID_RELEASES = (
    "UPDATE etl.releases SET used_at = CURRENT_TIMESTAMP(6) "
    "WHERE pipeline = %(pipeline)s AND used_at IS NULL AND minute IN ({marks})"
)
# How the reasons begin for which housekeeping closes a minute that its next event opens again.
DEMO_EVENTS_ONLY = "Demo events of long ago"
_REOPENABLE = (
    "SELECT minute, reason LIKE %(demo)s FROM etl.minute_ledger WHERE pipeline = %(pipeline)s AND state = 'closed' "
    "AND minute >= %(oldest)s AND minute IN ({marks}) FOR UPDATE"
)
# What the demo sent is no longer in the lake: as if it had never been read.
_FORGET_READ = (
    "UPDATE etl.minute_ledger SET state = 'seen', reason = NULL, read_changed_at = NULL, read_at = NULL, "
    "settled_before = NULL, raw_rows = NULL, counted_rows = NULL, ignored_rows = NULL, rejected_rows = NULL, "
    "ignored_by_kind = NULL, id_checksum = NULL, newest_create_time = NULL, set_options = NULL "
    "WHERE pipeline = %(pipeline)s AND state = 'closed' AND reason LIKE %(demo)s AND minute IN ({marks})"
)
_FORGET_REJECTED = (
    "DELETE FROM etl.rejected_events WHERE pipeline = %(pipeline)s AND origin = 'lake' AND minute IN ({marks})"
)
_FORGET_FIELDS = "DELETE FROM etl.minute_fields WHERE pipeline = %(pipeline)s AND minute IN ({marks})"
_REOPEN = (
    "UPDATE etl.minute_ledger SET state = IF(attempt IS NULL, 'seen', 'merged'), reason = NULL "
    "WHERE pipeline = %(pipeline)s AND state = 'closed' AND minute IN ({marks})"
)
_CAME_INTO_RANGE = (
    "SELECT minute FROM etl.minute_ledger WHERE pipeline = %(pipeline)s AND state = 'merged' "
    "AND minute > %(start)s AND minute <= %(until)s AND read_at < minute - INTERVAL %(ahead_seconds)s SECOND"
)
_READ_AGAIN = (
    "UPDATE etl.minute_ledger SET read_changed_at = NULL, read_at = NULL, settled_before = NULL "
    "WHERE pipeline = %(pipeline)s AND state = 'merged' AND minute IN ({marks})"
)
_MOVE_CURSOR = (
    "INSERT INTO etl.day_cursors (pipeline, day, day_changed_at, drilled_at) VALUES (%s, %s, %s, %s) "
    "ON DUPLICATE KEY UPDATE day_changed_at = VALUES(day_changed_at), drilled_at = VALUES(drilled_at)"
)


def read_cursors(conn, pipeline: Pipeline) -> dict[date, tuple[UUID, datetime]]:
    """Each day that was drilled into: its newest touch then, and the lake's clock at that look."""
    cursor = conn.cursor()
    cursor.execute(
        "SELECT day, day_changed_at, drilled_at FROM etl.day_cursors WHERE pipeline = %(pipeline)s",
        {"pipeline": pipeline.name},
    )
    found = {day: (UUID(_text(changed_at)), drilled_at) for day, changed_at, drilled_at in cursor.fetchall()}
    conn.rollback()  # nothing was written: let the next statement begin a new transaction
    return found


def days_to_drill(
    days: Mapping[date, UUID], cursors: Mapping[date, tuple[UUID, datetime]], settle: timedelta
) -> list[date]:
    """Days with news, and days whose newest touch was so fresh at the last look that another may hide behind it.

    The row of a day keeps one of two simultaneous touches, which need not be the one that became visible last.
    """
    due = []
    for day, changed_at in sorted(days.items()):
        known, drilled_at = cursors.get(day, (None, None))
        if known != changed_at or time_of(changed_at) > drilled_at - settle:
            due.append(day)
    return due


def record_poll(
    conn,
    pipeline: Pipeline,
    clock: datetime,
    days: Mapping[date, UUID],
    minutes: Mapping[datetime, UUID],
) -> int:
    """Record the drilled `days` and the touches of their `minutes`; returns how many minutes had news.

    News open a closed minute again, unless the lake may have forgotten a part of it.
    One transaction: cursors that moved without their minutes would lose those for ever. `days` must have been read
    before `minutes`, so that a touch in between moves the day again.
    """

    def record(cursor) -> int:
        news = _news(cursor, pipeline, minutes)
        if news:
            _reopen(cursor, pipeline, clock, [minute for minute, _ in news])
            cursor.executemany(
                _SEE_MINUTE, [(pipeline.name, minute, str(uuid), time_of(uuid)) for minute, uuid in news]
            )
        if days:
            cursor.executemany(_MOVE_CURSOR, [(pipeline.name, day, str(days[day]), clock) for day in sorted(days)])
        return len(news)

    return in_transaction(conn, record)


def record_look(conn, pipeline: Pipeline, clock: datetime) -> None:
    """Record that the change log was looked at, whatever was found: without that silence and a dead scheduler look alike."""

    def record(cursor) -> None:
        before = _last_clock(cursor, pipeline)
        _read_again_what_came_into_range(cursor, pipeline, before or clock, clock)
        if before:
            hours.add_reached(cursor, pipeline, clock)
        cursor.execute(
            "INSERT INTO etl.looks (pipeline, looked_at, lake_clock) VALUES (%(pipeline)s, CURRENT_TIMESTAMP(6), %(clock)s) "
            "ON DUPLICATE KEY UPDATE looked_at = VALUES(looked_at), lake_clock = VALUES(lake_clock)",
            {"pipeline": pipeline.name, "clock": clock},
        )

    in_transaction(conn, record)


def _last_clock(cursor, pipeline: Pipeline) -> datetime | None:
    """The lake's clock at the last recorded look; None before the first."""
    cursor.execute("SELECT lake_clock FROM etl.looks WHERE pipeline = %(pipeline)s", {"pipeline": pipeline.name})
    row = cursor.fetchone()
    return row and row[0]


def _read_again_what_came_into_range(cursor, pipeline: Pipeline, before: datetime, clock: datetime) -> None:
    """Minutes whose events were rejected as too far ahead become pending when they are no longer. See out_of_range."""
    cursor.execute(
        _CAME_INTO_RANGE,
        {
            "pipeline": pipeline.name,
            "start": min(before, clock),
            "until": clock + pipeline.most_ahead,
            "ahead_seconds": pipeline.most_ahead // timedelta(seconds=1),
        },
    )
    for query, binds in _by_minutes(_READ_AGAIN, pipeline.name, [minute for (minute,) in cursor.fetchall()]):
        cursor.execute(query, binds)


def _reopen(cursor, pipeline: Pipeline, clock: datetime, minutes: Sequence[datetime]) -> None:
    """Open those of the minutes that are closed, and in a folded hour all that held demo events only: a batch needs them."""
    oldest = clock - pipeline.lake_retention if pipeline.lake_retention else datetime(1000, 1, 1)
    more = {"demo": f"{DEMO_EVENTS_ONLY}%", "oldest": oldest}
    touched = set(minutes)
    folded = folded_hours.folded_among(cursor, pipeline.name, touched)
    together = touched.union(*map(folded_hours.minutes_of, folded))
    demo_only: list[datetime] = []
    others: list[datetime] = []
    for query, binds in _by_minutes(_REOPENABLE, pipeline.name, sorted(together)):
        cursor.execute(query, binds | more)
        for minute, is_demo_only in cursor.fetchall():
            if is_demo_only:
                demo_only.append(minute)
            elif minute in touched:
                others.append(minute)
    forgetting = [(statement, demo_only) for statement in (_FORGET_REJECTED, _FORGET_FIELDS, _FORGET_READ)]
    for statement, chosen in (*forgetting, (_REOPEN, others)):
        for query, binds in _by_minutes(statement, pipeline.name, chosen):
            cursor.execute(query, binds | more)


def _news(cursor, pipeline: Pipeline, minutes: Mapping[datetime, UUID]) -> list[tuple[datetime, UUID]]:
    """Sorted, so that two polls lock rows in the same order."""
    known: dict[datetime, str] = {}
    for day in {minute.date() for minute in minutes}:
        start = datetime(day.year, day.month, day.day)
        cursor.execute(
            "SELECT minute, seen_changed_at FROM etl.minute_ledger WHERE pipeline = %(pipeline)s "
            "AND minute >= %(start)s AND minute < %(end)s AND seen_changed_at IS NOT NULL",
            {"pipeline": pipeline.name, "start": start, "end": start + timedelta(days=1)},
        )
        known.update((minute, _text(changed_at)) for minute, changed_at in cursor.fetchall())
    return [(minute, uuid) for minute, uuid in sorted(minutes.items()) if known.get(minute) != str(uuid)]


def pending_minutes(conn, pipeline: Pipeline, clock: datetime) -> list[Pending]:
    """What the next batch chooses from: the newest live and the oldest pending minutes, and suspects; oldest first.

    Bounded by the pipeline's limits, however long the backlog is.
    """
    cursor = conn.cursor()
    binds = {"pipeline": pipeline.name, "horizon": clock + pipeline.future_tolerance}
    found: dict[datetime, Pending] = {}
    for query, limit in (
        (NEWEST_LIVE, pipeline.live_minutes),
        (OLDEST, pipeline.max_minutes),
        (SUSPECTS, pipeline.max_minutes),
    ):
        cursor.execute(query, {**binds, "limit": limit})
        for minute, changed_at, raw_rows, split_size in cursor.fetchall():
            found[minute] = Pending(minute, _text(changed_at), raw_rows, split_size)
    return [found[minute] for minute in sorted(found)]


def pending_count(conn, pipeline: Pipeline, limit: int = COUNT_LIMIT) -> int:
    """How many minutes are pending, counted up to `limit`."""
    cursor = conn.cursor()
    cursor.execute(PENDING_COUNT, {"pipeline": pipeline.name, "limit": limit})
    return cursor.fetchone()[0]


def settles_at(conn, pipeline: Pipeline) -> datetime | None:
    """When all pending minutes have settled, by the lake's clock; None if one of them has news, or none is pending."""
    cursor = conn.cursor()
    cursor.execute(_LAST_TO_SETTLE, {"pipeline": pipeline.name})
    found = cursor.fetchone()
    return found[0] + pipeline.settle if found and found[0] is not None else None


def typical_rows(conn, pipeline: Pipeline) -> float | None:
    """Average rows of the minutes, but the empty ones, of the last five merged batches; None before the first."""
    cursor = conn.cursor()
    cursor.execute(
        "SELECT AVG(l.raw_rows) FROM (SELECT batch_id FROM etl.batches WHERE pipeline = %(pipeline)s "
        "AND state = 'merged' ORDER BY batch_id DESC LIMIT 5) AS b JOIN etl.batch_minutes AS m ON m.batch_id = b.batch_id "
        "JOIN etl.minute_ledger AS l ON l.pipeline = %(pipeline)s AND l.minute = m.minute AND l.raw_rows > 0",
        {"pipeline": pipeline.name},
    )
    average = cursor.fetchone()[0]
    return None if average is None else float(average)


def ledger_of(conn, pipeline: Pipeline, start: datetime, end: datetime) -> dict[datetime, dict]:
    """Every ledger row of the minutes from `start` until before `end`, by minute."""
    found = rows(
        conn.cursor(),
        "SELECT * FROM etl.minute_ledger WHERE pipeline = %(pipeline)s AND minute >= %(start)s AND minute < %(end)s "
        "ORDER BY minute",
        {"pipeline": pipeline.name, "start": start, "end": end},
    )
    return {row["minute"]: row for row in found}


def close_expired(conn, pipeline: Pipeline, clock: datetime) -> int:
    """Close the pending minutes past the lake's retention: the lake may have lost part of them."""
    if pipeline.lake_retention is None:
        return 0
    days = pipeline.lake_retention / timedelta(days=1)
    binds = {
        "pipeline": pipeline.name,
        "oldest": clock - pipeline.lake_retention,
        "reason": f"The lake keeps {days:g} days; events of this minute that came later are not counted.",
    }

    def close(cursor) -> int:
        cursor.execute(
            "UPDATE etl.minute_ledger SET state = 'closed', reason = %(reason)s "
            "WHERE pipeline = %(pipeline)s AND pending = 1 AND minute < %(oldest)s",
            binds,
        )
        return cursor.rowcount

    return in_transaction(conn, close)


def covers_day(conn, pipeline: Pipeline, day: date, day_changed_at: UUID, minutes: Mapping[datetime, UUID]) -> bool:
    """Whether everything that the change log says of a day was polled, and merged or closed: it may forget the day.

    A held minute is not covered: its touch is what a person still has to judge.
    """
    start = datetime(day.year, day.month, day.day)
    known = ledger_of(conn, pipeline, start, start + timedelta(days=1))
    polled = read_cursors(conn, pipeline).get(day)
    if polled is None or polled[0] != day_changed_at or any(row["pending"] for row in known.values()):
        return False
    return all(_covers(known.get(minute), str(changed_at)) for minute, changed_at in minutes.items())


def _covers(row: dict | None, changed_at: str) -> bool:
    if row is None or _text(row["seen_changed_at"]) != changed_at:
        return False
    return row["state"] == "closed" or (row["state"] == "merged" and _text(row["read_changed_at"]) == changed_at)


def forget_day(conn, pipeline: Pipeline, day: date, day_changed_at: UUID) -> None:
    """Remove the day's cursor, unless a poll has moved it meanwhile. A day without one is drilled into when it shows up."""

    def remove(cursor) -> None:
        cursor.execute(
            "DELETE FROM etl.day_cursors WHERE pipeline = %(pipeline)s AND day = %(day)s AND day_changed_at = %(seen)s",
            {"pipeline": pipeline.name, "day": day, "seen": str(day_changed_at)},
        )

    in_transaction(conn, remove)


def close(cursor, pipeline: Pipeline, minutes: Mapping[datetime, str | None], reason: str) -> int:
    """Close minutes whose `seen_changed_at` is still the given one; returns how many. Does not commit.

    Take the pipeline's lock first: a merge that has judged the minute already would make it merged again.
    """
    closed = 0
    for minute, changed_at in sorted(minutes.items()):
        cursor.execute(
            "UPDATE etl.minute_ledger SET state = 'closed', reason = %(reason)s WHERE pipeline = %(pipeline)s "
            "AND minute = %(minute)s AND state <> 'closed' AND seen_changed_at <=> %(changed_at)s",
            {"pipeline": pipeline.name, "minute": minute, "changed_at": changed_at, "reason": reason},
        )
        closed += cursor.rowcount
    return closed


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
    """Hold (minute, the change that was read, reason) unless a newer attempt has merged the minute. Does not commit.

    What the minute's last merge published and counted stays. A touch after the held change makes it pending again. A
    release that no merge has used is void: it was given for another failure. `waiting` minutes are held until their hour
    is read.
    """
    wanted = sorted(minutes)
    cursor.executemany(_KNOW_MINUTE, [(pipeline_name, minute) for minute, _, _ in wanted])
    cursor.execute("SELECT CURRENT_TIMESTAMP(6)")
    now = cursor.fetchone()[0]
    held_since = {}
    for query, binds in _by_minutes(_LOCK_MINUTES, pipeline_name, [minute for minute, _, _ in wanted]):
        cursor.execute(query, binds)
        for minute, state, merged_attempt, since in cursor.fetchall():
            is_newer = attempt is None or merged_attempt is None or merged_attempt < attempt
            if state != "closed" and is_newer:
                held_since[minute] = since if state == "held" and since is not None else now
    cursor.execute(
        "SELECT minute, raw_rows, rejected_rows FROM etl.staged_counts WHERE attempt = %(attempt)s",
        {"attempt": attempt},
    )
    counts = {minute: (raw, rejected) for minute, raw, rejected in cursor.fetchall()}
    to_hold = [one for one in wanted if one[0] in held_since]
    cursor.executemany(
        _RECORD_HOLD,
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
    for query, binds in _by_minutes(_VOID_RELEASES, pipeline_name, list(held_since)):
        cursor.execute(query, binds)
    cursor.executemany(
        _HOLD,
        [
            (pipeline_name, minute, "held", reason[:500], changed_at, int(minute in waiting))
            for minute, changed_at, reason in to_hold
        ],
    )


def hold_as_read(
    cursor, pipeline_name: str, minutes: Iterable[tuple[datetime, str]], failing_checks: Sequence[str]
) -> None:
    """Hold (minute, reason) for what its newest read counted, without another read. Does not commit.

    Take the pipeline's lock first, and give minutes only that are merged or held, and not pending.
    """
    wanted = sorted(minutes)
    checks = json.dumps(list(failing_checks))
    cursor.executemany(_RECORD_HOLD_AS_READ, [(checks, pipeline_name, minute) for minute, _ in wanted])
    cursor.executemany(_HOLD_AS_READ, [(reason[:500], pipeline_name, minute) for minute, reason in wanted])


def read_again(cursor, pipeline_name: str, minutes: Sequence[datetime]) -> None:
    """Make these held minutes pending: their gate may let them pass now. Does not commit."""
    for query, binds in _by_minutes(_JUDGE_AGAIN, pipeline_name, minutes):
        cursor.execute(query, binds)


def rows_of(conn, pipeline: Pipeline, minutes: Iterable[datetime]) -> dict[datetime, dict]:
    """The ledger rows of just these minutes, by minute; one that was never seen has none."""
    query = "SELECT * FROM etl.minute_ledger WHERE pipeline = %(pipeline)s AND minute IN ({marks})"
    found = {}
    for statement, binds in _by_minutes(query, pipeline.name, sorted(set(minutes))):
        found.update((row["minute"], row) for row in rows(conn.cursor(), statement, binds))
    conn.rollback()  # nothing was written: let the next look see what was committed meanwhile
    return found


def _by_minutes(query: str, pipeline: str, minutes: Sequence[datetime]) -> Iterator[tuple[str, dict]]:
    """The query, with a place for each minute in {marks}, and its binds; for a few hundred minutes at a time."""
    for start in range(0, len(minutes), _MINUTES_A_QUERY):
        binds = {f"m{number}": minute for number, minute in enumerate(minutes[start : start + _MINUTES_A_QUERY])}
        marks = ", ".join(f"%({name})s" for name in binds)
        yield query.format(marks=marks), binds | {"pipeline": pipeline}


def _text(value: str | bytes | None) -> str | None:
    """mysqlclient gives ascii_bin columns as text, other libraries as bytes."""
    return value.decode() if isinstance(value, bytes | bytearray) else value
