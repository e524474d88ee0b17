"""The watch's record of topics: how far each partition has been consumed, and when its committed offset last moved."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol

from include.pipelines import Pipeline
from include.warehouse.session import in_transaction, read, rows, write
from include.warehouse.statements import Statements

sql = Statements(__file__)

_ANY_TOPIC = ""  # the record of the first failed check has no topic, and partition -1


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


def record_failed_check(conn, pipeline: Pipeline, now: datetime) -> datetime:
    """Record a failed check; returns when the broker last answered for every topic of this pipeline.

    If the broker has never answered, returns the time of the first failed check.
    """

    def change(cursor) -> datetime:
        cursor.execute(sql("record_failure"), {"pipeline": pipeline.name, "topic": _ANY_TOPIC, "now": now})
        cursor.execute(sql("unchecked_since"), {"pipeline": pipeline.name})
        return cursor.fetchone()[0]

    return in_transaction(conn, change)


def forget_failure(conn, pipeline: Pipeline, now: datetime) -> None:
    """Remove what was recorded before `now`, because the broker has answered for every topic.

    This removes the first failed check, and the progress of topics that the pipeline no longer has.
    """
    write(conn, sql("forget_older"), {"pipeline": pipeline.name, "now": now})
