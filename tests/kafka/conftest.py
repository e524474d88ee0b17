"""What tests on the broker share: a pipeline with a separate topic for each test, and producers."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

import pytest
from confluent_kafka import Consumer, TopicPartition

from include import pipelines
from include.kafka import clients, topics
from include.kafka.ingest import IngestSummary, ingest
from include.kafka.ingest_mode import CONNECT, DAG, SETTING, group_of
from include.kafka.producer import EventProducer, producer
from include.lake import change_log
from include.lake.errors import LakeError
from include.lake.schema import CHANGE_LOG
from include.lake.session import lake
from include.pipelines import Pipeline
from include.warehouse.rejected import without_topic_id
from include.warehouse.session import rows, warehouse
from tests.lake_rows import LakeRow

Answer = TypeVar("Answer")


@pytest.fixture
def pipeline(kafka_broker: dict[str, str], schemas: None) -> Pipeline:
    """Recruitment under another name, so that topic and consumer group are this test's own; the lake table is the same."""
    name = f"recruitment_{secrets.token_hex(6)}"  # the broker may be kept from session to session
    pipeline = replace(pipelines.get("recruitment"), name=name, topic=f"{name}.events")
    topics.make_topics([pipeline])
    return pipeline


@pytest.fixture
def send(pipeline: Pipeline) -> Iterator[EventProducer]:
    with producer(pipeline) as events:
        yield events


def touching_is_refused() -> bool:
    try:
        with lake("lake_writer") as session:
            change_log.touch(session, "bedan.tracking", [datetime(2026, 8, 4, 9)])
    except LakeError:
        return True
    return False


@pytest.fixture(params=CHANGE_LOG)
def refusing_change_log(schemas, request):
    """The lake accepts events but refuses touches of their minutes, or days, until the fixture's function is called."""

    def change(statement: str, refused: bool) -> None:
        with lake("lake_admin") as session:
            session.execute(statement)
        until(lambda: touching_is_refused() is refused)  # permissions are cached for half a second

    def allow() -> None:
        change(f"GRANT MODIFY ON TABLE {request.param} TO lake_writer", refused=False)

    change(f"REVOKE MODIFY ON TABLE {request.param} FROM lake_writer", refused=True)
    yield allow
    allow()


@pytest.fixture
def by_dag(monkeypatch) -> None:
    """The ingest mode is `dag`, as in a stack that follows its topics."""
    monkeypatch.setenv(SETTING, DAG)


def consume(pipeline: Pipeline, **options) -> IngestSummary:
    """Follow the topic up to its end, as `./minutemark ingest` does."""
    options = {"to_the_end": True, "seconds": 60} | options
    return ingest(pipeline, lambda: clients.follower(pipeline), **options)


def committed(pipeline: Pipeline) -> int:
    """The sum of the offsets that the follower's group has committed, over all partitions."""
    ranges = topics.offset_ranges(pipeline, group_of(pipeline.name, DAG))
    return sum(offsets.committed or 0 for offsets in ranges.values())


def remove_before(pipeline: Pipeline, partition: int, offset: int) -> None:
    """Remove messages as retention does: the partition begins at that offset; -1 for its end."""
    client = clients.admin()  # kept alive until the answer arrives
    for done in client.delete_records([TopicPartition(pipeline.topic, partition, offset)]).values():
        done.result(timeout=30)


def commit_as_connect(pipeline, *, behind: int = 0) -> None:
    """Commit each partition's end for Connect's group, or the offset `behind` messages before it."""
    group = group_of(pipeline.name, CONNECT)
    ends = {number: max(0, offsets.end - behind) for number, offsets in topics.offset_ranges(pipeline, group).items()}
    client = Consumer({**clients.settings(), "group.id": group})
    client.commit(offsets=[TopicPartition(pipeline.topic, *place) for place in ends.items()], asynchronous=False)
    client.close()


def lake_rows(minute: str) -> dict[str, object]:
    """The lake's rows of a minute, by id."""
    with lake("lake_reader") as session:
        result = session.execute(
            "SELECT * FROM bedan.tracking WHERE minute = %s AND shard IN (0, 1, 2, 3)",
            (datetime.fromisoformat(minute),),
        )
        return {str(row.create_time): LakeRow(row) for row in result}


def kept(pipeline: Pipeline) -> list[dict]:
    """The pipeline's rejected events, in the order of their keys; `place` is the key without the topic's id."""
    with warehouse() as conn:
        records = rows(
            conn.cursor(),
            "SELECT origin, origin_key, minute, reason, payload FROM etl.rejected_events "
            "WHERE pipeline = %(pipeline)s ORDER BY origin_key",
            {"pipeline": pipeline.name},
        )
    return [{**row, "place": without_topic_id(row["origin_key"])} for row in records]


def until(condition: Callable[[], Answer], seconds: float = 30) -> Answer:
    """Wait for the first true result."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return result


def value_of(event_id: object, **fields: object) -> bytes:
    return json.dumps({"create_time": str(event_id), **fields}).encode()
