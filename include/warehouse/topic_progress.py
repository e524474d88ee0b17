"""The watch's record of topics: how far each partition had been consumed, and when that last changed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol

from include.pipelines import Pipeline
from include.warehouse.session import in_transaction, read, rows, value
from include.warehouse.statements import Statements

sql = Statements(__file__)


class Progress(Protocol):
    """A partition's offsets, as this module needs them (include/kafka/topics.py)."""

    begin: int
    committed: int | None
    waiting: int


def record(conn, pipeline: Pipeline, topic: str, ranges: Mapping[int, Progress], now: datetime) -> None:
    """Record the broker's offsets of the topic's partitions at that time, and remove partitions that no longer exist."""

    def change(cursor) -> None:
        for partition, offsets in ranges.items():
            binds = {
                "pipeline": pipeline.name,
                "topic": topic,
                "partition": partition,
                "committed": offsets.begin if offsets.committed is None else offsets.committed,
                "waiting": offsets.waiting,
                "now": now,
            }
            cursor.execute(sql("record"), binds)
        cursor.execute(sql("forget_absent"), {"pipeline": pipeline.name, "topic": topic, "now": now})

    in_transaction(conn, change)


def stuck(conn, pipeline: Pipeline, topic: str, limit: timedelta, now: datetime) -> list[dict]:
    """Partitions with waiting messages whose committed offset has not moved for longer than `limit`.

    Each has partition_number, waiting and moved_at.
    """
    return read(conn, rows, sql("stuck"), {"pipeline": pipeline.name, "topic": topic, "before": now - limit})


def last_check(conn, pipeline: Pipeline) -> datetime | None:
    """The oldest of the last answers for the recorded topics of this pipeline; None before the first answer."""
    return read(conn, value, sql("last_check"), {"pipeline": pipeline.name})
