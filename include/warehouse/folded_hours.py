"""Hours whose contributions were folded: a batch takes all sixty minutes of such an hour, and a merge replaces all or none.

Facts go by the event's own time, so that nothing but the whole hour can stand in for what its folded rows hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from include.durations import HOUR

_MINUTES = 60


def hour_of(minute: datetime) -> datetime:
    return minute.replace(minute=0, second=0, microsecond=0)


def minutes_of(hour: datetime) -> list[datetime]:
    return [hour + timedelta(minutes=number) for number in range(_MINUTES)]


def folded_among(cursor, pipeline: str, minutes: Iterable[datetime]) -> list[datetime]:
    """The folded ones of the hours that these minutes lie in, oldest first."""
    hours = sorted({hour_of(minute) for minute in minutes})
    if not hours:
        return []
    marks = ", ".join(["%s"] * len(hours))
    cursor.execute(
        f"SELECT hour FROM etl.folded_hours WHERE pipeline = %s AND hour IN ({marks}) ORDER BY hour",
        [pipeline, *hours],
    )
    return [hour for (hour,) in cursor.fetchall()]


def complete(cursor, pipeline: str, batch_id: int, minutes: Iterable[datetime]) -> int:
    """Add to a new batch what it lacks of the folded hours that it touches; returns how many minutes. Does not commit.

    The batch's row must be inserted before: folding looks for open batches after it has marked its hour, so that one of
    the two always sees the other.
    """
    taken = set(minutes)
    cursor.execute(
        # Locked, so that it waits for an hour that is being folded; by key, so that it waits for no other pipeline.
        "SELECT f.hour FROM etl.batch_minutes AS m STRAIGHT_JOIN etl.folded_hours AS f FORCE INDEX (PRIMARY) "
        "ON f.pipeline = %s AND f.hour = m.minute - INTERVAL MINUTE(m.minute) MINUTE WHERE m.batch_id = %s FOR UPDATE",
        (pipeline, batch_id),
    )
    hours = sorted({hour for (hour,) in cursor.fetchall()})
    missing = [minute for hour in hours for minute in minutes_of(hour) if minute not in taken]
    if not missing:
        return 0
    cursor.executemany(
        "INSERT INTO etl.batch_minutes (batch_id, minute, changed_at) SELECT %s, d.minute, l.seen_changed_at "
        "FROM (SELECT CAST(%s AS DATETIME) AS minute) AS d "
        "LEFT JOIN etl.minute_ledger AS l ON l.pipeline = %s AND l.minute = d.minute",
        [(batch_id, minute, pipeline) for minute in missing],
    )
    cursor.execute(
        "SELECT COUNT(*), COALESCE(SUM(l.raw_rows), 0) FROM etl.batch_minutes AS m "
        "LEFT JOIN etl.minute_ledger AS l ON l.pipeline = %s AND l.minute = m.minute WHERE m.batch_id = %s",
        (pipeline, batch_id),
    )
    cursor.execute(
        "UPDATE etl.batches SET minutes = %s, estimated_rows = GREATEST(estimated_rows, %s) WHERE batch_id = %s",
        (*cursor.fetchone(), batch_id),
    )
    return len(missing)


def unfold(cursor, pipeline: str, batch_id: int) -> None:
    """Inside a merge: unmark the folded hours of which all minutes are to be published, and leave the others out whole.

    The merge itself then deletes the folded contributions: they lie at the hour's first minute.
    """
    cursor.execute(
        "SELECT f.hour, SUM(m.state = 'planned') FROM etl.batch_minutes AS m JOIN etl.folded_hours AS f "
        "ON f.pipeline = %(pipeline)s AND f.hour = m.minute - INTERVAL MINUTE(m.minute) MINUTE "
        "WHERE m.batch_id = %(batch_id)s GROUP BY f.hour",
        {"pipeline": pipeline, "batch_id": batch_id},
    )
    for hour, planned in cursor.fetchall():
        binds = {"pipeline": pipeline, "batch_id": batch_id, "hour": hour, "next_hour": hour + HOUR}
        if planned == _MINUTES:
            cursor.execute("DELETE FROM etl.folded_hours WHERE pipeline = %(pipeline)s AND hour = %(hour)s", binds)
            continue
        binds["reason"] = (
            f"the contributions of its hour are folded, and only {planned} of the {_MINUTES} minutes can be published"
        )
        cursor.execute(
            "UPDATE etl.batch_minutes SET state = 'skipped', reason = %(reason)s WHERE batch_id = %(batch_id)s "
            "AND minute >= %(hour)s AND minute < %(next_hour)s AND state = 'planned'",
            binds,
        )


def is_one(cursor, pipeline: str, batch_id: int) -> bool:
    """Whether the batch is one folded hour and nothing else: it can't be split any further."""
    cursor.execute("SELECT minute FROM etl.batch_minutes WHERE batch_id = %(batch_id)s", {"batch_id": batch_id})
    minutes = {minute for (minute,) in cursor.fetchall()}
    hours = {hour_of(minute) for minute in minutes}
    return len(minutes) == _MINUTES and len(hours) == 1 and bool(folded_among(cursor, pipeline, minutes))
