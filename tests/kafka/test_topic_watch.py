"""Consumers that make no progress become problems of the watch: on a real broker, with the warehouse's memory of it."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from include.kafka import topics
from include.kafka.dead_letters import with_dead_letters
from include.kafka.producer import producer
from include.kafka.way_in import CONNECT, DAG, SETTING
from include.operations.topic_watch import problems
from include.warehouse.session import warehouse
from tests.kafka.conftest import commit_as_connect, take_in, value_of
from tests.lake.conftest import event_id

NOON = datetime(2026, 3, 1, 12)
SECOND = timedelta(seconds=1)


@pytest.fixture(params=[CONNECT, DAG])
def way(request, pipeline, monkeypatch):
    monkeypatch.setenv(SETTING, request.param)
    topics.make_topics([pipeline])
    return request.param


@pytest.fixture
def look(pipeline):
    """The problems so many seconds after noon, of that one pipeline."""
    with warehouse() as conn:
        yield lambda seconds: list(problems(conn, [pipeline], NOON + seconds * SECOND))


def send_one(pipeline, send, partition) -> None:
    send.send(value_of(event_id("2026-09-21 10:00:00")), partition=partition)


def test_messages_that_wait_without_progress_are_a_problem_with_consumer_partition_and_remedy(
    way, pipeline, send, look
):
    assert look(0) == []  # nothing waits
    send_one(pipeline, send, 2)
    assert look(60) == look(240) == []  # since the look at 60 s nothing moved, 180 s are allowed
    [problem] = look(241)
    assert (problem.pipeline, problem.problem, problem.since) == (pipeline.name, "stuck", NOON + 60 * SECOND)
    consumer = {CONNECT: f"Connector minutemark-{pipeline.name}", DAG: f"DAG {pipeline.name}_ingest"}[way]
    assert (
        problem.found
        == f"{consumer} has made no progress in {pipeline.topic} for more than 180 s: partition 2 (1 wait)."
    )
    remedy = {CONNECT: "docker compose logs connect", DAG: f"{pipeline.name}_ingest is paused"}[way]
    assert remedy in problem.remedy and len(problem.remedy) <= 500 and len(problem.found) <= 500

    commit_as_connect(pipeline) if way == CONNECT else take_in(pipeline)
    assert look(300) == []


def test_slow_progress_is_progress(way, pipeline, send, look):
    for number in range(1, 6):
        send_one(pipeline, send, 1)
        send_one(pipeline, send, 1)
        assert look(number * 179) == []
        commit_as_connect(pipeline) if way == CONNECT else take_in(pipeline)
        send_one(pipeline, send, 1)
        assert look(number * 179 + 1) == []


def test_dead_letters_that_nobody_consumes_are_a_problem(pipeline, look, monkeypatch):
    monkeypatch.setenv(SETTING, CONNECT)
    topics.make_topics([pipeline])
    letters = with_dead_letters(pipeline)
    with producer(letters) as send:
        send.send(b"[]", partition=0)
    assert look(0) == []
    [problem] = look(181)
    assert problem.found.startswith(f"DAG minutemark_dead_letters has made no progress in {letters.topic} for")


def test_a_broker_that_does_not_answer_is_a_problem_after_the_same_limit(way, pipeline, look, monkeypatch):
    assert look(0) == []
    monkeypatch.setattr("include.kafka.topics.TIMEOUT", 0.5)
    monkeypatch.setenv(
        "AIRFLOW_CONN_KAFKA_DEFAULT", '{"conn_type": "kafka", "extra": {"bootstrap.servers": "127.0.0.1:1"}}'
    )
    assert look(180) == []
    [problem] = look(181)
    assert (problem.problem, problem.since) == ("stuck", NOON)
    assert "has not answered since 2026-03-01 12:00:00 UTC" in problem.found
