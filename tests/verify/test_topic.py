"""Verify, from topic to lake: every committed message is in the lake or among the rejected events."""

import json
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from include.kafka.ingest import ingest_again
from include.kafka.ingest_mode import SETTING
from include.lake.keys import minute_of, shard_of
from include.lake.session import lake
from include.verify import verify
from include.warehouse.session import warehouse
from tests.kafka.conftest import consume, remove_before, value_of
from tests.lake.conftest import event, event_id
from tests.unreadable import unreadable_partition

pytestmark = pytest.mark.usefixtures("by_dag")


def report_of(pipeline, **options):
    return verify.verify([pipeline], patience=0, **options).pipelines[0]


def topic_findings(findings) -> dict[str, int]:
    """The findings about the topic. Others are ignored: these tests run no batch, so the lake's minutes are pending."""
    return {kind: count for kind, count in findings.counts.items() if kind.startswith("topic_")}


def remove(pipeline, row) -> None:
    key = (minute_of(row.create_time), shard_of(str(row.create_time), pipeline.shards), row.create_time)
    with lake("lake_writer") as session:
        session.execute("DELETE FROM bedan.tracking WHERE minute = %s AND shard = %s AND create_time = %s", key)


@pytest.fixture
def events(pipeline, send):
    """Thirty events of three minutes, one event a second time, and two poison messages, all ingested."""
    result = [event(f"2026-09-01 10:0{number % 3}:00") for number in range(30)]
    send.write([*result, result[0]])
    send.send(b"{not json", partition=1)
    send.send(value_of("yesterday"), partition=2)
    consume(pipeline)
    return result


def test_a_topic_whose_messages_are_all_stored_has_no_differences(pipeline, events):
    report = report_of(pipeline)
    assert (topic_findings(report.differences), topic_findings(report.apart)) == ({}, {})
    assert report.notes[0] == (
        f"{pipeline.topic}, up to the committed offsets of minutemark-{pipeline.name}: 33 messages, 31 in the lake, 2 rejected, "
        "0 missing; 0 more are waiting."
    )


def test_a_committed_message_whose_row_is_gone_is_found_and_can_be_ingested_again(pipeline, events):
    remove(pipeline, events[4])
    report = report_of(pipeline)
    assert topic_findings(report.differences) == {"topic_unstored": 1}
    (finding,) = report.differences.kept["topic_unstored"]
    assert finding.minute == datetime(2026, 9, 1, 10, 1)
    topic, partition, _ = finding.where.split("/")
    assert (topic, int(partition)) == (pipeline.topic, shard_of(str(events[4].create_time), pipeline.shards))
    assert finding.remedy == f"./minutemark ingest {pipeline.name} --again"
    ingest_again(pipeline)
    assert topic_findings(report_of(pipeline).differences) == {}


def test_messages_of_a_partition_that_cannot_be_read_are_named_and_the_others_are_verified(pipeline, events):
    remove(pipeline, events[4])
    at, shard = minute_of(events[0].create_time), shard_of(str(events[0].create_time), pipeline.shards)
    with lake("lake_writer") as session, unreadable_partition(session, pipeline, at, shard):
        report = report_of(pipeline)
    assert topic_findings(report.differences) == {"topic_unreadable": 1, "topic_unstored": 1}
    (finding,) = report.differences.kept["topic_unreadable"]
    assert finding.minute == at and f"shard {shard}" in finding.where and "garbagecollect" in finding.remedy
    assert "in partitions that cannot be read" in report.notes[0]


def test_a_committed_poison_message_that_is_not_kept_is_found(pipeline, events):
    with warehouse() as conn:
        conn.cursor().execute(
            "DELETE FROM etl.rejected_events WHERE pipeline = %s AND reason LIKE 'create_time%%'", (pipeline.name,)
        )
        conn.commit()
    assert topic_findings(report_of(pipeline).differences) == {"topic_unstored": 1}
    report_of_range = report_of(pipeline, start=datetime(2026, 9, 1), end=datetime(2026, 9, 2))
    assert topic_findings(report_of_range.differences) == {}, "A message without a minute is selected by its timestamp."


def test_a_message_with_an_impossible_timestamp_is_later_than_any_range(pipeline, events, send):
    """A producer that sends nanoseconds, to a broker that does not limit timestamps."""
    send.add_message(b"{not json either", partition=1, timestamp=1_700_000_000_000_000_000)
    send.flush()
    consume(pipeline)
    assert "34 messages" in report_of(pipeline).notes[0]
    span = {"start": datetime(2026, 9, 1), "end": datetime(2026, 9, 2)}
    assert "31 messages" in report_of(pipeline, **span).notes[0]


def test_uncommitted_messages_wait_and_are_not_differences(pipeline, events, send):
    send.write([event("2026-09-01 10:05:00") for _ in range(5)])
    report = report_of(pipeline)
    assert topic_findings(report.differences) == {}
    assert topic_findings(report.apart).keys() == {"topic_waiting"}
    assert "33 messages" in report.notes[0] and "5 more are waiting" in report.notes[0]


def test_messages_that_retention_removed_unread_are_a_difference(pipeline, events, send):
    for _ in range(3):
        send.send(value_of(event_id("2026-09-01 10:06:00")), partition=1)
    remove_before(pipeline, 1, -1)
    report = report_of(pipeline)
    assert topic_findings(report.differences) == {"topic_expired": 1}
    (finding,) = report.differences.kept["topic_expired"]
    assert finding.found["offset"] - finding.expected["offset"] == 3


def test_a_range_counts_only_its_own_events(pipeline, events):
    remove(pipeline, events[2])  # an event of 10:02
    start = datetime(2026, 9, 1, 10, 0)
    assert topic_findings(report_of(pipeline, start=start, end=start + timedelta(minutes=2)).differences) == {}
    result = report_of(pipeline, start=start + timedelta(minutes=2), end=start + timedelta(minutes=3))
    assert topic_findings(result.differences) == {"topic_unstored": 1}


def test_a_range_before_1970_has_no_messages(pipeline, events):
    report = report_of(pipeline, start=datetime(1969, 12, 31, 23), end=datetime(1970, 1, 1, 1))
    assert topic_findings(report.differences) == {}
    assert ": 0 messages," in report.notes[0]


def test_a_missing_event_of_a_closed_minute_is_not_a_difference(pipeline, events):
    remove(pipeline, events[0])
    report = report_of(replace(pipeline, lake_retention=timedelta(hours=1)))
    assert topic_findings(report.differences) == {}
    assert "0 missing, 2 in closed minutes" in report.notes[0]  # the event, and its duplicate


def test_without_an_ingest_mode_topics_are_not_verified(pipeline, events, monkeypatch):
    monkeypatch.delenv(SETTING)
    remove(pipeline, events[0])
    report = report_of(pipeline)
    assert topic_findings(report.differences) == {}
    assert not [note for note in report.notes if pipeline.topic in note]


def test_a_broker_that_is_down_gives_no_verdict(pipeline, minutemark, monkeypatch, capsys):
    unreachable = {"conn_type": "kafka", "extra": {"bootstrap.servers": "127.0.0.1:1"}}
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_DEFAULT", json.dumps(unreachable))
    monkeypatch.setattr("include.kafka.clients.TIMEOUT", 1.0)
    assert minutemark("verify", "recruitment") == 2
    assert "Nothing was verified. The broker of connection kafka_default" in capsys.readouterr().err
