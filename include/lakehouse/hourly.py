"""Counts of hours from the table alone, compared with the fact of the warehouse: two independent ways to one number.

The warehouse keeps merging while hours are counted. Both sides therefore leave out the minutes whose newest merged read is
not in the table: the query leaves out their events, the fact their contributions. An hour that agrees gets a small Parquet
file, named for its attempt; one that differs is counted again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from include.connections import WAREHOUSE_ETL
from include.lakehouse import table
from include.lakehouse.hour_file import HourFile
from include.pipelines import Pipeline
from include.warehouse.session import in_transaction, rows, warehouse
from include.warehouse.sql import FOLDER

MOST_HOURS = 240  # of one call
HOUR = timedelta(hours=1)
_MARK = (
    "INSERT INTO etl.lakehouse_hours (pipeline, hour) VALUES (%(pipeline)s, %(hour)s) "
    "ON DUPLICATE KEY UPDATE changes = changes + 1"
)
_DUE = (
    "SELECT hour, changes FROM etl.lakehouse_hours FORCE INDEX (hours_to_count) "
    "WHERE pipeline = %(pipeline)s AND to_count = 1 ORDER BY hour DESC LIMIT %(most)s"
)
_COUNTED = (
    "UPDATE etl.lakehouse_hours SET counted_change = %(attempt)s, counts = %(counts)s, counted_at = CURRENT_TIMESTAMP(6) "
    "WHERE pipeline = %(pipeline)s AND hour = %(hour)s AND COALESCE(counted_change, 0) <= %(attempt)s"
)


class HoursDiffer(RuntimeError):
    """Hours that the table counts otherwise than the warehouse. The message names them, with both counts."""


@dataclass(frozen=True)
class HourlyCount:
    """An hour as the table counts it."""

    hour: datetime
    attempt: int
    values: Mapping[str, int]  # by measure


def hours_of(events, minutes: Collection[datetime]) -> set[datetime]:
    """The hours of the fact that the table's events of these minutes belong to."""
    found = events.scan(row_filter=table.within(minutes), selected_fields=("event_time",)).to_arrow()
    return {time.replace(minute=0, second=0, microsecond=0) for time in found["event_time"].to_pylist() if time}


def mark(cursor, pipeline: Pipeline, hours: Iterable[datetime]) -> None:
    """These hours are to be counted."""
    for hour in sorted(hours):
        cursor.execute(_MARK, {"pipeline": pipeline.name, "hour": hour})


def count(pipeline: Pipeline) -> list[HourlyCount]:
    """Count the hours that changed, newest first, and write their files.

    Raises HoursDiffer where the warehouse has other figures, after the other hours are written.
    """
    with warehouse(WAREHOUSE_ETL) as conn:
        due = {
            row["hour"]: row["changes"]
            for row in rows(conn.cursor(), _DUE, {"pipeline": pipeline.name, "most": MOST_HOURS})
        }
        conn.rollback()
        if not due:
            return []
        expected, left_out = _expected(conn, pipeline, due)
        found = _counted(pipeline, table.table(pipeline), due, left_out)
        none = dict.fromkeys(pipeline.lakehouse.measures, 0)
        counted, differing = [], []
        for hour, attempt in sorted(due.items()):
            one = HourlyCount(hour, attempt, found.get(hour, none))
            if one.values == expected.get(hour, none):
                counted.append(one)
            else:
                published = _listed(expected.get(hour, none))
                differing.append(
                    f"{hour:%Y-%m-%d %H:%M}: {_listed(one.values)} in the lakehouse, {published} in the warehouse"
                )
        for one in counted:
            write_file(pipeline, one)
        in_transaction(conn, lambda cursor: _note(cursor, pipeline, counted))
    if differing:
        raise HoursDiffer(
            f"{len(differing)} hours of {pipeline.lakehouse.table} are counted differently. "
            f"{'; '.join(differing[:5])}. The next run counts them again. If they still differ, run "
            f"`make verify PIPELINE={pipeline.name}` to see which side is wrong."
        )
    return counted


def write_file(pipeline: Pipeline, one: HourlyCount) -> None:
    """One row: hour, attempt, the counts, and when they were counted. Times are UTC."""
    import fsspec
    import pyarrow
    import pyarrow.parquet

    row = {"hour": one.hour.replace(tzinfo=UTC), "attempt": one.attempt, **one.values, "counted_at": datetime.now(UTC)}
    types = dict.fromkeys(("hour", "counted_at"), pyarrow.timestamp("us", tz="UTC"))
    schema = pyarrow.schema([(name, types.get(name, pyarrow.int64())) for name in row])
    with fsspec.open(HourFile.of(pipeline, one.hour, one.attempt).url, "wb", auto_mkdir=True) as file:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row], schema=schema), file)


