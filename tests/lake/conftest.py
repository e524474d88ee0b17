"""What tests of the lake share: sessions, and hand-written events."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import count

import pytest

from include import pipelines
from include.lake.keys import GREGORIAN_EPOCH
from include.lake.session import lake
from include.lake.writer import Event

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
def connection(monkeypatch, cassandra_node) -> Callable[..., None]:
    """Change a lake connection for one test: connection("lake_reader", port=1)."""

    def change(conn_id: str, **fields: object) -> None:
        variable = f"AIRFLOW_CONN_{conn_id.upper()}"
        monkeypatch.setenv(variable, json.dumps(json.loads(cassandra_node[variable]) | fields))

    return change
