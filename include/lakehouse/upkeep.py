"""Upkeep of the table: old hours become one file, snapshots expire, and files that no snapshot names are deleted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from include.lakehouse import table as tables
from include.pipelines import Pipeline

if TYPE_CHECKING:
    from pyiceberg.table import Table

COMPACTED_AFTER = timedelta(hours=2)  # by then most late minutes of an hour are written
MOST_FILES = 4  # of an hour that is left as it is
MOST_HOURS = 24  # of one call
KEPT = timedelta(days=1)  # of snapshots, for readers and for time travel; of unnamed files, for commits under way
_EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True)
class Upkeep:
    """What was done; str() is the line for the task's log."""

    hours: int
    snapshots: int
    files: int

    def __str__(self) -> str:
        return f"{self.hours} hours compacted, {self.snapshots} snapshots expired, {self.files} files deleted."


def upkeep(pipeline: Pipeline, *, now: datetime | None = None, kept: timedelta = KEPT) -> Upkeep:
    """Compact, expire, then delete; `now` is UTC. What a call does not reach, the next one does."""
    now = now or datetime.now(UTC).replace(tzinfo=None)
    table = tables.table(pipeline)
    hours = [hour for hour in _scattered_hours(table) if hour < now - COMPACTED_AFTER][:MOST_HOURS]
    for hour in hours:
        _compact(table, hour)
    before = len(table.snapshots())
    table.maintenance.expire_snapshots().older_than(now - kept).commit()
    expired = before - len(table.snapshots())
    return Upkeep(len(hours), expired, sum(1 for _ in _deleted(table, now - kept)))


def _scattered_hours(table: Table) -> list[datetime]:
    """Hours of the partition that have many files, the one with most files first."""
    files = Counter(task.file.partition[0] for task in table.scan().plan_files())
    return [_EPOCH + timedelta(hours=hour) for hour, number in files.most_common() if number > MOST_FILES]


def _compact(table: Table, hour: datetime) -> None:
    from pyiceberg.expressions import And, GreaterThanOrEqual, LessThan

    of_hour = And(
        GreaterThanOrEqual("minute", hour.isoformat()), LessThan("minute", (hour + timedelta(hours=1)).isoformat())
    )
    table.overwrite(table.scan(row_filter=of_hour).to_arrow().sort_by("minute"), overwrite_filter=of_hour)


def _deleted(table: Table, before: datetime) -> Iterator[str]:
    """Delete files below the table's location that no snapshot names and that are older; yields their paths."""
    import fsspec

    named = {_path(name) for name in _named(table)}
    files, root = fsspec.core.url_to_fs(table.location())
    for path, entry in files.find(root, detail=True).items():
        if _path(path) not in named and _changed(entry) < before:
            files.rm_file(path)
            yield path


def _named(table: Table) -> Iterator[str]:
    """Every file that the table's metadata names, itself included."""
    yield table.metadata_location
    yield from (entry.metadata_file for entry in table.metadata.metadata_log)
    for snapshot in table.snapshots():
        yield snapshot.manifest_list
        for manifest in snapshot.manifests(table.io):
            yield manifest.manifest_path
            yield from (
                entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
            )


def _path(url: str) -> str:
    return url.partition("://")[2] or url


def _changed(entry: dict) -> datetime:
    """Of a local file seconds, of an object in a bucket a time or its text."""
    found = entry.get("mtime", entry.get("updated"))
    if isinstance(found, str):
        found = datetime.fromisoformat(found)
    if isinstance(found, datetime):
        return found.astimezone(UTC).replace(tzinfo=None)
    return datetime.fromtimestamp(found, UTC).replace(tzinfo=None)
