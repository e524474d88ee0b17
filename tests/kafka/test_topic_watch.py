"""The watch reports consumers that make no progress, with a real broker and the progress stored in the warehouse."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from confluent_kafka.admin import NewTopic

from include.connections import variable
from include.kafka import clients, topics
from include.kafka.clients import BrokerError
from include.kafka.dead_letters import with_dead_letters
from include.kafka.ingest_mode import CONNECT, DAG, SETTING
from include.kafka.producer import producer
from include.kafka.topic_watch import problems
from include.operations.watch import watch
from include.pipelines import all_pipelines, get
from include.warehouse.session import warehouse
from local.process import free_port
from tests.kafka.conftest import commit_as_connect, consume, until, value_of
from tests.lake.conftest import event_id

BROKER = variable("kafka_default")
NOON = datetime(2026, 3, 1, 12)
SECOND = timedelta(seconds=1)


@pytest.fixture(params=[CONNECT, DAG])
def mode(request, pipeline, monkeypatch):
    monkeypatch.setenv(SETTING, request.param)
    topics.make_topics([pipeline])
    followed = [pipeline, with_dead_letters(pipeline)] if request.param == CONNECT else [pipeline]
    until(lambda: all(map(answers, followed)))
    return request.param


def answers(pipeline) -> bool:
    """Whether the broker answers for the topic: a new topic has no leader for a moment."""
    try:
        return bool(topics.offset_ranges(pipeline, "any"))
    except BrokerError:
        return False


@pytest.fixture
def problems_at(pipeline):
    """Returns the problems of the pipeline, as of a number of seconds after noon."""
    with warehouse() as conn:
        yield lambda seconds: list(problems(conn, [pipeline], NOON + seconds * SECOND))


def send_one(pipeline, send, partition) -> None:
    send.send(value_of(event_id("2026-09-21 10:00:00")), partition=partition)


def test_messages_that_wait_without_progress_are_a_problem_with_consumer_partition_and_remedy(
    mode, pipeline, send, problems_at
):
    assert problems_at(0) == []  # nothing waits
    send_one(pipeline, send, 2)
    assert problems_at(60) == problems_at(240) == []  # no progress since the check at 60 s, but 180 s are allowed
    [problem] = problems_at(241)
    assert (problem.pipeline, problem.problem, problem.since) == (pipeline.name, "stuck", NOON + 60 * SECOND)
    consumer = {CONNECT: f"Connector minutemark-{pipeline.name}", DAG: f"DAG {pipeline.name}_ingest"}[mode]
    assert (
        problem.found
        == f"{consumer} has made no progress in {pipeline.topic} for more than 180 s: partition 2 (1 waiting)."
    )
    remedy = {CONNECT: "the worker's log", DAG: f"{pipeline.name}_ingest is paused"}[mode]
    assert remedy in problem.remedy and len(problem.remedy) <= 500 and len(problem.found) <= 500

    commit_as_connect(pipeline) if mode == CONNECT else consume(pipeline)
    assert problems_at(300) == []


def test_the_remedy_for_a_connector_names_the_worker_and_login_of_the_settings_but_no_password(
    pipeline, send, problems_at, monkeypatch
):
    worker = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv(SETTING, CONNECT)
    monkeypatch.setenv("MINUTEMARK_CONNECT_URL", f"http://me:SECRETWORD@{worker}/")
    monkeypatch.setenv("MINUTEMARK_CONNECT_LOGIN", "ops:SECRETWORD")
    topics.make_topics([pipeline])
    until(lambda: all(map(answers, [pipeline, with_dead_letters(pipeline)])))
    send_one(pipeline, send, 2)
    assert problems_at(0) == []
    [problem] = problems_at(181)
    assert f"curl -u ops http://{worker}/connectors/minutemark-{pipeline.name}/status" in problem.remedy
    assert "SECRETWORD" not in problem.remedy


def test_slow_progress_is_progress(mode, pipeline, send, problems_at):
    for number in range(1, 6):
        send_one(pipeline, send, 1)
        send_one(pipeline, send, 1)
        assert problems_at(number * 179) == []
        commit_as_connect(pipeline) if mode == CONNECT else consume(pipeline)
        send_one(pipeline, send, 1)
        assert problems_at(number * 179 + 1) == []


def test_unconsumed_dead_letters_are_a_problem(pipeline, problems_at, monkeypatch):
    monkeypatch.setenv(SETTING, CONNECT)
    topics.make_topics([pipeline])
    letters = with_dead_letters(pipeline)
    until(lambda: answers(letters) and answers(pipeline))
    with producer(letters) as send:
        send.send(b"[]", partition=0)
    assert problems_at(0) == []
    [problem] = problems_at(181)
    assert problem.found.startswith(f"DAG minutemark_dead_letters has made no progress in {letters.topic} for")


def test_the_watch_reports_a_stuck_consumer_and_that_it_is_resolved(schemas, pipeline, monkeypatch):
    """The watch reads the registered pipelines, to whose topics other test modules send as well."""
    monkeypatch.setenv(SETTING, CONNECT)
    topics.make_topics()
    recruitment, notices = get("recruitment"), []

    def titles_after(seconds: int) -> list[str]:
        notices.clear()
        with warehouse() as conn:
            conn.cursor().execute(
                "UPDATE etl.topic_progress SET moved_at = moved_at - INTERVAL %(seconds)s SECOND", {"seconds": seconds}
            )
            conn.cursor().execute(
                "UPDATE etl.alerts SET seen_at = seen_at - INTERVAL %(seconds)s SECOND", {"seconds": seconds}
            )
            conn.commit()
        watch(lambda notice: not notices.append(notice.title))
        return [title for title in notices if "recruitment" in title and "topic" in title]

    until(lambda: answers(recruitment))
    for registered in all_pipelines().values():  # other tests have left messages
        commit_as_connect(registered)
    with producer(recruitment) as send:
        for partition in range(recruitment.shards):
            send.send(b"[]", partition=partition)
    assert titles_after(0) == []
    assert titles_after(181) == ["Minutemark · Problem: recruitment makes no progress in its topic"]
    commit_as_connect(recruitment)
    assert titles_after(121) == ["Minutemark · Resolved: recruitment makes no progress in its topic"]


@pytest.mark.usefixtures("short_broker_timeout")
def test_a_broker_that_does_not_answer_is_a_problem_after_the_same_limit(mode, pipeline, problems_at, monkeypatch):
    assert problems_at(0) == []
    monkeypatch.setenv(
        "AIRFLOW_CONN_KAFKA_DEFAULT", '{"conn_type": "kafka", "extra": {"bootstrap.servers": "127.0.0.1:1"}}'
    )
    assert problems_at(180) == []
    [problem] = problems_at(181)
    assert (problem.problem, problem.since) == ("stuck", NOON)
    assert "has not answered since 2026-03-01 12:00:00 UTC" in problem.found


@pytest.mark.usefixtures("short_broker_timeout")
def test_a_broker_that_never_answered_is_a_problem_once_its_first_check_is_older_than_the_limit(
    mode, pipeline, problems_at, monkeypatch
):
    with monkeypatch.context() as down:
        down.setenv(BROKER, '{"conn_type": "kafka", "extra": {"bootstrap.servers": "127.0.0.1:1"}}')
        assert problems_at(0) == problems_at(180) == []
        [problem] = problems_at(181)
        assert (problem.problem, problem.since) == ("stuck", NOON)
    assert problems_at(200) == []
    monkeypatch.setenv(BROKER, '{"conn_type": "kafka", "extra": {"bootstrap.servers": "127.0.0.1:1"}}')
    assert problems_at(240) == []  # counted from the answer at 200 s


def test_an_error_of_one_topic_does_not_stop_the_check_of_the_next_pipeline(mode, pipeline, send, monkeypatch, caplog):
    """The error is injected: only access lists make one topic fail alone, and the broker of the tests does not use them."""
    first = replace(pipeline, name=f"{pipeline.name}_first", topic=f"{pipeline.name}_first.events")
    topics.make_topics([first])
    until(lambda: answers(first) and answers(with_dead_letters(first)))
    ranges = topics.offset_ranges
    denied = BrokerError(f"Topic {first.topic}: not authorized. Allow the account to read it.")

    def ranges_without_first(queried, group):
        if queried.topic == first.topic:
            raise denied
        return ranges(queried, group)

    send_one(pipeline, send, 2)
    send.flush()
    with warehouse() as conn:
        assert list(problems(conn, [first, pipeline], NOON)) == []
        monkeypatch.setattr(topics, "offset_ranges", ranges_without_first)
        result = list(problems(conn, [first, pipeline], NOON + 181 * SECOND))
    assert [(problem.pipeline, problem.problem, problem.since) for problem in result] == [
        (first.name, "stuck", NOON),
        (pipeline.name, "stuck", NOON),
    ]
    assert str(denied) in result[0].found and "minutemark_watch" in result[0].remedy
    assert "has made no progress" in result[1].found
    assert caplog.messages[-1] == f"The topics of pipeline {first.name} were not checked. {denied}"


@pytest.mark.usefixtures("short_broker_timeout")
def test_a_broker_that_is_down_is_queried_for_the_first_pipeline_only(pipeline, monkeypatch, caplog):
    monkeypatch.setenv(SETTING, DAG)
    fields = json.loads(os.environ[BROKER])
    unreachable = {**fields, "extra": {**fields["extra"], "bootstrap.servers": f"127.0.0.1:{free_port()}"}}
    monkeypatch.setenv(BROKER, json.dumps(unreachable))
    other = replace(pipeline, name=f"{pipeline.name}_other")
    with warehouse() as conn:
        assert list(problems(conn, [pipeline, other], NOON)) == []
    [message] = [message for message in caplog.messages if "were not checked" in message]
    assert f"pipeline {pipeline.name} were not checked. The pipelines after it were not checked either." in message


def delete(*deleted: str) -> None:
    client = clients.admin()
    for done in client.delete_topics(list(deleted)).values():
        done.result(timeout=30)
    until(lambda: not set(deleted) & set(client.list_topics(timeout=30).topics))


def test_a_missing_topic_is_a_problem_that_names_it_and_how_to_create_it(mode, pipeline, problems_at):
    letters = with_dead_letters(pipeline)
    until(lambda: answers(letters))
    assert problems_at(0) == []
    delete(pipeline.topic)
    [problem] = problems_at(60)
    assert (problem.pipeline, problem.problem, problem.since) == (pipeline.name, "stuck", NOON + 60 * SECOND)
    assert problem.found.startswith(f"Missing topics: {pipeline.topic}. ")
    assert "./minutemark schema" in problem.remedy and "minutemark_setup" in problem.remedy
    delete(letters.topic)
    [problem] = problems_at(600)
    missing = f"{pipeline.topic}, {letters.topic}" if mode == CONNECT else pipeline.topic
    assert problem.found.startswith(f"Missing topics: {missing}. ")
    topics.make_topics([pipeline])
    until(lambda: answers(letters) and answers(pipeline))
    assert problems_at(660) == []


def test_partitions_that_are_gone_are_not_stuck(mode, pipeline, send, problems_at):
    for partition in range(pipeline.shards):
        send_one(pipeline, send, partition)
    send.flush()
    assert problems_at(0) == []
    delete(pipeline.topic)
    client = clients.admin()
    for done in client.create_topics([NewTopic(pipeline.topic, num_partitions=1)]).values():
        done.result(timeout=30)
    until(lambda: answers(pipeline))
    assert problems_at(60) == problems_at(600) == []


def test_dead_letters_that_were_deleted_with_their_topic_are_not_stuck(pipeline, problems_at, by_dag):
    letters = with_dead_letters(pipeline)
    until(lambda: answers(letters) and answers(pipeline))
    with producer(letters) as send:
        send.send(b"[]", partition=0)
    assert problems_at(0) == []
    delete(letters.topic)
    assert problems_at(600) == []
