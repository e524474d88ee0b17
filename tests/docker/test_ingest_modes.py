"""The same messages in each ingest mode: follower, Connect and a stream leave the same rows and rejected events."""

from __future__ import annotations

import json
import secrets
from dataclasses import replace
from datetime import timedelta

import pytest
from confluent_kafka import Producer

from include import pipelines
from include.connections import LAKE_READER
from include.kafka import clients, topics
from include.kafka.connect import name_of, register_all
from include.kafka.ingest_mode import CONNECT, DAG, SETTING, SPARK
from include.kafka.messages import TopicEvents
from include.lake.keys import murmur2, time_uuid
from include.lake.session import lake
from include.lake.writer import Event, event_id, payload_of
from include.pipelines import Pipeline
from include.spark.installation import CannotSubmit
from include.stream import submission
from include.stream.catch_up import run_stream
from tests import emptying
from tests.docker.test_connect_worker import POISON, START, template, values, wait_until_drained, worker  # noqa: F401  # fixtures
from tests.kafka.conftest import consume, kept

EVENTS = 400


@pytest.fixture(params=pipelines.all_pipelines())
def declared(request) -> Pipeline:
    return pipelines.get(request.param)


def rounds(declared: Pipeline) -> list[list[bytes | None]]:
    """Three rounds of messages: all but the first have later versions of earlier events, and repeats of earlier messages."""
    first = values(declared, EVENTS)
    rest = {declared.event_id: str(time_uuid(START, "odd")), "create_time": str(time_uuid(START, "odd"))}
    odd = [
        b' {"unknown": {"deep": [1, {"x": null}]}, ' + json.dumps(rest).encode()[1:],
        b'{"price": 1.50, "bid": 12345678901234567890, "ts": 1e3, "x": -0.0, '
        + json.dumps(rest).encode()[1:-1]
        + b', "twice": 1, "twice": 2}',
    ]
    versions = [[_version(value, number) for value in first[: EVENTS // 4]] for number in (2, 3)]
    return [
        [*first, *odd[:1], *POISON],
        [*versions[0], *odd[1:], *first[-20:]],
        [*versions[1], *POISON[:2], versions[0][0], versions[1][0]],
    ]


def _version(value: bytes, number: int) -> bytes:
    return value[:-1] + b', "version": %d}' % number


def send(pipeline: Pipeline, messages: list[bytes | None]) -> None:
    """Send all versions of an event to the same partition, in order; the partition need not be its shard."""
    producer = Producer(clients.settings())
    for value in messages:
        text = (value or b"").partition(b', "version"')[0].rstrip(b"}")
        producer.produce(pipeline.topic, value, partition=(murmur2(text) & 0x7FFFFFFF) % pipeline.shards)
    assert producer.flush(30) == 0


def lake_of(pipeline: Pipeline) -> list[tuple]:
    """Every row of the lake table with all columns, and the touched minutes."""
    with lake(LAKE_READER) as session:
        table = sorted(map(tuple, session.execute(f"SELECT * FROM {pipeline.lake_table}")), key=repr)
        touched = session.execute("SELECT lake_table, day, minute FROM minutemark.minute_changes")
        return [*table, *sorted(map(tuple, touched), key=repr)]


def rejected_of(pipeline: Pipeline) -> list[tuple]:
    return [
        (row["origin"], row["place"].partition("/")[2], row["minute"], row["reason"], row["payload"])
        for row in kept(pipeline)
    ]


def expected(declared: Pipeline, messages: list[bytes | None]) -> dict[str, str]:
    """The last version of each event, as Python reads it."""
    from confluent_kafka import Message

    reader = TopicEvents(declared, START + timedelta(days=30))
    results = (reader.read(Message(topic="t", partition=0, offset=0, value=value)) for value in messages)
    return {event_id(declared, event): payload_of(event).decode() for event in results if isinstance(event, Event)}


def test_follower_connect_and_stream_leave_the_same_rows(declared, worker, template, monkeypatch):  # noqa: F811
    try:
        submission.stream_jars()
    except CannotSubmit as error:
        pytest.skip(str(error))

    def run_mode(mode: str) -> tuple[list[tuple], list[tuple]]:
        monkeypatch.setenv(SETTING, mode)
        name = f"{declared.name}_{secrets.token_hex(4)}"
        pipeline = replace(declared, name=name, topic=f"{name}.events")
        emptying.empty_lake()
        topics.make_topics([pipeline])
        if mode == CONNECT:
            register_all(worker.rest, [pipeline], template, patience=60, pause=0.2)
        for messages in rounds(declared):
            send(pipeline, messages)
            if mode == CONNECT:
                wait_until_drained(pipeline)
            elif mode == SPARK:
                run_stream(pipeline)
            else:
                consume(pipeline)
        if mode == CONNECT:
            worker.rest.remove(name_of(pipeline))
        return lake_of(pipeline), rejected_of(pipeline)

    rows, rejected = run_mode(DAG)
    payloads = {row[-1] for row in rows}
    assert set(expected(declared, [value for messages in rounds(declared) for value in messages]).values()) <= payloads
    assert len(rejected) >= len(POISON) + 2
    assert run_mode(SPARK) == (rows, rejected)
    assert run_mode(CONNECT) == (rows, rejected)
