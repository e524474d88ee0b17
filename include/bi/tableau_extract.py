"""`make tableau`: the views for BI tools as a Tableau extract, a .hyper file.

It runs in a separate environment, where tableauhyperapi is installed. All views are read from one snapshot, and rows are
streamed. A file of the same name is replaced only when the new one is complete.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from include import pipelines
from include.connections import WAREHOUSE_BI
from include.errors import MinutemarkError
from include.warehouse import bi_views
from include.warehouse.bi_views import View
from include.warehouse.session import warehouse
from include.warehouse.statements import Statements
from include.window import open_range

sql = Statements(__file__)

SUFFIX = ".hyper"
ROWS_AT_ONCE = 10_000
# Exact sums of more than 18 digits need this version. Tableau Desktop 2022.4.1, Server 2023.1 and later read it.
FILE_VERSION = "3"


class ExtractRefused(MinutemarkError):
    """An extract that cannot be written as requested; the message says what to change."""


def write(file: Path, views: list[View], start: datetime | None, end: datetime | None) -> dict[str, int]:
    """Write the hours of these views from `start` to `end` (excluded); None leaves a side open. Returns the rows per view.

    Raises ExtractRefused, WarehouseError.
    """
    hyper_api = _hyper_api()
    if file.suffix != SUFFIX or not file.parent.is_dir():
        raise ExtractRefused(
            f"FILE={file} cannot be written: name a file that ends in {SUFFIX}, in an existing folder."
        )
    partial_file = file.with_name(f".{file.name}.unfinished")
    try:
        with contextlib.ExitStack() as cleanup:
            with _hyper_file(hyper_api, partial_file, cleanup) as hyper, warehouse(WAREHOUSE_BI) as conn:
                cursor = conn.cursor()
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
                rows = {
                    view.name: _copy(hyper_api, hyper, view, _row_batches(conn, view, start, end)) for view in views
                }
            partial_file.replace(file)
    except hyper_api.HyperException as error:
        message = " ".join(str(error).split())
        raise ExtractRefused(
            f"FILE={file} cannot be written: {message}. If another extract is writing this file, wait until it ends. "
            "Otherwise free disk space, or name another folder."
        ) from error
    return rows


def chosen_views(names: str) -> list[View]:
    """The views with these names, separated by commas or spaces; all views if there are none. Raises ExtractRefused."""
    views = {view.name: view for view in bi_views.views_of_all(pipelines.all_pipelines().values())}
    view_names = re.split(r"[,\s]+", names.strip()) if names.strip() else list(views)
    if unknown := [name for name in view_names if name not in views]:
        raise ExtractRefused(
            f"VIEWS={names}: unknown {', '.join(unknown)}. Choose from the views for BI tools: {', '.join(views)}."
        )
    return [views[name] for name in view_names]


def _hyper_api():
    try:
        import tableauhyperapi
    except ImportError as error:
        raise ExtractRefused(
            f"Tableau's Hyper API is not installed here ({error}). Run `make tableau`, which installs it into a separate "
            "environment, or install dashboards/tableau/requirements.lock: the API has builds for Linux on x86-64, macOS and "
            "Windows."
        ) from error
    return tableauhyperapi


@contextlib.contextmanager
def _hyper_file(hyper_api, file: Path, cleanup: contextlib.ExitStack) -> Iterator[Any]:
    """The connection that fills a new file, which `cleanup` deletes. Hyper sends nothing to Tableau, and writes no log."""
    settings = {"log_config": "", "default_database_version": FILE_VERSION}
    telemetry = hyper_api.Telemetry.DO_NOT_SEND_USAGE_DATA_TO_TABLEAU
    with (
        hyper_api.HyperProcess(telemetry, parameters=settings) as process,
        hyper_api.Connection(process.endpoint, str(file), hyper_api.CreateMode.CREATE_AND_REPLACE) as connection,
    ):
        # Not earlier: Hyper refuses a file that another running extract is writing, and that file must stay.
        cleanup.callback(file.unlink, missing_ok=True)
        yield connection


def _row_batches(conn, view: View, start: datetime | None, end: datetime | None) -> Iterator[list[tuple]]:
    """The view's rows, ROWS_AT_ONCE at a time."""
    cursor = _streaming_cursor(conn)
    cursor.execute(sql("view_rows", view=view, start=start, end=end), {"start": start, "end": end})
    while rows := cursor.fetchmany(ROWS_AT_ONCE):
        yield rows
    cursor.close()


def _streaming_cursor(conn):
    """A cursor that leaves rows on the server until they are fetched; mysqlclient's default cursor fetches all of them."""
    if type(conn).__module__.startswith("MySQLdb"):
        from MySQLdb.cursors import SSCursor

        return conn.cursor(SSCursor)
    return conn.cursor()


def _copy(hyper_api, hyper, view: View, parts: Iterator[list[tuple]]) -> int:
    """Create the view's table and fill it; returns its number of rows."""
    database, name = view.name.split(".")
    hyper.catalog.create_schema_if_not_exists(database)
    table = hyper_api.TableDefinition(
        hyper_api.TableName(database, name),
        [
            hyper_api.TableDefinition.Column(column.name, _type(hyper_api, column.type), hyper_api.NOT_NULLABLE)
            for column in view.columns
        ],
    )
    hyper.catalog.create_table(table)
    number = 0
    with hyper_api.Inserter(hyper, table) as inserter:
        for rows in parts:
            inserter.add_rows(rows)
            number += len(rows)
        inserter.execute()
    return number


def _type(hyper_api, mysql_type: str):
    """Hyper's type for one of MySQL's."""
    kind, *sizes = re.findall(r"\w+", mysql_type)
    constructors = {
        "DATETIME": lambda *_: hyper_api.SqlType.timestamp(),
        "BIGINT": lambda *_: hyper_api.SqlType.big_int(),
        "DECIMAL": hyper_api.SqlType.numeric,
        "VARCHAR": lambda *_: hyper_api.SqlType.text(),
    }
    return constructors[kind](*map(int, sizes))


def main(arguments: list[str] | None = None) -> int:
    """`make tableau`; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="make tableau", description="Writes the views for BI tools to a Tableau extract."
    )
    parser.add_argument("--file", type=Path, required=True, help=f"file to write, which ends in {SUFFIX} (make: FILE=)")
    parser.add_argument("--views", default="", help="only these views (make: VIEWS=)")
    parser.add_argument("--from", dest="start", default="", help="first hour, UTC (make: FROM=)")
    parser.add_argument("--to", default="", help="end, UTC, not included (make: TO=)")
    args = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        rows = write(args.file, chosen_views(args.views), *open_range(args.start, args.to))
    except MinutemarkError as error:
        print(f"\n{error}", file=sys.stderr)
        return error.exit_status
    for name, number in rows.items():
        print(f"{name}: {number:,} rows")
    print(f"Wrote {args.file} ({args.file.stat().st_size:,} bytes) in {time.monotonic() - started:.1f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
