"""Runs one statement on the warehouse or on BigQuery, and returns its rows."""

from __future__ import annotations

from include.connections import WAREHOUSE_BI
from include.errors import MinutemarkError
from include.listing import Rows
from include.warehouse.errors import DENIED, TEMPORARY, code_of
from include.warehouse.session import reading, warehouse

_READ_ONLY = 1792  # error code of a write in a read-only transaction


class StatementRejected(MinutemarkError):
    """A server rejected a statement; the error includes the server's message."""


def query(statement: str) -> Rows:
    """Run one statement on the warehouse, as the read-only account. Raises StatementRejected, WarehouseError."""
    with warehouse(WAREHOUSE_BI) as conn, reading(conn) as cursor:
        cursor.execute("SET SESSION TRANSACTION READ ONLY")
        try:
            cursor.execute(statement)
            return Rows([column[0] for column in cursor.description or ()], cursor.fetchall())
        except Exception as error:
            code = code_of(error)
            if code is None or code in TEMPORARY:
                raise
            remedy = "Fix the statement. SHOW TABLES FROM etl lists etl's tables; SHOW DATABASES lists the databases."
            if code in DENIED or code == _READ_ONLY:
                remedy = "This account can only read, and has no access to payloads, staging or samples of checks."
            message = getattr(error, "msg", None) or error.args[-1]  # mysql-connector-python has msg
            raise StatementRejected(f"The warehouse rejected the statement: {message} ({code}). {remedy}") from error


def query_bigquery(statement: str) -> Rows:
    """Run one statement on BigQuery, or on its emulator. Raises StatementRejected, BigQueryError."""
    from include.bigquery import tables
    from include.bigquery.settings import BigQueryError

    try:
        with tables.translate_errors():
            from google.api_core.exceptions import BadRequest, NotFound

            bigquery = tables.client()
            try:
                rows = tables.query(bigquery, statement)
            except (BadRequest, NotFound) as error:  # not Forbidden, which has a different remedy
                raise StatementRejected(
                    f"BigQuery rejected the statement: {error.message.rstrip('. ')}. Fix the statement."
                ) from error
            return Rows([field.name for field in rows.schema], [row.values() for row in rows])
    except BigQueryError as error:
        raise BigQueryError(
            f"{error} For the emulator, run `make run MINUTEMARK_LAKEHOUSE=local MINUTEMARK_BIGQUERY=local`. For Google's "
            "service, set GOOGLE_APPLICATION_CREDENTIALS to a key file; docs/bigquery.md describes both."
        ) from error
