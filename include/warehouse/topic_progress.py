"""The watch's memory of topics: how far each partition's consumers had come, and since when they have not moved."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol

from include.pipelines import Pipeline
from include.warehouse.session import in_transaction, rows

_COLUMNS = ("pipeline", "topic", "partition_number", "committed", "waiting", "moved_at", "seen_at")
_RECORD = (
    f"INSERT INTO etl.topic_progress ({', '.join(_COLUMNS)}) VALUES ({', '.join(f'%({name})s' for name in _COLUMNS)}) "
    # In this order: moved_at is decided by what the other columns still hold.
    "ON DUPLICATE KEY UPDATE "
    "moved_at = IF(waiting > 0 AND VALUES(waiting) > 0 AND committed = VALUES(committed), moved_at, VALUES(moved_at)), "
    "committed = VALUES(committed), waiting = VALUES(waiting), seen_at = VALUES(seen_at)"
)


class Reach(Protocol):
    """How far the consumers of a partition have come."""

    begin: int
    committed: int | None
    waiting: int


def record(conn, pipeline: Pipeline, topic: str, reaches: Mapping[int, Reach], now: datetime) -> None:
    """Keep what the broker says of that topic's partitions at that time."""

    def change(cursor) -> None:
        for partition, reach in reaches.items():
            committed = reach.begin if reach.committed is None else reach.committed
            values = (pipeline.name, topic, partition, committed, reach.waiting, now, now)
            cursor.execute(_RECORD, dict(zip(_COLUMNS, values, strict=True)))

    in_transaction(conn, change)


def stuck(conn, pipeline: Pipeline, topic: str, limit: timedelta, now: datetime) -> list[dict]:
    """Partitions whose messages wait and have not moved for longer than `limit`: partition_number, waiting, moved_at."""
    records = rows(
        conn.cursor(),
        "SELECT partition_number, waiting, moved_at FROM etl.topic_progress WHERE pipeline = %(pipeline)s "
        "AND topic = %(topic)s AND waiting > 0 AND moved_at < %(before)s ORDER BY partition_number",
        {"pipeline": pipeline.name, "topic": topic, "before": now - limit},
    )
    conn.rollback()
    return records


def last_answer(conn, pipeline: Pipeline) -> datetime | None:
    """When the broker last answered for this pipeline, or None."""
    cursor = conn.cursor()
    cursor.execute(
        "SELECT MAX(seen_at) FROM etl.topic_progress WHERE pipeline = %(pipeline)s", {"pipeline": pipeline.name}
    )
    [(seen_at,)] = cursor.fetchall()
    conn.rollback()
    return seen_at
