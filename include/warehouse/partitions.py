"""Day partitions of contributions that are too many for one B-tree (`by_day` of an Output), made before they are needed.

One value a partition, LIST (TO_DAYS(minute)): a day can be added in whatever order days come, and no row moves.
"""

from __future__ import annotations

from datetime import date

from include import pipelines
from include.pipelines import Output
from include.warehouse.errors import code_of
from include.warehouse.session import in_transaction

# DDL waits for every reader of the table, and whoever comes later waits behind it: give up before that is noticed.
_PATIENCE = 10  # seconds
_ALREADY_THERE = frozenset({1495, 1517})  # the same value, the same name: another merge was quicker


def add_missing(conn, batch_id: int) -> None:
    """Make the partitions that a merge of this batch needs. DDL commits, so call it outside of its transaction."""
    cursor = conn.cursor()
    cursor.execute("SELECT pipeline FROM etl.batches WHERE batch_id = %(batch_id)s", {"batch_id": batch_id})
    found = cursor.fetchone()
    outputs = [output for output in pipelines.get(found[0]).outputs if output.by_day] if found else []
    days = _days_with_rows(cursor, batch_id) if outputs else []
    there = {output: _existing(cursor, output) for output in outputs}
    conn.rollback()
    for output, existing in there.items():
        for day in days:
            if _name(day) not in existing:
                in_transaction(conn, lambda cursor, output=output, day=day: _add(cursor, output, day))


def _days_with_rows(cursor, batch_id: int) -> list[date]:
    """The days of the batch's minutes of which any attempt has counted a row."""
    cursor.execute(
        "SELECT DISTINCT DATE(c.minute) AS day FROM etl.attempts AS a "
        "JOIN etl.staged_counts AS c ON c.attempt = a.attempt AND c.counted_rows > 0 "
        "WHERE a.batch_id = %(batch_id)s ORDER BY day",
        {"batch_id": batch_id},
    )
    return [day for (day,) in cursor.fetchall()]


def _existing(cursor, output: Output) -> set[str]:
    database, table = output.contributions.split(".")
    cursor.execute(
        "SELECT partition_name FROM information_schema.partitions "
        "WHERE table_schema = %(database)s AND table_name = %(table)s",
        {"database": database, "table": table},
    )
    return {name for (name,) in cursor.fetchall()}


def _add(cursor, output: Output, day: date) -> None:
    cursor.execute("SET SESSION lock_wait_timeout = %(seconds)s", {"seconds": _PATIENCE})
    try:
        cursor.execute(
            f"ALTER TABLE {output.contributions} ADD PARTITION (PARTITION {_name(day)} VALUES IN (TO_DAYS(%(day)s)))",
            {"day": day.isoformat()},
        )
    except Exception as error:
        if code_of(error) not in _ALREADY_THERE:
            raise


def _name(day: date) -> str:
    return f"p{day:%Y%m%d}"
