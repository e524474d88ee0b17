"""Finds partitions of a lake table that no run reads, because their writer computes shard or minute differently."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from include.connections import LAKE_READER, endpoint
from include.durations import EPOCH
from include.lake.errors import explain, is_partition_error
from include.pipelines import Pipeline
from include.readings import YEARS
from include.verify.report import Finding

if TYPE_CHECKING:
    from cassandra.cluster import Session

UNREAD, UNREADABLE = "lake_unread_partition", "lake_scan_incomplete"
PURPOSES = {
    UNREAD: "The lake has rows in a partition that no run reads.",
    UNREADABLE: "The lake table cannot be searched to its end for partitions that no run reads.",
}
_FIRST_TOKEN, _LAST_TOKEN = -(2**63), 2**63 - 1


def findings(
    session: Session,
    pipeline: Pipeline,
    start: datetime | None = None,
    end: datetime | None = None,
    unreadable: Collection[tuple[datetime, int]] = (),
) -> Iterator[Finding]:
    """Partitions that no run reads, of minutes from `start` to `end` (excluded).

    Reads one row of each partition that is not `unreadable`.
    """
    expected = {"shard": f"0 to {pipeline.shards - 1}", "minute": "a whole minute"}
    count = session.prepare(f"SELECT COUNT(*) FROM {pipeline.lake_table} WHERE minute = ? AND shard = ?")
    try:
        for milliseconds, shard in _partitions(session, pipeline, unreadable):
            minute = _time(milliseconds)
            if minute and 0 <= shard < pipeline.shards and not milliseconds % 60_000:
                continue
            if minute and ((start and minute < start) or (end and minute >= end)):
                continue
            rows = session.execute(count, (milliseconds, shard)).one()[0]
            yield Finding(
                UNREAD,
                minute,
                f"{pipeline.lake_table}, partition (minute {minute or milliseconds}, shard {shard})",
                expected,
                {"shard": shard, "minute": f"{minute or milliseconds}", "rows": rows},
                "correct its writer (shard: Kafka's murmur2 of the event's id modulo shards; minute: that of create_time), have "
                "it write the events again, and delete this partition",
            )
    except Exception as error:
        if not is_partition_error(error):
            raise
        why = str(explain(error, endpoint(LAKE_READER)))
        yield Finding(UNREADABLE, None, pipeline.lake_table, {"partitions": "all"}, {"partitions": "some"}, why)


def _partitions(
    session: Session, pipeline: Pipeline, unreadable: Collection[tuple[datetime, int]]
) -> Iterator[tuple[int, int]]:
    """The minute and shard of every partition, except those that cannot be read.

    The minute is in milliseconds, because a writer may have stored a time that no calendar has.
    """
    query = f"SELECT blobAsBigint(timestampAsBlob(minute)), shard FROM {pipeline.lake_table} {{}}PER PARTITION LIMIT 1"
    if not unreadable:
        yield from session.execute(query.format(""))
        return
    within = session.prepare(query.format("WHERE token(minute, shard) > ? AND token(minute, shard) <= ? "))
    from cassandra.metadata import Murmur3Token

    key = session.prepare(f"SELECT shard FROM {pipeline.lake_table} WHERE minute = ? AND shard = ?")
    low = _FIRST_TOKEN
    for token in sorted(Murmur3Token.hash_fn(key.bind(place).routing_key) for place in unreadable):
        yield from session.execute(within, (low, token - 1))
        low = token
    yield from session.execute(within, (low, _LAST_TOKEN))


def _time(milliseconds: int) -> datetime | None:
    """The time; None outside the years that a minute can have."""
    try:
        time = EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return None
    return time if time.year in YEARS else None
