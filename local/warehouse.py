"""The warehouse as a reader sees it: the bi account, read-only, and the few figures that status and the live table show."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from collections.abc import Iterator

from local import environment
from local.problems import Problem


@contextlib.contextmanager
def reader() -> Iterator:
    """A connection of the bi account, in UTC, that can't write. Raises Problem when the warehouse does not answer."""
    import MySQLdb

    known = environment.read()
    if not known:
        raise Problem("Warehouse", "there is no .local/env yet", "Run `make run` or `make services` first.")
    os.environ.update(known)
    from include.connections import endpoint

    account = endpoint("warehouse_bi")
    try:
        connection = MySQLdb.connect(
            host=account.host,
            port=account.port or 3306,
            user=account.login,
            passwd=account.password or "",
            charset="utf8mb4",
            connect_timeout=5,
            autocommit=True,
        )
    except MySQLdb.Error as error:
        raise Problem(
            f"Warehouse on {account.host}:{account.port}, as {account.login}",
            f"it does not let us in: {error.args[-1]}",
            "Is it running (`make status`)? Does the password in .local/env fit?",
        ) from error
    try:
        cursor = connection.cursor()
        cursor.execute("SET time_zone = '+00:00'")
        cursor.execute("SET SESSION TRANSACTION READ ONLY")
        yield connection
    finally:
        connection.close()


_RECENT = """
    SELECT batch_id, pipeline, kind, state, tick, opened_at, merged_at, minutes,
           raw_rows, counted_rows, ignored_rows, rejected_rows, reason
    FROM etl.batches
    ORDER BY batch_id DESC
    LIMIT %s
"""

_FRESHNESS = """
    SELECT pipeline, TIMESTAMPDIFF(SECOND, MAX(newest_create_time), UTC_TIMESTAMP(6)) AS seconds, SUM(pending) AS pending
    FROM etl.minute_ledger
    WHERE minute <= UTC_TIMESTAMP() + INTERVAL 5 MINUTE
    GROUP BY pipeline
"""


def recent_batches(connection, limit: int) -> list[dict]:
    """The newest batches, newest first."""
    return _rows(connection, _RECENT, (limit,))


def freshness(connection) -> dict[str, dict]:
    """By pipeline: age in seconds of the newest event in the warehouse, and how many minutes are pending."""
    return {row.pop("pipeline"): row for row in _rows(connection, _FRESHNESS)}


def newest_merge(connection) -> dt.datetime | None:
    """When the newest batch was merged, UTC."""
    return _rows(connection, "SELECT MAX(merged_at) AS merged_at FROM etl.batches")[0]["merged_at"]


def _rows(connection, statement: str, values: tuple = ()) -> list[dict]:
    import MySQLdb

    cursor = connection.cursor()
    try:
        cursor.execute(statement, values)
    except MySQLdb.Error as error:
        found = f"the ledger can't be read: {error.args[-1]}"
        raise Problem("Warehouse", found, "Apply the schema: `make services`, or the set-up DAG.") from error
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
