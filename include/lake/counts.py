"""What the lake holds of a minute: its rows and a checksum of their ids, to compare with the ledger; or a guess at them."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from include.pipelines import Pipeline

if TYPE_CHECKING:
    from cassandra.cluster import Session

_REQUESTS_IN_FLIGHT = 8
_REQUESTS_AT_ONCE = 32  # the driver goes on asking whether answers are taken or not: this bounds those that wait
_PARTITIONS_PER_REQUEST = (
    24  # most minutes are small, and asking for each partition by itself costs more than reading it
)
_SAMPLES = 60
_MOST_SAMPLED = 5_000  # rows of a minute that a sample counts: one page


def minute_counts(
    session: Session,
    pipeline: Pipeline,
    minutes: Iterable[datetime],
    on_row: Callable[[datetime, str], object] | None = None,
) -> dict[datetime, tuple[int, int]]:
    """Every given minute to (rows, sum of the CRC-32 of its ids' texts); (0, 0) for an empty one.

    `on_row` gets the minute and the id of every row.

    Spark computes the same sum while it transforms: sum(crc32(cast(<event id> as binary))).
    """
    from cassandra.concurrent import execute_concurrent_with_args

    minutes = sorted(set(minutes))
    shards = list(range(pipeline.shards))
    size = max(1, _PARTITIONS_PER_REQUEST // pipeline.shards)
    requests = [(minutes[start : start + size], shards) for start in range(0, len(minutes), size)]
    query = session.prepare(
        f"SELECT minute, {pipeline.event_id} FROM {pipeline.lake_table} WHERE minute IN ? AND shard IN ?"
    )
    rows: dict[datetime, int] = defaultdict(int)
    checksum: dict[datetime, int] = defaultdict(int)
    for start in range(0, len(requests), _REQUESTS_AT_ONCE):
        answers = execute_concurrent_with_args(
            session,
            query,
            requests[start : start + _REQUESTS_AT_ONCE],
            concurrency=_REQUESTS_IN_FLIGHT,
            raise_on_first_error=True,
            results_generator=True,
        )
        for _, answer in answers:
            for minute, event_id in answer:
                rows[minute] += 1
                text = str(event_id or "")
                checksum[minute] += zlib.crc32(text.encode())
                if on_row:
                    on_row(minute, text)
    return {minute: (rows[minute], checksum[minute]) for minute in minutes}


def sampled_rows(session: Session, pipeline: Pipeline, minutes: Iterable[datetime]) -> dict[datetime, int]:
    """Every given minute to the rows of the minute in the middle of its sixtieth of them; sixty small reads.

    More than 5,000 rows count as 5,000.
    """
    from cassandra.concurrent import execute_concurrent_with_args

    minutes = sorted(set(minutes))
    size = max(1, -(-len(minutes) // _SAMPLES))
    groups = [minutes[start : start + size] for start in range(0, len(minutes), size)]
    query = session.prepare(
        f"SELECT shard FROM {pipeline.lake_table} WHERE minute = ? AND shard IN ? LIMIT {_MOST_SAMPLED}"
    )
    answers = execute_concurrent_with_args(
        session,
        query,
        [(group[len(group) // 2], list(range(pipeline.shards))) for group in groups],
        concurrency=_REQUESTS_IN_FLIGHT,
        raise_on_first_error=True,
    )
    rows = [sum(1 for _ in answer) for _, answer in answers]
    return {minute: count for group, count in zip(groups, rows, strict=True) for minute in group}
