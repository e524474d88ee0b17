"""Sessions with MySQL or MariaDB: UTC, READ COMMITTED, strict, no autocommit; and transactions that survive deadlocks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, TypeVar

from include.connections import WAREHOUSE_ETL, Endpoint, endpoint
from include.warehouse.errors import DEADLOCK, LOCK_WAIT, WarehouseError, code_of, explain

Result = TypeVar("Result")

CONNECT_TIMEOUT = 5  # seconds
MERGE_WAIT_TIMEOUT = 60  # seconds: a merge whose process is gone must not keep the pipeline's lock for 8 hours
_SQL_MODE = (
    "STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ZERO_DATE,NO_ZERO_IN_DATE,"
    "NO_ENGINE_SUBSTITUTION,ONLY_FULL_GROUP_BY"
)


@contextlib.contextmanager
def warehouse(conn_id: str | Endpoint = WAREHOUSE_ETL, *, merge: bool = False) -> Iterator[Any]:
    """A DB-API connection, rolled back and closed at exit: commit what should stay. It runs one statement at a time.

    Uses mysqlclient, or mysql-connector-python if mysqlclient is not installed or the connection's extra `client` is
    mysql-connector-python. Errors of the driver are raised as WarehouseError, except those of a statement, such as
    wrong syntax or a duplicate key.
    """
    target = endpoint(conn_id)
    if not target.host:
        raise WarehouseError(f"Connection {target.conn_id} has no host: set it to the address of a MySQL server.")
    with _translate_errors(target):
        conn = _connect(target)
        try:
            _prepare(conn, merge)
            yield conn
        finally:
            _undo(conn)
            with contextlib.suppress(Exception):
                conn.close()


@contextlib.contextmanager
def _translate_errors(target: Endpoint) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if (explained := explain(error, target)) is None:
            raise
        raise explained from error


def in_transaction(conn, work: Callable[[Any], Result], *, tries: int = 4) -> Result:
    """Run `work(cursor)` and commit; after a deadlock or a lock timeout, roll back and run it again from the start."""
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

    def once() -> Result:
        cursor = conn.cursor()
        try:
            result = work(cursor)
            conn.commit()
            return result
        except BaseException:
            _undo(conn)
            raise
        finally:
            cursor.close()

    retrying = Retrying(
        retry=retry_if_exception(lambda error: code_of(error) in (DEADLOCK, LOCK_WAIT)),
        stop=stop_after_attempt(tries),
        wait=wait_random_exponential(multiplier=0.05, max=1),
        reraise=True,
    )
    return retrying(once)


@contextlib.contextmanager
def reading(conn) -> Iterator[Any]:
    """A cursor for reads. Their transaction ends with the block, so that later reads see newer commits."""
    cursor = conn.cursor()
    try:
        yield cursor
    finally:
        _undo(conn)
        cursor.close()


def read(conn, fetch: Callable[..., Result], query: str, binds: Mapping[str, object] | None = None) -> Result:
    """Run a query in a separate transaction; returns the result of `fetch`, which is `rows`, `column` or `value`."""
    with reading(conn) as cursor:
        return fetch(cursor, query, binds)


def write(conn, statement: str, binds: Mapping[str, object] | None = None) -> int:
    """Run one statement in a separate transaction; returns how many rows it changed."""
    return in_transaction(conn, lambda cursor: execute(cursor, statement, binds).rowcount)


def execute(cursor, statement: str, binds: Mapping[str, object] | None = None):
    """Run a statement and return the cursor. A bound list stands for its values: `minute IN (%(minutes)s)`."""
    values: dict[str, object] = {}
    for name, value in (binds or {}).items():
        if isinstance(value, list | tuple | set | frozenset):
            listed = {f"{name}_{number}": item for number, item in enumerate(value)}
            marks = ", ".join(f"%({key})s" for key in listed)
            statement = statement.replace(f"%({name})s", marks or "NULL")
            values |= listed
        else:
            values[name] = value
    cursor.execute(statement, values)
    return cursor


def rows(cursor, query: str, binds: Mapping[str, object] | None = None) -> list[dict]:
    """The rows of a query as dicts of column name to value."""
    execute(cursor, query, binds)
    names = [description[0] for description in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def column(cursor, query: str, binds: Mapping[str, object] | None = None) -> list:
    """The first value of each row of a query."""
    return [row[0] for row in execute(cursor, query, binds).fetchall()]


def value(cursor, query: str, binds: Mapping[str, object] | None = None) -> Any:
    """The first value of the first row of a query; None if it has no row."""
    return next(iter(column(cursor, query, binds)), None)


def server_time(cursor) -> datetime:
    """The clock of the warehouse's server, UTC."""
    return value(cursor, "SELECT CURRENT_TIMESTAMP(6)")


def _undo(conn) -> None:
    with contextlib.suppress(Exception):  # a lost connection has nothing left to undo
        conn.rollback()


def _connect(target: Endpoint):
    if target.extra.get("client") != "mysql-connector-python":
        try:
            return _mysqlclient(target)
        except ImportError:
            pass
    return _mysql_connector(target)


def _mysqlclient(target: Endpoint):
    import MySQLdb

    socket = {"unix_socket": target.extra["unix_socket"]} if target.extra.get("unix_socket") else {}
    tls = {"ssl": target.extra["ssl"]} if isinstance(target.extra.get("ssl"), dict) else {}
    return MySQLdb.connect(
        host=target.host,
        port=target.port or 3306,
        user=target.login or "",
        passwd=target.password or "",
        db=target.schema or "",
        charset="utf8mb4",
        connect_timeout=CONNECT_TIMEOUT,
        autocommit=False,
        multi_statements=False,
        **socket,
        **tls,
    )


def _mysql_connector(target: Endpoint):
    import mysql.connector
    from mysql.connector.constants import ClientFlag

    tls = target.extra.get("ssl") if isinstance(target.extra.get("ssl"), dict) else {}
    return mysql.connector.connect(
        host=target.host,
        port=target.port or 3306,
        user=target.login or "",
        password=target.password or "",
        **({"database": target.schema} if target.schema else {}),
        charset="utf8mb4",
        collation="utf8mb4_bin",  # MariaDB 10.11 does not have the library's default
        connection_timeout=CONNECT_TIMEOUT,
        autocommit=False,
        client_flags=[-ClientFlag.MULTI_STATEMENTS],
        use_pure=True,
        **{f"ssl_{name}": value for name, value in tls.items()},
    )


def _prepare(conn, merge: bool) -> None:
    cursor = conn.cursor()
    cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
    wait_timeout = f", wait_timeout = {MERGE_WAIT_TIMEOUT}" if merge else ""
    cursor.execute(
        f"SET SESSION time_zone = '+00:00', sql_mode = '{_SQL_MODE}', collation_connection = 'utf8mb4_bin'{wait_timeout}"
    )
    cursor.close()
