"""What tests of the lake share: sessions, and events by hand."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import count

import pytest
from cassandra.concurrent import execute_concurrent_with_args

from include import pipelines
from include.lake.keys import GREGORIAN_EPOCH
from include.lake.session import lake
from include.lake.writer import Event

TOMBSTONES_READ = 5_000  # tombstone_failure_threshold of the tests' node
_sequence = count(1)


def event_id(text: str) -> uuid.UUID:
    """A new time-UUID of that UTC time."""
    ticks = int((datetime.fromisoformat(text) - GREGORIAN_EPOCH).total_seconds()) * 10_000_000 + next(_sequence)
    high = ticks >> 48 & 0x0FFF
    return uuid.UUID(fields=(ticks & 0xFFFFFFFF, ticks >> 32 & 0xFFFF, high, 0, 0, 0xABCDEF012345), version=1)


def event(text: str, **values: str | None) -> Event:
    return Event(event_id(text), values)


@pytest.fixture
def recruitment() -> pipelines.Pipeline:
    return pipelines.get("recruitment")


@pytest.fixture
def reader(lake_schema) -> Iterator:
    with lake("lake_reader") as session:
        yield session


@pytest.fixture
def writer(lake_schema) -> Iterator:
    with lake("lake_writer") as session:
        yield session


@pytest.fixture
def admin(lake_schema) -> Iterator:
    with lake("lake_admin") as session:
        yield session


@pytest.fixture
def deleted_rows(writer) -> Iterator[Callable[..., tuple[datetime, int]]]:
    """Make a partition unreadable: it gets more deleted rows than the tests' node reads past."""
    made = []

    def delete(pipeline: pipelines.Pipeline, minute: datetime, shard: int) -> tuple[datetime, int]:
        statement = writer.prepare(
            f"DELETE FROM {pipeline.lake_table} WHERE minute = ? AND shard = ? AND create_time = ?"
        )
        rows = [(minute, shard, event_id(str(minute))) for _ in range(TOMBSTONES_READ + 1)]
        execute_concurrent_with_args(writer, statement, rows, concurrency=100)
        made.append((pipeline.lake_table, minute, shard))
        return minute, shard

    yield delete
    for table, *place in made:  # as one deletion, which is newer than each of them
        writer.execute(f"DELETE FROM {table} WHERE minute = %s AND shard = %s", place)


@pytest.fixture
def connection(monkeypatch, cassandra_node) -> Callable[..., None]:
    """Change a lake connection for one test: connection("lake_reader", port=1)."""

    def change(conn_id: str, **fields: object) -> None:
        variable = f"AIRFLOW_CONN_{conn_id.upper()}"
        monkeypatch.setenv(variable, json.dumps(json.loads(cassandra_node[variable]) | fields))

    return change