def _note(cursor, pipeline: Pipeline, counted: Iterable[HourlyCount]) -> None:
    for one in counted:
        counts = json.dumps(one.values)
        cursor.execute(
            _COUNTED, {"pipeline": pipeline.name, "hour": one.hour, "attempt": one.attempt, "counts": counts}
        )


def _expected(
    conn, pipeline: Pipeline, hours: Collection[datetime]
) -> tuple[dict[datetime, dict[str, int]], set[datetime]]:
    """The fact's figures by hour without minutes that the table does not have, and those minutes; one snapshot."""
    fact = next(one for one in pipeline.facts if one.name == pipeline.lakehouse.fact)
    names = pipeline.lakehouse.measures
    measures = ", ".join(names)
    binds = {"pipeline": pipeline.name, "hours": tuple(sorted(hours))}
    cursor = conn.cursor()
    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    figures = {
        row["hour"]: {name: int(row[name]) for name in names}
        for row in rows(cursor, f"SELECT hour, {measures} FROM {fact.table} WHERE hour IN %(hours)s", binds)
    }
    missing = rows(
        cursor,
        f"SELECT c.minute, c.hour, {measures} FROM {fact.contributions} AS c JOIN etl.minute_ledger AS l "
        "ON l.pipeline = %(pipeline)s AND l.minute = c.minute AND NOT l.attempt <=> l.lakehouse_attempt "
        "WHERE c.hour IN %(hours)s",
        binds,
    )
    outdated = rows(
        cursor,
        "SELECT minute FROM etl.minute_ledger FORCE INDEX (lakehouse_minutes) WHERE pipeline = %(pipeline)s "
        "AND to_lakehouse = 1 AND lakehouse_attempt IS NOT NULL",
        binds,
    )
    conn.rollback()
    for row in missing:
        figure = figures.setdefault(row["hour"], dict.fromkeys(names, 0))
        for name in names:
            figure[name] -= int(row[name])
    return figures, {row["minute"] for row in (*missing, *outdated)}


def _counted(
    pipeline: Pipeline, events, hours: Collection[datetime], left_out: Collection[datetime]
) -> dict[datetime, dict[str, int]]:
    query = (FOLDER / pipeline.name / "lakehouse" / f"{pipeline.lakehouse.fact}.sql").read_text(encoding="utf-8")
    with duckdb_over(events, hours, left_out) as connection:
        cursor = connection.execute(query)
        names = [column[0] for column in cursor.description]
        found = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return {row.pop("hour"): row for row in found}


@contextmanager
def duckdb_over(events, hours: Collection[datetime], left_out: Collection[datetime] = ()) -> Iterator:
    """A DuckDB connection whose view `events` is the table's events of these hours, without those of some minutes."""
    import duckdb
    import pyarrow
    from pyiceberg.expressions import And, GreaterThanOrEqual, LessThan

    first, last = min(hours), max(hours) + HOUR
    span = And(GreaterThanOrEqual("event_time", first.isoformat()), LessThan("event_time", last.isoformat()))
    files = [task.file.file_path for task in events.scan(row_filter=span).plan_files()]
    connection = duckdb.connect()
    try:
        connection.register("wanted", pyarrow.table({"hour": pyarrow.array(hours, pyarrow.timestamp("us"))}))
        connection.register("left_out", pyarrow.table({"minute": pyarrow.array(left_out, pyarrow.timestamp("us"))}))
        if files:
            connection.read_parquet(_readable(connection, files)).create_view("files")
        else:
            connection.register("files", events.schema().as_arrow().empty_table())
        connection.execute(
            "CREATE VIEW events AS SELECT * FROM files WHERE date_trunc('hour', event_time) IN (SELECT hour FROM wanted) "
            "AND minute NOT IN (SELECT minute FROM left_out)"
        )
        yield connection
    finally:
        connection.close()


def _readable(connection, files: list[str]) -> list[str]:
    """The files as DuckDB takes them; those of a bucket it reads through fsspec."""
    import fsspec

    scheme = files[0].partition("://")[0]
    if scheme == "file":
        return [file.removeprefix("file://") for file in files]
    connection.register_filesystem(fsspec.filesystem(scheme))
    return files


def _listed(values: Mapping[str, int]) -> str:
    return " and ".join(f"{value:,} {name}" for name, value in values.items())
