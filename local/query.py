"""`make query` and `make bigquery`: one statement, its rows printed as a table, as TSV or as JSON.

The warehouse runs it as the read-only account.
"""

from __future__ import annotations

import json
import sys

from local import warehouse
from local.problems import Problem

FORMATS = ("table", "tsv", "json")


def query(statement: str, form: str) -> None:
    """Run one statement and print what it returns. Raises Problem when the server refuses it."""
    import MySQLdb

    _check("make query", statement, form, "SELECT * FROM recruitment.events LIMIT 5")
    with warehouse.reader() as connection:
        cursor = connection.cursor()
        try:
            cursor.execute(statement)
        except MySQLdb.Error as error:
            code, message = (*error.args, "")[:2]
            remedy = "Fix the statement. SHOW TABLES lists the tables."
            if code in (1044, 1142, 1143, 1370, 1792):
                remedy = "This account reads facts, dimensions and the ledger only, not payloads or staging."
            raise Problem("make query", f"the warehouse rejected the statement: {message} ({code})", remedy) from error
        names = [column[0] for column in cursor.description or ()]
        show(names, cursor.fetchall(), form)


def on_bigquery(statement: str, form: str) -> None:
    """Run one statement on BigQuery, or on its emulator, and print what it returns. Raises Problem if it is refused."""
    _check("make bigquery", statement, form, "SELECT * FROM lakehouse.visits_hourly ORDER BY hour DESC LIMIT 5")
    from include.bigquery import settings, tables

    try:
        with tables.failures_named():
            from google.api_core.exceptions import ClientError

            bigquery = tables.client()
            try:
                rows = tables.query(bigquery, statement)
            except ClientError as error:
                problem = f"BigQuery rejected the statement: {error.message}"
                raise Problem("make bigquery", problem, "Fix the statement.") from error
    except settings.BigQueryError as error:
        remedy = (
            "Run `make run MINUTEMARK_LAKEHOUSE=local MINUTEMARK_BIGQUERY=local` for the emulator. For Google's service, set "
            "GOOGLE_APPLICATION_CREDENTIALS to a key file and check the connection; docs/bigquery.md describes both."
        )
        raise Problem("make bigquery", str(error), remedy) from error
    show([field.name for field in rows.schema], [row.values() for row in rows], form)


def _check(command: str, statement: str, form: str, example: str) -> None:
    if not statement.strip():
        raise Problem(command, "no statement", f'Write one: {command} SQL="{example}"')
    if form not in FORMATS:
        raise Problem(command, f"FORMAT={form} is unknown", f"Choose one of {', '.join(FORMATS)}.")


def show(names: list[str], rows: list[tuple], form: str) -> None:
    """Print rows to stdout; in TSV and JSON nothing else, for programs to read."""
    if form == "json":
        print(
            json.dumps(
                [dict(zip(names, row, strict=True)) for row in rows], default=_plain, ensure_ascii=False, indent=1
            )
        )
    elif form == "tsv":
        print("\t".join(names))
        for row in rows:
            print("\t".join(_cell(value) for value in row))
    else:
        _table(names, rows)


def _table(names: list[str], rows: list[tuple]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*names, show_lines=False)
    for row in rows:
        table.add_row(*(Text("NULL" if value is None else str(value)) for value in row))
    # Piped, a table is as wide as it needs to be.
    console = Console() if sys.stdout.isatty() else Console(width=max(80, 24 * len(names)))
    console.print(table)
    print(f"{len(rows)} row{'' if len(rows) == 1 else 's'}")


def _cell(value: object) -> str:
    if value is None:
        return "\\N"
    return str(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


def _plain(value: object) -> object:
    from decimal import Decimal

    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
