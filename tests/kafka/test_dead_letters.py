"""Dead letters of Kafka Connect become rejected events with their original place, and verify takes them into account."""

from __future__ import annotations

import json

import pytest
from confluent_kafka import Producer

from include.kafka import clients, topics
from include.kafka.dead_letters import with_dead_letters
from include.kafka.ingest import consume_topic, ingest_dead_letters
from include.kafka.ingest_mode import CONNECT, DAG, SETTING
from include.lake import change_log
from include.lake.session import lake
from include.lake.writer import Event, EventWriter
from include.verify import verify
from tests.kafka.conftest import commit_as_connect, consume, kept, lake_rows, value_of
from tests.lake.conftest import event_id


@pytest.fixture(autouse=True)
def by_connect(pipeline, monkeypatch) -> None:
    monkeypatch.setenv(SETTING, CONNECT)
    topics.make_topics([pipeline])


def refuse(pipeline, value: bytes | None, *, offset: int, partition: int = 2, topic: str | None = None) -> None:
    """Do what Connect does with a message that its transform refuses."""
    place = {"topic": topic or pipeline.topic, "partition": partition, "offset": offset}
    headers = [(f"__connect.errors.{name}", str(text).encode()) for name, text in place.items()]
    # A producer's own header of that name precedes Connect's.
    produce(pipeline, value, [("__connect.errors.offset", b"999"), *headers])


def produce(pipeline, value, headers) -> None:
    producer = Producer(clients.settings())
    producer.produce(with_dead_letters(pipeline).topic, value, headers=headers)
    assert producer.flush(20) == 0


def test_headers_that_a_producer_sent_mean_nothing_in_a_dead_letter_of_connect(pipeline):
    forged = [("minutemark.origin_key", b"other/0/1"), ("minutemark.reason", b"none"), ("minutemark.minute", b"")]
    place = {"topic": pipeline.topic, "partition": 2, "offset": 5}
    produce(pipeline, b"[]", [*forged, *((f"__connect.errors.{name}", str(at).encode()) for name, at in place.items())])
    assert written_and_rejected(pipeline) == (0, 1)
    assert [row["place"] for row in kept(pipeline)] == [f"{pipeline.topic}/2/5"]


def written_and_rejected(pipeline) -> tuple[int, int]:
    summary = ingest_dead_letters(pipeline, seconds=60)
    return summary.written, summary.refused


def test_a_dead_letter_is_kept_with_topic_partition_and_offset_of_its_message(pipeline):
    refuse(pipeline, b"[]", offset=41)
    refuse(pipeline, None, offset=42)
    assert written_and_rejected(pipeline) == (0, 2)
    assert [(row["origin"], row["place"], row["reason"]) for row in kept(pipeline)] == [
        ("kafka", f"{pipeline.topic}/2/41", "the message is JSON, but not an object of fields"),
        ("kafka", f"{pipeline.topic}/2/42", "the message has no value"),
    ]
    assert written_and_rejected(pipeline) == (0, 0)  # they are committed


def test_a_dead_letter_that_is_an_event_after_all_is_written(pipeline):
    create_time = event_id("2026-09-20 10:00:00")
    refuse(pipeline, value_of(create_time, custom_track="click"), offset=7)
    assert written_and_rejected(pipeline) == (1, 0)
    assert str(create_time) in lake_rows("2026-09-20 10:00:00")


def test_a_dead_letter_does_not_replace_a_version_that_came_after_it(pipeline):
    create_time = event_id("2026-09-20 10:01:00")
    refuse(pipeline, value_of(create_time, custom_track="first"), offset=8)
    with lake("lake_writer") as session:
        later = Event(create_time, {"create_time": str(create_time), "custom_track": "second"})
        as_of = change_log.write_clock(session)
        EventWriter(session, pipeline).write([later], as_of=as_of)
    assert written_and_rejected(pipeline) == (1, 0)
    assert lake_rows("2026-09-20 10:01:00")[str(create_time)].custom_track == "second"


@pytest.mark.parametrize("headers", [[], [("__connect.errors.topic", None)], [("__connect.errors.offset", b"x")]])
def test_a_foreign_message_is_kept_at_its_own_place(pipeline, headers):
    produce(pipeline, b"[]", headers)
    assert written_and_rejected(pipeline) == (0, 1)
    assert [row["place"] for row in kept(pipeline)] == [f"{with_dead_letters(pipeline).topic}/0/0"]


def test_headers_of_a_dead_letter_that_is_sent_to_the_topic_again_mean_nothing_there(pipeline, monkeypatch):
    monkeypatch.setenv(SETTING, DAG)
    headers = [(f"__connect.errors.{name}", b"9") for name in ("topic", "partition", "offset")]
    client = Producer(clients.settings())
    client.produce(pipeline.topic, b"[]", partition=1, headers=headers)
    assert client.flush(20) == 0
    assert consume(pipeline).refused == 1
    assert [row["place"] for row in kept(pipeline)] == [f"{pipeline.topic}/1/0"]


def test_with_connect_an_ingest_consumes_the_dead_letters_and_leaves_the_topic_to_connect(pipeline, send):
    send.send(b"[]", partition=0)
    refuse(pipeline, b"17", offset=0)
    summary = consume_topic(pipeline)
    assert f"{with_dead_letters(pipeline).topic}: 0 events written" in str(summary)
    assert [row["payload"] for row in kept(pipeline)] == [json.dumps({"line": "17"})]


def topic_findings(findings) -> dict[str, int]:
    return {kind: count for kind, count in findings.counts.items() if kind.startswith("topic_")}


def test_verify_reports_poison_as_waiting_until_its_dead_letter_is_consumed(pipeline, send):
    send.send(b"{not json", partition=1)
    commit_as_connect(pipeline)
    report = verify.verify([pipeline], patience=0).pipelines[0]
    assert topic_findings(report.differences) == {"topic_unstored": 1}  # no store has it

    refuse(pipeline, b"{not json", partition=1, offset=0)
    report = verify.verify([pipeline], patience=0).pipelines[0]
    assert (topic_findings(report.differences), topic_findings(report.apart)) == ({}, {"topic_waiting": 1})
    assert "1 in the dead-letter topic" in report.notes[0]
    (finding,) = report.apart.kept["topic_waiting"]
    assert "check that minutemark_dead_letters runs and the warehouse answers, and verify again" in str(finding)

    assert written_and_rejected(pipeline) == (0, 1)
    report = verify.verify([pipeline], patience=0).pipelines[0]
    assert (topic_findings(report.differences), topic_findings(report.apart)) == ({}, {})


def test_offsets_of_the_dead_letter_topic_do_not_count_for_the_topic_of_events(pipeline, send, monkeypatch):
    refuse(pipeline, b"[]", offset=3)
    assert written_and_rejected(pipeline) == (0, 1)
    send.send(b"{}", partition=0)
    monkeypatch.setenv(SETTING, DAG)
    assert consume(pipeline).refused == 1


def test_dead_letters_wait_while_the_warehouse_is_down(pipeline, monkeypatch):
    refuse(pipeline, b"[]", offset=3)
    monkeypatch.setenv(
        "AIRFLOW_CONN_WAREHOUSE_ETL", '{"conn_type": "mysql", "host": "127.0.0.1", "port": 1, "login": "x"}'
    )
    with pytest.raises(Exception, match="warehouse_etl"):
        ingest_dead_letters(pipeline, seconds=60)
    monkeypatch.undo()
    monkeypatch.setenv(SETTING, CONNECT)
    assert written_and_rejected(pipeline) == (0, 1)
