"""Counts hours from the table alone, and compares them with the fact of the warehouse: two independent counts of the same events.

The warehouse keeps merging while hours are counted. The comparison therefore leaves out the minutes whose newest merged read
is not in the table: their events on one side, their contributions on the other.

An hour that agrees gets a small Parquet file, named for its version, with the counts of all its events in the table: a
minute that is merged again counts as it was last written. An hour keeps its last file while it waits for a minute whose
newest merged read is not in the table: the minute is held, closed, skipped, not merged yet, lost from the table, or was not
written within 15 minutes of its merge. It also waits for a minute that has changed in the lake since its merged read. An
hour that differs is counted again.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from include.connections import LAKE_READER, WAREHOUSE_ETL
from include.durations import DAY, HOUR, utc_now
from include.errors import MinutemarkError
from include.lake import change_log
from include.lake.session import lake
from include.lakehouse import ledger, repair, table, turns
from include.lakehouse.hour_file import HourFile, folder_of
from include.lakehouse.settings import location
from include.pipelines import Pipeline
from include.warehouse import folded_hours
from include.warehouse.session import column, in_transaction, read, reading, rows, warehouse
from include.warehouse.sql import FOLDER
from include.warehouse.statements import Statements

if TYPE_CHECKING:
    import pyarrow

sql = Statements(__file__)

log = logging.getLogger(__name__)

MAX_HOURS = 240  # in one call
ATTEMPTS = 5  # to count hours while the table changes
_MAX_GAP = DAY  # hours at most this far apart share a search for files

Figures = Mapping[str, int]  # by measure
FiguresByHour = Mapping[datetime, Figures]


class HoursDiffer(MinutemarkError):
    """Hours whose counts differ between table and warehouse. The message names them, with both counts."""


class HoursNotCounted(MinutemarkError):
    """The table changed or lost files during every attempt to count hours. No difference is known."""


@dataclass(frozen=True)
class HourlyCount:
    """The counts of an hour, from the table."""

    hour: datetime
    version: int
    values: Mapping[str, int]  # by measure
    counted_at: datetime | None = field(default=None, repr=False)  # UTC; None: now


@dataclass(frozen=True)
class Comparison:
    """The figures of several hours in fact and table. A mapping has no entry for an hour without rows on its side."""

    of_fact: FiguresByHour  # without minutes that are not current
    of_table: FiguresByHour  # without these minutes, too
    published: FiguresByHour  # of all events in the table, except those that are too far ahead
    waits: Mapping[datetime, Mapping[datetime, str]]  # by hour: minutes that it waits for, with the reason
    days: Collection[date]  # of the minutes that the table has events of


def count(pipeline: Pipeline, max_hours: int = MAX_HOURS) -> list[HourlyCount]:
    """Count hours that changed, and write their files.

    Raises HoursDiffer if the warehouse has different figures, after the other hours are written, and HoursNotCounted if
    the table changes or loses files during every attempt.
    """
    with warehouse(WAREHOUSE_ETL) as conn:
        due = {row["hour"]: row["changes"] for row in turns.take(conn, pipeline, turns.COUNT, max_hours)}
        if not due:
            return []
        comparison = compare(conn, pipeline, due)
        none = dict.fromkeys(pipeline.lakehouse.measures, 0)
        unequal = {hour for hour in due if comparison.of_fact.get(hour, none) != comparison.of_table.get(hour, none)}
        if unequal:
            # Events may have been rewritten with the same ids before they were exported: the ledger cannot show this.
            with lake(LAKE_READER) as session:
                changed = changed_in_lake(session, conn, pipeline, unequal, comparison.days)
            without_changed = compare(conn, pipeline, unequal, changed=changed)
        counted, waiting, differing = [], [], {}
        for hour, version in sorted(due.items()):
            figures = without_changed if hour in unequal else comparison
            of_fact, of_table = figures.of_fact.get(hour, none), figures.of_table.get(hour, none)
            hour_count = HourlyCount(hour, version, figures.published.get(hour, none))
            if of_table != of_fact:
                differing[hour] = (
                    f"{hour:%Y-%m-%d %H:%M}: {_list_text(of_table)} in the lakehouse, {_list_text(of_fact)} in the warehouse"
                )
            elif minutes := figures.waits.get(hour):
                waiting.append(hour_count)
                log.info("Hour %s keeps its last count: %s", f"{hour:%Y-%m-%d %H:%M}", waiting_text(minutes))
            else:
                counted.append(hour_count)
        for hour_count in counted:
            write_file(pipeline, hour_count)
        in_transaction(
            conn, lambda cursor: _record(cursor, pipeline, counted, waiting, {hour: due[hour] for hour in differing})
        )
    if differing:
        raise HoursDiffer(
            f"Hours of {pipeline.lakehouse.table} with different counts in the lakehouse and the warehouse: {len(differing)}. "
            f"{'; '.join([*differing.values()][:5])}. The next run counts them again. If they still differ, run "
            f"`./minutemark verify {pipeline.name}` to see which side is wrong."
        )
    return counted


def compare(
    conn,
    pipeline: Pipeline,
    hours: Collection[datetime],
    *,
    read_only: bool = False,
    changed: Collection[datetime] = (),
    lost: Collection[str] = (),
) -> Comparison:
    """The figures of these hours in the fact and in the table. `changed` are further minutes to wait for.

    `lost` are paths of data files that are known to be missing: the table is read without them. Any other missing file is
    removed from the table, or, with `read_only`, raises FileNotFoundError. Table and fact have no common snapshot, so a commit
    in between restarts the comparison. Raises HoursNotCounted if no attempt succeeds.
    """
    name, losses = pipeline.lakehouse.table, []
    for _ in range(ATTEMPTS):
        events = table.find(pipeline) if read_only else table.table(pipeline)
        snapshot = events.current_snapshot()
        try:
            with duckdb_over(pipeline, events, hours, lost) as connection:
                # The minutes that the table has events of, each with the hour of the fact.
                in_table = connection.execute(sql("minutes_in", fact_time=pipeline.fact_time)).fetchall()
                of_fact, left_out, ahead, waits = _figures_of_fact(conn, pipeline, hours, in_table, changed)
                _leave_out(connection, ahead)
                published = _count_by_hour(connection, pipeline)
                _leave_out(connection, left_out)
                of_table = _count_by_hour(connection, pipeline) if left_out else published
        except FileNotFoundError as error:
            if read_only:
                raise
            log.warning("%s. %s", error, repair.drop_lost_files(conn, pipeline, events))  # ty: ignore[invalid-argument-type]
            losses.append(error)
            continue
        if events.refresh().current_snapshot() == snapshot:
            return Comparison(of_fact, of_table, published, waits, {minute.date() for minute, _ in in_table})
    if losses:
        raise HoursNotCounted(
            f"{name}: data files, such as {losses[-1]}, were missing in {len(losses)} of {ATTEMPTS} attempts to count its hours. "
            f"The next runs write their minutes again. If this happens again, find out what deletes files under {location()}."
        )
    raise HoursNotCounted(
        f"{name} was written in each of {ATTEMPTS} attempts to count its hours. The next run counts them again."
    )


def waiting_text(minutes: Mapping[datetime, str]) -> str:
    """The first minute that an hour waits for, with the reason, and how many more there are."""
    texts = {
        "due": "is not in the lakehouse yet",
        "seen": "is not merged yet",
        "held": "is held, and its merged read is not in the lakehouse",
        "closed": "is closed, and its merged read is not in the lakehouse",
        "changed": "has changed in the lake since its merged read",
        "skipped": "lost rows in the lake before they were written to the lakehouse",
    }
    first = min(minutes)
    others = f"; {len(minutes) - 1} more minute{'' if len(minutes) == 2 else 's'}" if len(minutes) > 1 else ""
    return f"minute {first:%Y-%m-%d %H:%M} {texts[minutes[first]]}{others}."


def write_file(pipeline: Pipeline, hour_count: HourlyCount) -> None:
    """Write one row: hour, version, the counts, and when they were counted. Times are UTC."""
    import fsspec
    import pyarrow
    import pyarrow.parquet

    row = {
        "hour": hour_count.hour.replace(tzinfo=UTC),
        "attempt": hour_count.version,
        **hour_count.values,
        "counted_at": (hour_count.counted_at or utc_now()).replace(tzinfo=UTC),
    }
    types = dict.fromkeys(("hour", "counted_at"), pyarrow.timestamp("us", tz="UTC"))
    schema = pyarrow.schema([(name, types.get(name, pyarrow.int64())) for name in row])
    with fsspec.open(HourFile.of(pipeline, hour_count.hour, hour_count.version).url, "wb", auto_mkdir=True) as file:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row], schema=schema), file)


def read_files(pipeline: Pipeline, counted: Mapping[datetime, int]) -> dict[datetime, dict[str, int]]:
    """The counts in the files of these hours and versions, for files that exist and can be read, with all declared measures."""
    import fsspec
    import pyarrow
    import pyarrow.parquet

    file_system, root = fsspec.core.url_to_fs(folder_of(pipeline))
    paths = {table.path_of(path): path for path in file_system.find(root)}
    files_by_hour = {}
    for hour, version in counted.items():
        path = paths.get(table.path_of(HourFile.of(pipeline, hour, version).url))
        if path is None:
            continue
        try:
            with file_system.open(path, "rb") as file:
                [row] = pyarrow.parquet.read_table(file).to_pylist()
            is_version = (row["hour"], row["attempt"]) == (hour.replace(tzinfo=UTC), version)
            values = {name: row[name] for name in pipeline.lakehouse.measures}
        except (pyarrow.ArrowException, ValueError, KeyError, OSError):  # KeyError: a measure that was declared later
            continue
        if is_version:
            files_by_hour[hour] = values
    return files_by_hour


def _record(
    cursor,
    pipeline: Pipeline,
    counted: Iterable[HourlyCount],
    waiting: Iterable[HourlyCount],
    differing: Mapping[datetime, int],
) -> None:
    for hour_count in counted:
        counts = json.dumps(hour_count.values)
        cursor.execute(
            sql("counted"),
            {"pipeline": pipeline.name, "hour": hour_count.hour, "version": hour_count.version, "counts": counts},
        )
    for hour_count in waiting:
        binds = {"pipeline": pipeline.name, "hour": hour_count.hour, "version": hour_count.version}
        cursor.execute(sql("waited"), binds)
    for hour, version in sorted(differing.items()):
        cursor.execute(sql("differs"), {"pipeline": pipeline.name, "hour": hour, "version": version})


def _figures_of_fact(
    conn,
    pipeline: Pipeline,
    hours: Collection[datetime],
    in_table: Collection[tuple[datetime, datetime]],
    changed: Collection[datetime],
) -> tuple[FiguresByHour, set[datetime], set[datetime], Mapping[datetime, Mapping[datetime, str]]]:
    """The fact's figures by hour without minutes that are not current; those minutes; minutes too far ahead; waits by hour.

    `in_table` are the minutes with events of these hours in the table, each with the hour. A folded hour is left out as a
    whole. Reads one snapshot.
    """
    fact = pipeline.lakehouse_fact
    names = pipeline.lakehouse.measures
    binds = {"pipeline": pipeline.name, "hours": sorted(hours), "changed": list(changed)}
    with reading(conn) as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        figures = {
            row["hour"]: {name: int(row[name]) for name in names}
            for row in rows(cursor, sql("figures", fact=fact, measures=names), binds)
        }
        query = sql("contributions", fact=fact, measures=names, is_current=ledger.sql("is_current"))
        contributions = rows(cursor, query, binds)
        minutes_of = {
            row["minute"]: folded_hours.minutes_of(row["minute"]) if row["folded"] else [row["minute"]]
            for row in contributions
        }
        minutes = {minute for minute, _ in in_table}.union(*minutes_of.values())
        not_current = ledger.not_current(cursor, pipeline, minutes)
    not_current = dict.fromkeys(changed, "changed") | not_current
    ahead = {minute for minute, reason in not_current.items() if reason == "ahead"}
    for minute in ahead:
        del not_current[minute]
    left_out = set(not_current)
    waits: dict[datetime, dict[datetime, str]] = defaultdict(dict)

    def wait(hour: datetime, minutes: Iterable[datetime]) -> None:
        for minute in minutes:
            if reason := not_current.get(minute):
                waits[hour][minute] = reason

    for minute, hour in in_table:
        wait(hour, [minute])
    for row in contributions:
        minutes = minutes_of[row["minute"]]
        if not left_out.isdisjoint(minutes):
            left_out.update(minutes)
            wait(row["hour"], minutes)
            figure = figures.setdefault(row["hour"], dict.fromkeys(names, 0))
            for name in names:
                figure[name] -= int(row[name])
    return figures, left_out, ahead, waits


def changed_in_lake(
    session, conn, pipeline: Pipeline, hours: Collection[datetime], days: Collection[date]
) -> set[datetime]:
    """Minutes that have changed in the lake since their merged read, on these days and on days that contribute to the fact."""
    query = sql("contributing_days", fact=pipeline.lakehouse_fact)
    contributing = read(conn, column, query, {"hours": list(hours)})
    touches = [change_log.minutes_of_day(session, pipeline.lake_table, day) for day in {*days, *contributing}]
    return set().union(*(ledger.changed_since_read(conn, pipeline, of_day) for of_day in touches if of_day))


def _leave_out(connection, minutes: Collection[datetime]) -> None:
    import pyarrow

    values = pyarrow.table({"minute": pyarrow.array(sorted(minutes), pyarrow.timestamp("us"))})
    connection.register("minutes", values)
    connection.execute("INSERT INTO left_out SELECT minute FROM minutes")


def _count_by_hour(connection, pipeline: Pipeline) -> FiguresByHour:
    query = (FOLDER / pipeline.name / "lakehouse" / f"{pipeline.lakehouse.fact}.sql").read_text(encoding="utf-8")
    cursor = connection.execute(query)
    names = [column[0] for column in cursor.description]
    records = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return {row.pop("hour"): row for row in records}


@contextmanager
def duckdb_over(pipeline: Pipeline, events, hours: Collection[datetime], lost: Collection[str] = ()) -> Iterator:
    """A DuckDB connection whose view `events` is the table's events of these hours, without the minutes in `left_out`.

    Minutes before the pipeline's `earliest` and the files `lost` are left out, too.
    """
    import duckdb
    import pyarrow

    tasks = {
        task.file.file_path: task
        for task in events.scan(row_filter=_within(pipeline, hours)).plan_files()
        if task.file.file_path not in lost
    }
    connection = duckdb.connect()
    try:
        connection.register("wanted", pyarrow.table({"hour": pyarrow.array(hours, pyarrow.timestamp("us"))}))
        connection.execute("CREATE TABLE left_out (minute TIMESTAMP)")
        # Another engine may have deleted rows that the files still contain.
        if any(task.delete_files for task in tasks.values()):
            connection.register("files", _rows_left(pipeline, events, hours, tasks.values()))
        elif tasks:
            connection.read_parquet(_names_for_duckdb(connection, sorted(tasks)), union_by_name=True).create_view(
                "files"
            )
        else:
            connection.register("files", events.schema().as_arrow().empty_table())
        earliest = f"{pipeline.earliest:%Y-%m-%d %H:%M:%S}"
        connection.execute(sql("events", fact_time=pipeline.fact_time, earliest=earliest))
        yield connection
    finally:
        connection.close()


def _rows_left(pipeline: Pipeline, events, hours: Collection[datetime], tasks: Iterable) -> pyarrow.Table:
    """The rows of these hours without deleted ones, read in batches so that the hours in between do not fill up memory."""
    import pyarrow
    from pyarrow import compute
    from pyiceberg.io.pyarrow import ArrowScan

    values = pyarrow.array(hours, pyarrow.timestamp("us"))
    batches = []
    scan = ArrowScan(events.metadata, events.io, events.schema(), _within(pipeline, hours))
    schema = events.schema().as_arrow()
    # Files of another engine may use a different string type than pyiceberg's files.
    for batch in pyarrow.RecordBatchReader.from_batches(schema, scan.to_record_batches(tasks)).cast(schema):
        # pyarrow makes these functions when the module is loaded.
        hour = compute.floor_temporal(batch[pipeline.fact_time], unit="hour")  # ty: ignore[missing-attribute]
        batches.append(batch.filter(compute.is_in(hour, value_set=values)))  # ty: ignore[missing-attribute]
    return pyarrow.Table.from_batches(batches, schema)


def _within(pipeline: Pipeline, hours: Collection[datetime]):
    """The expression that is true for events of the spans of these hours. One scan with it reads each manifest once."""
    from pyiceberg.expressions import AlwaysFalse, Or

    return Or(AlwaysFalse(), *(table.between(pipeline.fact_time, *span) for span in _spans(hours)))  # ty: ignore[invalid-argument-type]


def _spans(hours: Collection[datetime]) -> Iterator[tuple[datetime, datetime]]:
    """The hours as few ranges, so that an event with an ancient time does not cause a search of everything since then."""
    ordered = sorted(hours)
    start = last = ordered[0]
    for hour in ordered[1:]:
        if hour - last > _MAX_GAP:
            yield start, last + HOUR
            start = hour
        last = hour
    yield start, last + HOUR


def _names_for_duckdb(connection, files: list[str]) -> list[str]:
    """The names of the files for DuckDB, which reads those in a bucket through fsspec.

    Raises FileNotFoundError, as every other reader of the table does; DuckDB itself would raise a different exception.
    """
    import fsspec

    scheme = files[0].partition("://")[0]
    system = fsspec.filesystem(scheme)
    for file in files:
        if not system.exists(file):
            raise FileNotFoundError(file)
    if scheme == "file":
        return [file.removeprefix("file://") for file in files]
    connection.register_filesystem(system)
    return files


def _list_text(values: Mapping[str, int]) -> str:
    return " and ".join(f"{value:,} {name}" for name, value in values.items())
