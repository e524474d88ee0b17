"""A partition of the lake that cannot be read: it has more deleted rows than the tests' node skips in a read."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from datetime import datetime

from include.pipelines import Pipeline
from tests.lake.conftest import event_id

TOMBSTONES_READ = 5_000  # tombstone_failure_threshold of the tests' node
_DELETED_AT_ONCE = 500


@contextlib.contextmanager
def unreadable_partition(writer, pipeline: Pipeline, minute: datetime, shard: int) -> Iterator[None]:
    """Make such a partition; at exit, a newer deletion of the whole partition makes it empty and readable."""
    delete = writer.prepare(f"DELETE FROM {pipeline.lake_table} WHERE minute = ? AND shard = ? AND create_time IN ?")
    # On both sides of the ids that a test creates in this minute: readers query only the milliseconds of these events.
    center = event_id(str(minute))
    ids = [uuid.UUID(int=center.int + (step << 96)) for step in range(-2 * TOMBSTONES_READ, 2 * TOMBSTONES_READ)]
    for start in range(0, len(ids), _DELETED_AT_ONCE):
        writer.execute(delete, (minute, shard, ids[start : start + _DELETED_AT_ONCE]))
    try:
        yield
    finally:
        writer.execute(f"DELETE FROM {pipeline.lake_table} WHERE minute = %s AND shard = %s", (minute, shard))
