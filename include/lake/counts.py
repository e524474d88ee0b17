"""Counts the rows of minutes in the lake, with a checksum of their ids, to compare with the ledger; also estimates row counts."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from include.chunks import slices
from include.lake.errors import is_partition_error
from include.pipelines import Pipeline

if TYPE_CHECKING:
    from cassandra.cluster import Session

_REQUESTS_IN_FLIGHT = 8
_REQUESTS_AT_ONCE = 32  # the driver sends queries even if no result is read: this bounds the results that wait
# Most minutes are small: a request for each partition costs more than reading it. Guardrails of some clusters allow at most 20.
PARTITIONS_PER_REQUEST = 10
_SAMPLES = 60
_MAX_SAMPLED = 5_000  # rows of a minute that a sample counts: one page


def minute_counts(
    session: Session,
    pipeline: Pipeline,
    minutes: Iterable[datetime],
    on_row: Callable[[datetime, str], object] | None = None,
    on_unreadable: Callable[[datetime, int, Exception], object] | None = None,
) -> dict[datetime, tuple[int, int]]:
    """Map every given minute to (rows, sum of the CRC-32 of its ids as strings); (0, 0) for an empty one.

    `on_row` gets the minute and the id of every row. `on_unreadable` gets the minute, the shard and the driver's error of each
    partition that cannot be read, and its minute is left out. Without `on_unreadable` the error is raised.

    Spark computes the same sum while it transforms: sum(crc32(cast(<event id> as binary))).
    """
    minutes = sorted(set(minutes))
    query = session.prepare(
        f"SELECT minute, {pipeline.event_id} FROM {pipeline.lake_table} WHERE minute IN ? AND shard IN ?"
    )
    counts = dict.fromkeys(minutes, (0, 0))
    unreadable = set()

    def leave_out(minute: datetime, shard: int, error: Exception) -> None:
        unreadable.add(minute)
        on_unreadable(minute, shard, error)  # ty: ignore[not-callable]

    read_partitions(
        session,
        query,
        minutes,
        pipeline.shards,
        lambda answer: _add(answer, counts, on_row),
        on_unreadable and leave_out,
    )
    return {minute: count for minute, count in counts.items() if minute not in unreadable}


def read_partitions(
    session: Session,
    query: object,
    minutes: Sequence[datetime],
    shards: int,
    take: Callable[[Callable[[], Iterable]], object],
    on_unreadable: Callable[[datetime, int, Exception], object] | None = None,
) -> None:
    """Pass the answers of all partitions of these minutes to `take`, each as a function that returns the rows.

    `take` must keep no part of an answer that raises. With `on_unreadable`, the partitions of such an answer are read one by
    one, and `on_unreadable` gets minute, shard and error of those that still cannot be read. Without it the error is raised.
    """
    to_retry = []
    for request, answer in answers_of(session, query, requests_for(minutes, shards)):
        try:
            take(answer)
        except Exception as error:
            if on_unreadable is None or not is_partition_error(error):
                raise
            to_retry += [([minute], [shard]) for minute in request[0] for shard in request[1]]
    for ([minute], [shard]), answer in answers_of(session, query, to_retry):
        try:
            take(answer)
        except Exception as error:
            if on_unreadable is None or not is_partition_error(error):
                raise
            on_unreadable(minute, shard, error)


def sampled_rows(session: Session, pipeline: Pipeline, minutes: Iterable[datetime]) -> dict[datetime, int]:
    """Estimate the rows of each minute from the middle minute of its group; the minutes form up to 60 groups.

    More than 5,000 rows count as 5,000. Minutes whose sample cannot be read are left out.
    """
    minutes = sorted(set(minutes))
    size = max(1, -(-len(minutes) // _SAMPLES))
    groups = {group[len(group) // 2]: group for group in slices(minutes, size)}
    query = session.prepare(
        f"SELECT shard FROM {pipeline.lake_table} WHERE minute IN ? AND shard IN ? LIMIT {_MAX_SAMPLED}"
    )
    rows: dict[datetime, int] = dict.fromkeys(groups, 0)
    requests = [
        ([minute], shards) for minute in groups for shards in slices(range(pipeline.shards), PARTITIONS_PER_REQUEST)
    ]
    for ([minute], _), answer in answers_of(session, query, requests):
        try:
            count = sum(1 for _ in answer())
        except Exception as error:
            if not is_partition_error(error):
                raise
            rows.pop(minute, None)
        else:
            if minute in rows:
                rows[minute] = min(rows[minute] + count, _MAX_SAMPLED)
    return {minute: count for sample, count in rows.items() for minute in groups[sample]}


Request = tuple[list[datetime], list[int]]  # partitions: each of these minutes with each of these shards
Binds = TypeVar("Binds", bound=tuple)  # of a query


def requests_for(minutes: Sequence[datetime], shards: int) -> list[Request]:
    size = max(1, PARTITIONS_PER_REQUEST // shards)
    return [
        (some_minutes, some_shards)
        for some_minutes in slices(minutes, size)
        for some_shards in slices(range(shards), PARTITIONS_PER_REQUEST)
    ]


def answers_of(
    session: Session, query: object, requests: Sequence[Binds]
) -> Iterator[tuple[Binds, Callable[[], Iterable]]]:
    """Each request with a function that returns its rows, or raises the driver's error.

    Requests run in chunks of _REQUESTS_AT_ONCE, at most _REQUESTS_IN_FLIGHT at a time. The next chunk starts when the
    caller has taken all answers of the current one.
    """
    from cassandra.concurrent import execute_concurrent_with_args

    def rows_of(is_read: bool, answer: Any) -> Iterable:
        if not is_read:
            raise answer
        return answer

    for chunk in slices(requests, _REQUESTS_AT_ONCE):
        answers = execute_concurrent_with_args(
            session,
            query,
            chunk,
            concurrency=_REQUESTS_IN_FLIGHT,
            raise_on_first_error=False,
            results_generator=True,
        )
        for request, answer in zip(chunk, answers, strict=True):
            yield request, partial(rows_of, *answer)


def _add(
    answer: Callable[[], Iterable],
    counts: dict[datetime, tuple[int, int]],
    on_row: Callable[[datetime, str], object] | None,
) -> None:
    """Add the rows of one request: all of them or, if a later page fails, none."""
    rows: dict[datetime, int] = defaultdict(int)
    checksum: dict[datetime, int] = defaultdict(int)
    ids: list[tuple[datetime, str]] = []
    for minute, event_id in answer():
        rows[minute] += 1
        text = str(event_id or "")
        checksum[minute] += zlib.crc32(text.encode())
        if on_row:
            ids.append((minute, text))
    for minute, count in rows.items():
        counts[minute] = (counts[minute][0] + count, counts[minute][1] + checksum[minute])
    if on_row:
        for minute, text in ids:
            on_row(minute, text)
