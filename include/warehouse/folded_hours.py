"""Hours whose contributions were folded: a batch takes all sixty minutes of such an hour, and a merge replaces all or none.

A folded row does not show which minutes it came from, so only the whole hour can replace it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from include.durations import HOUR
from include.warehouse.session import column, execute
from include.warehouse.statements import Statements

sql = Statements(__file__)

_MINUTES = 60


def hour_of(minute: datetime) -> datetime:
    return minute.replace(minute=0, second=0, microsecond=0)


def minutes_of(hour: datetime) -> list[datetime]:
    return [hour + timedelta(minutes=number) for number in range(_MINUTES)]


def folded_among(cursor, pipeline: str, minutes: Iterable[datetime]) -> list[datetime]:
    """The folded hours among those of these minutes, oldest first."""
    hours = sorted({hour_of(minute) for minute in minutes})
    if not hours:
        return []
    return column(cursor, sql("folded_among"), {"pipeline": pipeline, "hours": hours})


def add_missing_minutes(cursor, pipeline: str, batch_id: int, minutes: Iterable[datetime]) -> int:
    """Add the missing minutes of each folded hour that a new batch has minutes of; returns how many. Does not commit.

    Insert the batch's row first: folding searches for open batches after it has marked its hour, so that one of
    the two always sees the other.
    """
    taken, binds = set(minutes), {"pipeline": pipeline, "batch_id": batch_id}
    hours = sorted(set(column(cursor, sql("touched"), binds)))
    missing = [minute for hour in hours for minute in minutes_of(hour) if minute not in taken]
    if not missing:
        return 0
    cursor.executemany(sql("add_minute"), [(batch_id, minute, pipeline) for minute in missing])
    [(minute_count, estimated_rows)] = execute(cursor, sql("totals"), binds).fetchall()
    cursor.execute(sql("estimate"), binds | {"minutes": minute_count, "estimated_rows": estimated_rows})
    return len(missing)


def unfold(cursor, pipeline: str, batch_id: int) -> None:
    """Inside a merge: unmark the folded hours whose minutes are all published, and leave out all minutes of the others.

    The merge itself then deletes the folded contributions, which are stored at the hour's first minute.
    """
    batch_binds = {"pipeline": pipeline, "batch_id": batch_id}
    for hour, planned in execute(cursor, sql("to_unfold"), batch_binds).fetchall():
        binds = batch_binds | {"hour": hour, "next_hour": hour + HOUR}
        if planned == _MINUTES:
            cursor.execute("DELETE FROM etl.folded_hours WHERE pipeline = %(pipeline)s AND hour = %(hour)s", binds)
            continue
        binds["reason"] = (
            f"the contributions of its hour are folded, and only {planned} of the {_MINUTES} minutes can be published"
        )
        cursor.execute(sql("skip"), binds)


def is_one_folded_hour(cursor, pipeline: str, batch_id: int) -> bool:
    """Whether the batch is one folded hour and nothing else, which cannot be split any further."""
    query = "SELECT minute FROM etl.batch_minutes WHERE batch_id = %(batch_id)s"
    minutes = set(column(cursor, query, {"batch_id": batch_id}))
    hours = {hour_of(minute) for minute in minutes}
    return len(minutes) == _MINUTES and len(hours) == 1 and bool(folded_among(cursor, pipeline, minutes))
