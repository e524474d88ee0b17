"""Partitions of a lake table that no run reads, because their writer computes shard or minute in another way."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from include.operations.admission import YEARS
from include.operations.recount.report import Finding
from include.pipelines import Pipeline

if TYPE_CHECKING:
    from cassandra.cluster import Session

UNREAD = "lake_unread_partition"
PURPOSE = "The lake has rows in a partition that no run reads."


def findings(
    session: Session, pipeline: Pipeline, start: datetime | None = None, end: datetime | None = None
) -> Iterator[Finding]:
    """Those of minutes from `start` until before `end`. Reads one row of every partition of the table."""
    expected = {"shard": f"0 to {pipeline.shards - 1}", "minute": "a whole minute"}
    # Milliseconds as a number: a writer may have put in what no calendar has.
    keys = f"SELECT blobAsBigint(timestampAsBlob(minute)), shard FROM {pipeline.lake_table} PER PARTITION LIMIT 1"
    count = session.prepare(f"SELECT COUNT(*) FROM {pipeline.lake_table} WHERE minute = ? AND shard = ?")
    for milliseconds, shard in session.execute(keys):
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
            "correct its writer (shard: Kafka's murmur2 of the event's id modulo shards; minute: that of create_time), have it "
            "write the events again, and delete this partition",
        )


def _time(milliseconds: int) -> datetime | None:
    """None outside the years that a minute can have."""
    try:
        time = datetime(1970, 1, 1) + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return None
    return time if time.year in YEARS else None
