"""Partitions of a lake table that no run reads, because their writer computes shard or minute in another way."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from include.operations.recount.report import Finding
from include.pipelines import Pipeline

if TYPE_CHECKING:
    from cassandra.cluster import Session

UNREAD = "lake_unread_partition"
PURPOSE = "The lake has rows in a partition that no run reads."


def findings(
    session: Session, pipeline: Pipeline, start: datetime | None = None, end: datetime | None = None
) -> Iterator[Finding]:
    """Those of minutes from `start` until before `end`. Reads the key of every partition of the table, and no row."""
    expected = {"shard": f"0 to {pipeline.shards - 1}", "minute": "a whole minute"}
    for minute, shard in session.execute(f"SELECT DISTINCT minute, shard FROM {pipeline.lake_table}"):
        is_read = 0 <= shard < pipeline.shards and not (minute.second or minute.microsecond)
        if is_read or (start and minute < start) or (end and minute >= end):
            continue
        count = f"SELECT COUNT(*) FROM {pipeline.lake_table} WHERE minute = %s AND shard = %s"
        rows = session.execute(count, (minute, shard)).one()[0]
        yield Finding(
            UNREAD,
            minute,
            f"{pipeline.lake_table}, partition (minute {minute}, shard {shard})",
            expected,
            {"shard": shard, "minute": f"{minute}", "rows": rows},
            "correct its writer (shard: Kafka's murmur2 of the event's id modulo shards; minute: that of create_time), have it "
            "write the events again, and delete this partition",
        )
