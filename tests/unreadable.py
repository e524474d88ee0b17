"""A partition of the lake that cannot be read: it has more deleted rows than the tests' node reads past."""

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
    # All around the ids that a test makes in this minute: readers ask for the milliseconds of their events alone.
    around = event_id(str(minute))
    near = [uuid.UUID(int=around.int + (step << 96)) for step in range(-2 * TOMBSTONES_READ, 2 * TOMBSTONES_READ)]
    for start in range(0, len(near), _DELETED_AT_ONCE):
        writer.execute(delete, (minute, shard, near[start : start + _DELETED_AT_ONCE]))
    try:
        yield
    finally:
        writer.execute(f"DELETE FROM {pipeline.lake_table} WHERE minute = %s AND shard = %s", (minute, shard))
