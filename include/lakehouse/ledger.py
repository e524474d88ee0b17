"""What the ledger knows of the lakehouse: which minutes it has, and which hours are to be counted.

A minute is current while the table has the events of its newest merged read. The ledger is changed before the table
loses events and after it has them, so that a kill in between makes a minute due again and never lost. `lakehouse_attempt`
is 0 where the table has lost a minute, and where it is to be written again; `lakehouse_kept` says that it is still there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from uuid import UUID

from include.durations import DAY, SECOND
from include.pipelines import Pipeline
from include.warehouse.session import in_transaction, rows

YEARS = range(1970, 2100)  # that facts have
_MINUTES_A_QUERY = 1_000
PATIENCE = timedelta(minutes=15)  # after a merge, until when a published hour may lack it
CURRENT = (
    "(l.raw_rows IS NOT NULL AND l.read_at IS NOT NULL AND NOT l.lakehouse_skipped <=> l.attempt "
    "AND (l.lakehouse_attempt <=> l.attempt OR l.lakehouse_kept <=> l.attempt))"
)
# The merge rejects such minutes until their time comes (`most_ahead`): ADR 25.
_AHEAD = "COALESCE(l.minute > l.read_at + INTERVAL %(most_ahead)s SECOND, FALSE)"
# Why hours wait for a minute that is not current. NULL: it was merged a moment ago, and is written as soon as it settles.
_WAITS = (
    f"CASE WHEN {_AHEAD} THEN 'ahead' WHEN l.state <> 'merged' THEN l.state "
    "WHEN NOT l.lakehouse_attempt <=> 0 AND l.merged_at >= CURRENT_TIMESTAMP(6) - INTERVAL %(patience)s SECOND THEN NULL "
    "WHEN l.lakehouse_skipped <=> l.attempt THEN 'skipped' ELSE 'due' END"
)
_DUE = (
    "SELECT minute, attempt, raw_rows, id_checksum FROM etl.minute_ledger FORCE INDEX (lakehouse_minutes) "
    "WHERE pipeline = %(pipeline)s AND to_lakehouse = 1 ORDER BY minute DESC LIMIT %(most)s"
)
# Not by a writer of another table, which had the catalog before it was lost.
_WRITTEN = (
    "UPDATE etl.minute_ledger AS l JOIN etl.lakehouse_tables AS t ON t.pipeline = l.pipeline AND t.table_uuid = %(table)s "
    "SET l.lakehouse_attempt = %(attempt)s, l.lakehouse_kept = NULL, l.lakehouse_skipped = %(skipped)s "
    "WHERE l.pipeline = %(pipeline)s AND l.minute = %(minute)s AND l.attempt = %(attempt)s"
)
_WRITTEN_AT = (
    "UPDATE etl.lakehouse_tables SET written_at = CURRENT_TIMESTAMP(6) "
    "WHERE pipeline = %(pipeline)s AND table_uuid = %(table)s"
)
# What is lost may be of closed minutes too; those that are to be read again must be there in the lake.
_WITHIN = "WHERE pipeline = %(pipeline)s AND minute >= %(start)s AND minute < %(end)s"
_LOST = (
    "UPDATE etl.minute_ledger FORCE INDEX (PRIMARY) SET lakehouse_attempt = 0, lakehouse_kept = NULL, "
    f"lakehouse_skipped = NULL {_WITHIN} AND (lakehouse_attempt > 0 OR lakehouse_kept IS NOT NULL)"
)
_AGAIN = (
    "UPDATE etl.minute_ledger FORCE INDEX (PRIMARY) "
    "SET lakehouse_kept = IF(lakehouse_skipped <=> lakehouse_attempt, NULL, lakehouse_attempt), "
    f"lakehouse_skipped = NULL, lakehouse_attempt = 0 {_WITHIN} AND lakehouse_attempt > 0 AND state <> 'closed'"
)
_TABLE = "SELECT table_uuid FROM etl.lakehouse_tables WHERE pipeline = %(pipeline)s"
_THIS_TABLE = (
    "INSERT INTO etl.lakehouse_tables (pipeline, table_uuid) VALUES (%(pipeline)s, %(table)s) "
    "ON DUPLICATE KEY UPDATE table_uuid = VALUES(table_uuid), created_at = CURRENT_TIMESTAMP(6)"
)
_DAYS = "SELECT DISTINCT DATE(minute) AS day FROM etl.minute_ledger WHERE pipeline = %(pipeline)s"
# The time keeps numbers rising when the warehouse is restored from a backup or made new: files and load jobs have them.
_MARK = (
    "INSERT INTO etl.lakehouse_hours (pipeline, hour, changes) VALUES (%(pipeline)s, %(hour)s, UNIX_TIMESTAMP()) "
    "ON DUPLICATE KEY UPDATE changes = GREATEST(changes + 1, UNIX_TIMESTAMP()), waited_at = NULL"
)


def due(conn, pipeline: Pipeline, most: int) -> list[dict]:
    """The newest minutes that are due: minute, attempt, raw_rows, id_checksum."""
    records = rows(conn.cursor(), _DUE, {"pipeline": pipeline.name, "most": most})
    conn.rollback()
    return records


def written(conn, pipeline: Pipeline, table_uuid: str, hours: Iterable[datetime], minutes: Iterable[dict]) -> None:
    """The table has these reads of minutes, and these hours are to be counted."""
    _note(conn, pipeline, hours, table_uuid, [row | {"skipped": None} for row in minutes])


def skipped(conn, pipeline: Pipeline, table_uuid: str, minutes: Iterable[dict]) -> None:
    """The lake does not have what the ledger counted of these minutes: they are due again after their next merge."""
    _note(conn, pipeline, (), table_uuid, [row | {"skipped": row["attempt"]} for row in minutes])


def mark(conn, pipeline: Pipeline, hours: Iterable[datetime]) -> None:
    """These hours are to be counted."""
    _note(conn, pipeline, hours, "", ())


def again(conn, pipeline: Pipeline, start: datetime, end: datetime) -> int:
    """Make the minutes from `start` until before `end` due again, but closed ones; returns how many.

    They stay current, so that a count before their write still compares them.
    """
    return _forget(conn, _AGAIN, pipeline, start, end)


def lost(conn, pipeline: Pipeline, start: datetime, end: datetime) -> int:
    """The table no longer has the minutes from `start` until before `end`; returns how many it had."""
    return _forget(conn, _LOST, pipeline, start, end)


def use_table(conn, pipeline: Pipeline, table_uuid: str) -> bool:
    """Make everything due again if the ledger is about another table; returns whether it was.

    Day by day, and the table last: if it is killed, the next call repeats it.
    """
    known = rows(conn.cursor(), _TABLE, {"pipeline": pipeline.name})
    if known and known[0]["table_uuid"] == table_uuid:
        conn.rollback()
        return False
    days = [row["day"] for row in rows(conn.cursor(), _DAYS, {"pipeline": pipeline.name})]
    conn.rollback()
    for day in days:
        start = datetime(day.year, day.month, day.day)
        lost(conn, pipeline, start, start + DAY)
    in_transaction(conn, lambda cursor: cursor.execute(_THIS_TABLE, {"pipeline": pipeline.name, "table": table_uuid}))
    return bool(known)


def hours_between(conn, pipeline: Pipeline, start: datetime, end: datetime) -> set[datetime]:
    """The hours from `start` until before `end` that the fact has, or that were counted or are to be."""
    fact = pipeline.lakehouse_fact
    within = "hour >= %(start)s AND hour < %(end)s"
    records = rows(
        conn.cursor(),
        f"SELECT hour FROM {fact.table} WHERE {within} "
        f"UNION SELECT hour FROM etl.lakehouse_hours WHERE pipeline = %(pipeline)s AND {within}",
        {"pipeline": pipeline.name, "start": start, "end": end},
    )
    conn.rollback()
    return {row["hour"] for row in records}


def not_current(cursor, pipeline: Pipeline, minutes: Collection[datetime]) -> dict[datetime, str | None]:
    """Those of these minutes that the ledger knows and whose newest merged read the table does not have.

    With each of them, why hours wait for it: held, closed or seen, skipped, due; None if it was merged a moment ago.
    So are minutes that are too far ahead, as `ahead`, although the table may have them: they count nowhere.
    """
    wanted, stale = sorted(minutes), {}
    for start in range(0, len(wanted), _MINUTES_A_QUERY):
        values = {
            "pipeline": pipeline.name,
            "minutes": tuple(wanted[start : start + _MINUTES_A_QUERY]),
            "patience": PATIENCE // SECOND,
            "most_ahead": pipeline.most_ahead // SECOND,
        }
        query = (
            f"SELECT l.minute, {_WAITS} AS waits FROM etl.minute_ledger AS l FORCE INDEX (PRIMARY) "
            f"WHERE l.pipeline = %(pipeline)s AND l.minute IN %(minutes)s AND ({_AHEAD} OR NOT {CURRENT})"
        )
        stale |= {row["minute"]: row["waits"] for row in rows(cursor, query, values)}
    return stale


def changed_since_read(conn, pipeline: Pipeline, touches: Mapping[datetime, UUID]) -> set[datetime]:
    """Those minutes of a day's touches that have changed since their merged read."""
    records = rows(
        conn.cursor(),
        "SELECT minute, CONVERT(read_changed_at USING utf8mb4) AS changed_at FROM etl.minute_ledger FORCE INDEX (PRIMARY) "
        "WHERE pipeline = %(pipeline)s AND minute BETWEEN %(first)s AND %(last)s AND read_changed_at IS NOT NULL",
        {"pipeline": pipeline.name, "first": min(touches), "last": max(touches)},
    )
    conn.rollback()
    return {row["minute"] for row in records if str(touches.get(row["minute"], row["changed_at"])) != row["changed_at"]}


def _forget(conn, update: str, pipeline: Pipeline, start: datetime, end: datetime) -> int:
    def forget(cursor) -> int:
        cursor.execute(update, {"pipeline": pipeline.name, "start": start, "end": end})
        return cursor.rowcount

    return in_transaction(conn, forget)


def _note(conn, pipeline: Pipeline, hours: Iterable[datetime], table_uuid: str, minutes: Collection[Mapping]) -> None:
    values = [{**row, "pipeline": pipeline.name, "table": table_uuid} for row in minutes]
    values.sort(key=lambda row: row["minute"])

    def note(cursor) -> None:
        for hour in sorted(hours):
            if hour.year in YEARS:
                cursor.execute(_MARK, {"pipeline": pipeline.name, "hour": hour})
        if values:
            cursor.executemany(_WRITTEN, values)
            cursor.execute(_WRITTEN_AT, {"pipeline": pipeline.name, "table": table_uuid})

    in_transaction(conn, note)
