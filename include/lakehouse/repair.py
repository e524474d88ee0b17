"""Repairs a table that has lost files, or that has events of minutes that no merge has read. The next export writes the
minutes of lost files again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from include.durations import EPOCH, HOUR
from include.lakehouse import ledger
from include.lakehouse import table as tables
from include.lakehouse.settings import LakehouseError
from include.pipelines import Pipeline
from include.readings import YEARS
from include.warehouse import folded_hours
from include.warehouse.session import column, read
from include.warehouse.statements import Statements

sql = Statements(__file__)

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table


@dataclass(frozen=True)
class Lost:
    """The files and minutes that a table had lost; str() is the line for the task's log."""

    files: int
    minutes: int

    def __str__(self) -> str:
        return (
            f"{self.files} data files of the table are missing. The next exports write {self.minutes} minutes again, except "
            "closed ones."
        )


def drop_lost_files(conn, pipeline: Pipeline, table: Table) -> Lost:
    """Remove missing data files from the table's metadata; the minutes of their hours become due again."""
    files, minutes = [], 0
    for retry in tables.commit_retries(table):
        with retry:
            if files := list(lost_files(table)):
                minutes += _make_due(conn, pipeline, table, files)
                with table.transaction() as transaction, transaction.update_snapshot().overwrite() as snapshot:
                    for file in files:
                        snapshot.delete_data_file(file)
    return Lost(len(files), minutes)


def drop_unknown_minutes(conn, pipeline: Pipeline, table: Table, start: datetime, end: datetime) -> None:
    """Delete events of minutes from `start` to `end` (excluded) that no merge has read, hour by hour.

    A minute that is merged and written while this runs stays: the commit is refused, and the next attempt finds it in the ledger.
    """
    files = table.scan(row_filter=tables.between("minute", start, end)).plan_files()
    for hour in sorted({hour_of(task.file) for task in files}):
        first, last = max(start, hour), min(end, hour + HOUR)
        for retry in tables.commit_retries(table):
            with retry:
                unknown = _unknown_minutes(conn, pipeline, table, first, last)
                if unknown:
                    hours = tables.hours_of(pipeline, table, unknown)
                    ledger.mark_changed(conn, pipeline, hours)
                    table.delete(tables.within(unknown))
                    ledger.mark_changed(conn, pipeline, hours)


def lost_files(table: Table) -> Iterator[DataFile]:
    """The data files of the table's newest snapshot that are missing.

    Raises LakehouseError if a manifest is missing, or a file in another place cannot be looked up.

    The table's folder is listed once. Another engine may have added a file that is elsewhere.
    """
    import fsspec

    file_system, root = fsspec.core.url_to_fs(table.location())
    present = {tables.path_of(path) for path in file_system.find(root)}
    folder = tables.path_of(root).rstrip("/") + "/"
    try:
        tasks = list(table.scan().plan_files())
    except FileNotFoundError as error:
        name = ".".join(table.name())
        raise LakehouseError(
            f"Table {name} has lost the list of its files: {error}. {tables.DROP_TABLE_REMEDY}"
        ) from error
    for task in tasks:
        path = tables.path_of(task.file.file_path)
        if path not in present and (path.startswith(folder) or not _exists(task.file.file_path)):
            yield task.file


def _exists(url: str) -> bool:
    import fsspec

    try:
        file_system, path = fsspec.core.url_to_fs(url)
        return file_system.exists(path)
    except Exception as error:  # each file system has its own, such as for missing credentials
        raise LakehouseError(
            f"Data file {url} is not in the table's folder, and cannot be looked up: {error}. Install and configure the file "
            "system of its address here."
        ) from error


def hour_of(file: DataFile) -> datetime:
    """The hour of the file's partition."""
    return EPOCH + timedelta(hours=file.partition[0])


def _make_due(conn, pipeline: Pipeline, table: Table, files: list[DataFile]) -> int:
    """Make the minutes of these files due, and mark the hours of their events; returns how many minutes."""
    minutes = 0
    for hour in sorted({hour_of(file) for file in files}):
        minutes += ledger.record_lost(conn, pipeline, hour, hour + HOUR)
    for start, end in _event_hours(pipeline, table, files):
        ledger.mark_changed(conn, pipeline, ledger.hours_between(conn, pipeline, start, end))
    return minutes


def _unknown_minutes(conn, pipeline: Pipeline, table: Table, start: datetime, end: datetime) -> list[datetime]:
    span = tables.between("minute", start, end)
    minutes = table.scan(row_filter=span, selected_fields=("minute",)).to_arrow()["minute"].unique().to_pylist()
    known = read(conn, column, sql("merged_minutes"), {"pipeline": pipeline.name, "start": start, "end": end})
    return sorted(set(minutes) - set(known))


def _event_hours(pipeline: Pipeline, table: Table, files: list[DataFile]) -> Iterator[tuple[datetime, datetime]]:
    """For each file, the range of the fact's hours that it had events of; the end is excluded."""
    from pyiceberg.conversions import from_bytes
    from pyiceberg.types import TimestampType

    field = table.schema().find_field(pipeline.fact_time).field_id  # ty: ignore[invalid-argument-type]
    for file in files:
        if field in (file.lower_bounds or {}):
            first, last = (
                EPOCH + timedelta(microseconds=from_bytes(TimestampType(), bounds[field]))
                for bounds in (file.lower_bounds, file.upper_bounds)
            )
            # Events of other years are in no fact, and an hour after the year 9999 cannot be computed.
            start, end = max(first, datetime(YEARS.start, 1, 1)), min(last, datetime(YEARS.stop, 1, 1))
            yield folded_hours.hour_of(start), folded_hours.hour_of(end) + HOUR
