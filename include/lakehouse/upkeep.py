"""Upkeep of the table: compacts small files of old hours, expires snapshots, deletes files that no snapshot references.

Also deletes files of hourly counts that a later version has replaced.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from include.connections import WAREHOUSE_ETL
from include.durations import HOUR, utc_now
from include.lakehouse import repair
from include.lakehouse import table as tables
from include.lakehouse.hour_file import HourFile, folder_of
from include.lakehouse.settings import LakehouseError
from include.pipelines import Pipeline
from include.warehouse.session import rows, warehouse

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

log = logging.getLogger(__name__)

COMPACTED_AFTER = timedelta(hours=2)  # by then most late minutes of an hour are written
MAX_FILES = 4  # hours with no more files than this are left as they are
SMALL = 1 << 20  # bytes: hours whose files are larger on average are left as they are
MAX_ROWS = 2_000_000  # in an hour that is compacted: it is read into memory
MAX_HOURS = 24  # in one call
# How long replaced snapshots are kept (for readers), and unreferenced files (for commits in progress). pyiceberg copies all
# snapshots several times in each commit: with those of a day, 1,440 or more, each commit would take seconds.
KEPT = timedelta(hours=2)


@dataclass(frozen=True)
class Upkeep:
    """What was done; str() is the line for the task's log."""

    hours: int
    snapshots: int
    files: int

    def __str__(self) -> str:
        return f"{self.hours} hours compacted, {self.snapshots} snapshots expired, {self.files} files deleted."


def upkeep(pipeline: Pipeline, *, now: datetime | None = None, kept: timedelta = KEPT) -> Upkeep:
    """Compact, expire, then delete; `now` is UTC. The next call continues where this one stops."""
    from pyiceberg.exceptions import CommitFailedException, ValidationException

    now = now or utc_now()
    table, compacted = tables.table(pipeline), 0
    try:
        for hour in [hour for hour in _scattered_hours(table) if hour < now - COMPACTED_AFTER][:MAX_HOURS]:
            try:
                _compact(table, hour)
                compacted += 1
            except (CommitFailedException, ValidationException) as error:  # an export has just written this hour
                log.info("Hour %s stays as it is until the next upkeep: %s", hour, error)
                table.refresh()
    except FileNotFoundError as error:
        with warehouse(WAREHOUSE_ETL) as conn:
            log.warning("%s. %s", error, repair.drop_lost_files(conn, pipeline, table))
    for retry in tables.commit_retries(table):
        with retry:
            before = len(table.snapshots())
            table.maintenance.expire_snapshots().older_than(_committed_at(table, now - kept)).commit()
            expired = before - len(table.snapshots())
    files = _delete_unreferenced(table, now - kept) + _delete_outdated_counts(pipeline, now - kept)
    return Upkeep(compacted, expired, files)


def _scattered_hours(table: Table) -> list[datetime]:
    """Hours whose partition has many small files, those with the most files first."""
    files: dict[datetime, list[DataFile]] = defaultdict(list)
    for task in table.scan().plan_files():
        files[repair.hour_of(task.file)].append(task.file)
    return sorted(filter(lambda hour: _is_scattered(files[hour]), files), key=lambda hour: -len(files[hour]))


def _is_scattered(files: list[DataFile]) -> bool:
    size = sum(file.file_size_in_bytes for file in files)
    rows_of_hour = sum(file.record_count for file in files)
    return len(files) > MAX_FILES and size < len(files) * SMALL and rows_of_hour <= MAX_ROWS


def _committed_at(table: Table, time: datetime) -> datetime:
    """The commit time of the snapshot that was newest at `time`. Readers may have loaded it until then."""
    until = time.replace(tzinfo=UTC).timestamp() * 1000
    newest = [entry.snapshot_id for entry in table.history() if entry.timestamp_ms <= until][-1:]
    for snapshot in map(table.snapshot_by_id, newest):
        if snapshot:
            return datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC).replace(tzinfo=None)
    return time


def _compact(table: Table, hour: datetime) -> None:
    in_hour = tables.between("minute", hour, hour + HOUR)
    table.overwrite(table.scan(row_filter=in_hour).to_arrow().sort_by("minute"), overwrite_filter=in_hour)


def _delete_unreferenced(table: Table, before: datetime) -> int:
    """Delete files under the table's location that its metadata does not reference and that are older than `before`."""
    import fsspec

    referenced = {tables.path_of(name) for name in _referenced_files(table)}
    file_system, root = fsspec.core.url_to_fs(table.location())
    present = file_system.find(root)
    if tables.path_of(table.metadata_location) not in map(tables.path_of, present):
        raise LakehouseError(
            f"Listing {table.location()} does not return {table.metadata_location}, the table's metadata. Nothing was deleted. "
            "Check that the files can be listed, and that the location is spelled as the file system lists it."
        )
    deleted = 0
    for path in present:
        if tables.path_of(path) not in referenced and _modified_at(file_system, path) < before:
            file_system.rm_file(path)
            deleted += 1
    return deleted


def _delete_outdated_counts(pipeline: Pipeline, before: datetime) -> int:
    """Delete the files of hourly counts that a later version has replaced and that are older than `before`."""
    import fsspec

    file_system, root = fsspec.core.url_to_fs(folder_of(pipeline))
    with warehouse(WAREHOUSE_ETL) as conn:
        counted = rows(
            conn.cursor(),
            "SELECT hour, counted_change FROM etl.lakehouse_hours WHERE pipeline = %(pipeline)s AND counted_change IS NOT NULL",
            {"pipeline": pipeline.name},
        )
    newest = {
        tables.path_of(HourFile.of(pipeline, row["hour"], row["counted_change"]).url): row["counted_change"]
        for row in counted
    }
    folders = {path.rpartition("/")[0]: version for path, version in newest.items()}
    deleted = 0
    for path in file_system.find(root):
        folder, _, name = tables.path_of(path).rpartition("/")
        version = name.removesuffix(".parquet")
        if (
            folder in folders
            and version.isdecimal()
            and int(version) < folders[folder]
            and _modified_at(file_system, path) < before
        ):
            file_system.rm_file(path)
            deleted += 1
    return deleted


def _referenced_files(table: Table) -> Iterator[str]:
    """Every file that the table's metadata references, and the metadata file itself."""
    yield table.metadata_location
    yield from (entry.metadata_file for entry in table.metadata.metadata_log)
    # Other engines write statistics.
    yield from (file.statistics_path for file in (*table.metadata.statistics, *table.metadata.partition_statistics))
    manifests = {}  # by path: most snapshots share most of them, and each is read once
    for snapshot in table.snapshots():
        yield snapshot.manifest_list
        manifests |= {manifest.manifest_path: manifest for manifest in snapshot.manifests(table.io)}
    for path, manifest in manifests.items():
        yield path
        yield from (
            entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
        )


def _modified_at(file_system, path: str) -> datetime:
    modified_at = file_system.modified(path)  # in a listing, each file system names this time differently
    return modified_at.astimezone(UTC).replace(tzinfo=None)
