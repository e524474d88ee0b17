"""The ledger's record of the lakehouse: which minutes the table has, and which hours are to be counted.

A minute is current while the table has the events of its newest merged read. The ledger changes before events are removed
from the table, and after they are added, so that a kill in between makes a minute due again and never loses it.
`lakehouse_attempt` is 0 if the table has lost a minute, or if the minute must be written again. In the second case,
`lakehouse_kept` is the attempt whose events the table still has. It stays set if the minute cannot be written again because
the lake has lost some of its events (`lakehouse_skipped`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from uuid import UUID

from include.chunks import slices
from include.durations import DAY, SECOND
from include.pipelines import Pipeline
from include.readings import YEARS
from include.warehouse.session import column, in_transaction, read, reading, rows, value, write
from include.warehouse.statements import Statements

sql = Statements(__file__)

_MINUTES_PER_QUERY = 1_000
PATIENCE = timedelta(minutes=15)  # after a minute's merge; from then on, its hours wait until it is written


def due(conn, pipeline: Pipeline, limit: int) -> list[dict]:
    """The newest minutes that are due: minute, attempt, raw_rows, id_checksum."""
    return read(conn, rows, sql("due"), {"pipeline": pipeline.name, "limit": limit})


def record_written(
    conn, pipeline: Pipeline, table_uuid: str, hours: Iterable[datetime], minutes: Iterable[dict]
) -> None:
    """Record that the table has these reads of minutes, and that these hours are to be counted."""
    _record(conn, pipeline, hours, table_uuid, [row | {"skipped": None} for row in minutes])


def record_skipped(conn, pipeline: Pipeline, table_uuid: str, minutes: Iterable[dict]) -> None:
    """Record that the lake no longer has what the ledger counted: these minutes are due again after their next merge."""
    _record(conn, pipeline, (), table_uuid, [row | {"skipped": row["attempt"]} for row in minutes])


def mark_changed(conn, pipeline: Pipeline, hours: Iterable[datetime]) -> None:
    """Record that these hours are to be counted."""
    _record(conn, pipeline, hours, "", ())


def make_due(conn, pipeline: Pipeline, start: datetime, end: datetime) -> int:
    """Make the minutes from `start` to `end` (excluded) due again, except closed ones; returns how many.

    They stay current, so that a count still compares them before they are written.
    """
    return write(conn, sql("make_due"), {"pipeline": pipeline.name, "start": start, "end": end})


def record_lost(conn, pipeline: Pipeline, start: datetime, end: datetime) -> int:
    """Record that the table no longer has the minutes from `start` to `end` (excluded); returns how many it had."""
    return write(conn, sql("record_lost"), {"pipeline": pipeline.name, "start": start, "end": end})


def use_table(conn, pipeline: Pipeline, table_uuid: str) -> bool:
    """Make everything due again unless the ledger describes this table; returns whether it described a different one.

    Works day by day and records the table last: after a kill, the next call starts over.
    """
    binds = {"pipeline": pipeline.name, "table": table_uuid}
    with reading(conn) as cursor:
        known = value(cursor, "SELECT table_uuid FROM etl.lakehouse_tables WHERE pipeline = %(pipeline)s", binds)
        if known == table_uuid:
            return False
        days = column(cursor, sql("days"), binds)
    for day in days:
        start = datetime(day.year, day.month, day.day)
        record_lost(conn, pipeline, start, start + DAY)
    write(conn, sql("use_table"), binds)
    return known is not None


def hours_between(conn, pipeline: Pipeline, start: datetime, end: datetime) -> set[datetime]:
    """The hours from `start` to `end` (excluded) that the fact has, or that were counted or are to be."""
    query = sql("hours_between", fact=pipeline.lakehouse_fact)
    return set(read(conn, column, query, {"pipeline": pipeline.name, "start": start, "end": end}))


def not_current(cursor, pipeline: Pipeline, minutes: Collection[datetime]) -> dict[datetime, str | None]:
    """The minutes among these that the ledger has and whose newest merged read is not in the table.

    Each has the reason why hours wait for it: held, closed, seen, skipped or due. None: it was merged in the last 15
    minutes, and hours do not wait for it.
    Minutes that are too far ahead are included as `ahead`, even if the table has them: no count includes them.
    """
    stale = {}
    for part in slices(sorted(minutes), _MINUTES_PER_QUERY):
        binds = {
            "pipeline": pipeline.name,
            "minutes": part,
            "patience": PATIENCE // SECOND,
            "most_ahead": pipeline.most_ahead // SECOND,
        }
        stale |= {row["minute"]: row["waits"] for row in rows(cursor, sql("not_current"), binds)}
    return stale


def changed_since_read(conn, pipeline: Pipeline, touches: Mapping[datetime, UUID]) -> set[datetime]:
    """The minutes among a day's touches that have changed since their merged read."""
    binds = {"pipeline": pipeline.name, "first": min(touches), "last": max(touches)}
    records = read(conn, rows, sql("changed_since_read"), binds)
    return {row["minute"] for row in records if str(touches.get(row["minute"], row["changed_at"])) != row["changed_at"]}


def _record(conn, pipeline: Pipeline, hours: Iterable[datetime], table_uuid: str, minutes: Collection[Mapping]) -> None:
    values = [{**row, "pipeline": pipeline.name, "table": table_uuid} for row in minutes]
    values.sort(key=lambda row: row["minute"])

    def record(cursor) -> None:
        for hour in sorted(hours):
            if hour.year in YEARS:
                cursor.execute(sql("mark_changed"), {"pipeline": pipeline.name, "hour": hour})
        if values:
            cursor.executemany(sql("record_written"), values)
            cursor.execute(sql("record_written_at"), {"pipeline": pipeline.name, "table": table_uuid})

    in_transaction(conn, record)
