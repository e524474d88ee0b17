"""What the lake holds of a minute: its rows and a checksum of their ids, to compare with the ledger."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from include.pipelines import Pipeline

if TYPE_CHECKING:
    from cassandra.cluster import Session

_PARTITIONS_IN_FLIGHT = 16
_PARTITIONS_AT_ONCE = 64  # the driver goes on asking whether answers are taken or not: this bounds those that wait


def minute_counts(session: Session, pipeline: Pipeline, minutes: Iterable[datetime]) -> dict[datetime, tuple[int, int]]:
    """Every given minute to (rows, sum of the CRC-32 of its ids' texts); (0, 0) for an empty one.

    Spark computes the same sum while it transforms: sum(crc32(cast(<event id> as binary))).
    """
    from cassandra.concurrent import execute_concurrent_with_args

    minutes = sorted(set(minutes))
    partitions = [(minute, shard) for minute in minutes for shard in range(pipeline.shards)]
    query = session.prepare(f"SELECT {pipeline.event_id} FROM {pipeline.lake_table} WHERE minute = ? AND shard = ?")
    rows: dict[datetime, int] = defaultdict(int)
    checksum: dict[datetime, int] = defaultdict(int)
    for start in range(0, len(partitions), _PARTITIONS_AT_ONCE):
        at_once = partitions[start : start + _PARTITIONS_AT_ONCE]
        answers = execute_concurrent_with_args(
            session,
            query,
            at_once,
            concurrency=_PARTITIONS_IN_FLIGHT,
            raise_on_first_error=True,
            results_generator=True,
        )
        for (minute, _), (_, answer) in zip(at_once, answers, strict=True):
            for (event_id,) in answer:
                rows[minute] += 1
                checksum[minute] += zlib.crc32(str(event_id or "").encode())
    return {minute: (rows[minute], checksum[minute]) for minute in minutes}
