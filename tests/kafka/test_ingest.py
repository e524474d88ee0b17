"""From the topic into the lake, on a real broker and real stores: nothing is skipped, nothing is counted twice."""

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest
from confluent_kafka import KafkaException, Producer, TopicPartition

from include import pipelines
from include.durations import utc_now
from include.files import imports
from include.kafka import clients, topics
from include.kafka.clients import BrokerError, settings
from include.kafka.ingest import ingest, ingest_again
from include.kafka.ingest_mode import DAG, SETTING, SPARK, group_of
from include.kafka.producer import producer
from include.lake import change_log
from include.lake.errors import LakeError
from include.lake.keys import shard_of
from include.lake.session import lake
from include.operations import reprocess
from include.stream import catch_up
from include.stream.catch_up import StreamFailed
from include.warehouse.rejected import Selection
from include.warehouse.session import warehouse
from local.layout import ROOT
from tests import airflow_home  # noqa: F401  (before Airflow)
from tests.kafka.conftest import committed, consume, kept, lake_rows, remove_before, until, value_of
from tests.lake.conftest import event, event_id


def touched_minutes(day):
    with lake("lake_reader") as session:
        return set(change_log.minutes_of_day(session, "bedan.tracking", day))


def test_events_are_written_to_the_lake_their_minutes_touched_and_offsets_committed(pipeline, send):
    events = [event(f"2026-08-01 10:0{number % 3}:00", custom_track="click") for number in range(30)]
    send.write(events)
    summary = consume(pipeline)
    assert (summary.written, summary.refused, summary.misplaced, len(summary.minutes)) == (30, 0, 0, 3)
    result = lake_rows("2026-08-01 10:00")
    assert sorted(result) == sorted(str(sent_event.create_time) for sent_event in events[::3])
    assert {row.custom_track for row in result.values()} == {"click"} and {row.bid for row in result.values()} == {None}
    assert summary.minutes <= touched_minutes(date(2026, 8, 1))
    assert committed(pipeline) == 30
    assert consume(pipeline).written == 0  # nothing comes again once it is committed


def test_a_message_that_comes_again_is_the_same_row(pipeline, send):
    sent_event = event("2026-08-02 10:00:00", bid="1")
    send.write([sent_event, sent_event])
    consume(pipeline)
    assert ingest_again(pipeline).written == 2
    assert list(lake_rows("2026-08-02 10:00")) == [str(sent_event.create_time)]


def test_an_event_that_was_fixed_and_sent_again_replaces_its_row(pipeline, send):
    original = event("2026-08-02 11:00:00", bid="two")
    send.write([original])
    consume(pipeline)
    send.write([original._replace(values={"bid": "1"})])  # a smaller value with the same create_time
    consume(pipeline)
    assert lake_rows("2026-08-02 11:00")[str(original.create_time)].bid == "1"


def test_the_last_of_two_versions_that_wait_together_stays_whole(pipeline, send):
    first = event("2026-08-02 11:30:00", custom_track="click", bid="9")
    send.write([first, first._replace(values={"custom_track": "conversion"})])
    assert consume(pipeline).written == 2
    row = lake_rows("2026-08-02 11:30")[str(first.create_time)]
    assert (row.custom_track, row.bid) == ("conversion", None)


def test_poison_is_kept_with_its_place_and_the_rest_continues(pipeline, send):
    good = [event("2026-08-03 10:00:00") for _ in range(20)]
    send.write(good[:10])
    for value in (
        b"{not json",
        None,
        b"[]",
        value_of("yesterday"),
        value_of(event_id("2026-08-03 10:01"), ua="\ud800"),
    ):
        send.send(value, partition=2)
    send.write(good[10:])
    summary = consume(pipeline)
    assert (summary.written, summary.refused) == (20, 5)
    assert sorted(lake_rows("2026-08-03 10:00")) == sorted(str(sent_event.create_time) for sent_event in good)
    result = kept(pipeline)
    places = [row["place"].rsplit("/", 2) for row in result]
    assert {(topic, partition) for topic, partition, _ in places} == {(pipeline.topic, "2")}
    offsets = sorted(int(offset) for _, _, offset in places)
    assert offsets == list(range(offsets[0], offsets[0] + 5))
    assert {row["origin"] for row in result} == {"kafka"}
    assert {row["reason"].partition(":")[0] for row in result} == {
        "the message is not JSON",
        "the message has no value",
        "the message is JSON, but not an object of fields",
        "create_time 'yesterday' is not a time-UUID (version 1, 36 characters)",
        "the message has an unpaired surrogate, which is not valid Unicode",
    }
    assert '{"line": "{not json"}' in {row["payload"] for row in result}


def test_poison_counts_once_for_any_number_of_deliveries(pipeline, send):
    send.send(b"{not json", partition=0)
    consume(pipeline)
    before = kept(pipeline)
    assert ingest_again(pipeline).refused == 1
    assert kept(pipeline) == before and len(before) == 1


def test_nothing_is_committed_that_the_change_log_has_not_acknowledged(pipeline, send, refusing_change_log):
    sent = event("2026-08-04 10:00:00")
    send.write([sent])
    with pytest.raises(LakeError, match="denied permission"):
        consume(pipeline)
    # Written, but not safe: no poll would find its minute.
    assert str(sent.create_time) in lake_rows("2026-08-04 10:00")
    assert committed(pipeline) == 0
    refusing_change_log()
    assert consume(pipeline).written == 1
    assert committed(pipeline) == 1


def test_events_do_not_wait_for_a_warehouse_that_is_down(pipeline, send, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_ETL", '{"conn_type": "mysql", "host": "127.0.0.1", "port": 1}')
    send.write([event("2026-08-04 11:00:00")])
    assert consume(pipeline).written == 1


class Follower(threading.Thread):
    """A follower in a thread, as a task runs it."""

    def __init__(self, pipeline) -> None:
        super().__init__(daemon=True)
        self._pipeline = pipeline
        self.summary = None
        self.start()

    def run(self) -> None:
        self.summary = ingest(self._pipeline, lambda: clients.follower(self._pipeline), seconds=60)


def test_the_next_follower_takes_over_without_a_gap_and_ends_its_predecessor(pipeline, send):
    first = Follower(pipeline)
    before = [event("2026-08-05 10:00:00") for _ in range(50)]
    send.write(before)
    until(lambda: committed(pipeline) == 50)
    second = Follower(pipeline)
    sent = len(before)
    while first.is_alive():  # events keep arriving while one takes over from the other
        send.write([event("2026-08-05 10:01:00") for _ in range(10)])
        sent += 10
        assert sent < 20_000, "the first follower continues"
        first.join(0.1)
    assert first.summary.taken_over
    send.write([event("2026-08-05 10:02:00") for _ in range(10)])
    until(lambda: committed(pipeline) == sent + 10)
    third = consume(pipeline)  # ends the second one too
    second.join(30)
    assert second.summary.taken_over and third.written == 0
    assert len(lake_rows("2026-08-05 10:00")) + len(lake_rows("2026-08-05 10:01")) == sent
    assert len(lake_rows("2026-08-05 10:02")) == 10
    assert second.summary.written >= 10


def with_settings(monkeypatch, **settings) -> None:
    """Add these settings to the extra of the broker's connection."""
    connection = json.loads(os.environ["AIRFLOW_CONN_KAFKA_DEFAULT"])
    connection["extra"] |= {name.replace("_", "."): value for name, value in settings.items()}
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_DEFAULT", json.dumps(connection))


def test_the_hooks_consumer_is_a_static_member_and_commits_nothing_by_itself(pipeline, send, monkeypatch):
    from plugins.topics import FollowerHook

    with_settings(monkeypatch, enable_auto_commit=True)
    send.write([event("2026-08-09 10:00:00") for _ in range(3)])
    group = group_of(pipeline.name, DAG)
    consumer = FollowerHook(pipeline).get_consumer()
    try:
        until(lambda: consumer.consume(1, 1) and consumer.assignment(), 60)
        consumer.assign([TopicPartition(pipeline.topic, number, 0) for number in range(pipeline.shards)])
        message = until(lambda: next((message for message in consumer.consume(1, 1) if not message.error()), None), 60)
        admin = clients.admin()  # kept alive until the answer arrives
        (member,) = admin.describe_consumer_groups([group])[group].result(60).members
    finally:
        consumer.close()  # which commits the offsets of delivered messages, if it may
    assert message.topic() == pipeline.topic
    assert member.group_instance_id == group
    assert committed(pipeline) == 0, "Only what the lake has is committed, whatever the connection says."


def test_the_hook_uses_the_security_settings_of_the_connection(pipeline, monkeypatch):
    from plugins.topics import FollowerHook

    with_settings(monkeypatch, security_protocol="magic")
    with pytest.raises(KafkaException, match="security.protocol"):
        FollowerHook(pipeline).get_consumer()
    with pytest.raises(BrokerError, match=r"security\.protocol.*extra of connection kafka_default"):
        ingest(pipeline, FollowerHook(pipeline).get_consumer)


def test_the_task_names_the_topic_that_it_followed_and_the_table_that_it_filled(schemas, kafka_broker):
    from plugins.ingest import FollowTopic

    recruitment = pipelines.get("recruitment")
    topics.make_topics([recruitment])
    consume(recruitment)
    before = committed(recruitment)
    task = FollowTopic(task_id="follow_topic", pipeline="recruitment")
    running = threading.Thread(target=task.execute, args=({},), daemon=True)
    running.start()
    with producer(recruitment) as send:
        send.write([event("2026-08-07 10:00:00") for _ in range(3)])
    until(lambda: committed(recruitment) == before + 3, 60)
    consume(recruitment)  # its successor
    running.join(30)
    servers = json.loads(kafka_broker["AIRFLOW_CONN_KAFKA_DEFAULT"])["extra"]["bootstrap.servers"]
    lake_port = json.loads(os.environ["AIRFLOW_CONN_LAKE_WRITER"])["port"]
    facets = task.get_openlineage_facets_on_complete(None)
    assert [(input.namespace, input.name) for input in facets.inputs] == [(f"kafka://{servers}", "recruitment.events")]
    [table] = facets.outputs
    assert (table.namespace, table.name) == (f"cassandra://127.0.0.1:{lake_port}", "bedan.tracking")
    assert table.outputFacets["outputStatistics"].rowCount == 3


def test_a_killed_follower_loses_nothing_and_its_successor_does_not_wait_for_the_old_session(schemas, kafka_broker):
    recruitment = pipelines.get("recruitment")
    topics.make_topics([recruitment])
    consume(recruitment)
    before = committed(recruitment)
    command = [sys.executable, "-m", "include.cli", "ingest", "recruitment", "--seconds", "300"]
    follower = subprocess.Popen(command, cwd=ROOT)
    try:
        with producer(recruitment) as send:
            send.write([event("2026-08-06 10:00:00") for _ in range(100)])
            until(lambda: committed(recruitment) > before, 60)
            send.write([event("2026-08-06 10:00:00") for _ in range(400)])
            follower.send_signal(signal.SIGKILL)
            send.write([event("2026-08-06 10:00:00") for _ in range(100)])
    finally:
        follower.kill()
        follower.wait()
    summary = consume(recruitment)
    assert summary.seconds < 40  # otherwise the broker waits 45 s for a member that left without notice
    assert len(lake_rows("2026-08-06 10:00")) == 600
    assert committed(recruitment) == before + 600


def test_with_spark_the_command_does_not_end_another_consumer(pipeline, monkeypatch):
    monkeypatch.setenv(SETTING, SPARK)
    monkeypatch.setattr(pipelines, "get", lambda _: pipeline)
    follower = Follower(pipeline)
    until(lambda: topics.has_members(group_of(pipeline.name, DAG)))
    with pytest.raises(StreamFailed, match=f"{pipeline.name}_ingest or another `./minutemark ingest` is consuming"):
        catch_up.consume(pipeline.name)
    assert follower.is_alive()
    consume(pipeline)  # ends it
    follower.join(30)


def test_a_message_that_has_become_admissible_is_reprocessed_into_the_lake(pipeline, send):
    """Here the stored row is fixed by hand; a fixed rule has the same effect."""
    identity = event_id("2026-08-03 12:00:00")
    send.send(value_of("yesterday", job_id=7), partition=0)
    send.send(b"{not json", partition=0)
    consume(pipeline)
    with warehouse() as conn:
        conn.cursor().execute(
            "UPDATE etl.rejected_events SET payload = REPLACE(payload, 'yesterday', %s) WHERE pipeline = %s",
            (str(identity), pipeline.name),
        )
        conn.commit()
    reprocess.begin(pipeline, Selection(), lambda _: None)
    assert lake_rows("2026-08-03 12:00")[str(identity)].job_id == 7
    assert [row["reason"].partition(":")[0] for row in kept(pipeline)] == ["the message is not JSON"]


def test_rejected_versions_of_a_topic_that_was_read_again_keep_their_order(pipeline, send):
    first = event("2026-08-03 12:10:00", custom_track="first")
    send.write([first])
    consume(pipeline)
    send.write([first._replace(values={"custom_track": "second"})])
    strict = replace(pipeline, earliest=datetime(2027, 1, 1))
    assert consume(strict).refused == 1
    assert ingest_again(strict).refused == 2  # now the first version, too
    assert reprocess.begin(pipeline, Selection(), lambda _: None).written == 2
    assert lake_rows("2026-08-03 12:10")[str(first.create_time)].custom_track == "second"


def test_a_follower_admits_events_by_the_clock_of_their_chunk(pipeline, send):
    """A minute that is too far ahead when the follower starts is admitted once it is not, here after ten seconds."""
    start = utc_now()
    ahead = (start + timedelta(minutes=2)).replace(second=0, microsecond=0)
    patient = replace(pipeline, most_ahead=ahead - start - timedelta(seconds=10))
    send.write([event(f"{start:%Y-%m-%d %H:%M:%S}")])
    follower = Follower(patient)
    until(lambda: committed(pipeline) == 1)
    until(lambda: utc_now() > start + timedelta(seconds=11))
    send.write([event(f"{ahead:%Y-%m-%d %H:%M:%S}")])
    until(lambda: committed(pipeline) == 2)
    consume(pipeline)  # ends the follower
    follower.join(30)
    assert (follower.summary.written, follower.summary.refused) == (2, 0)


def test_an_ingest_without_its_topic_says_what_to_do(pipeline, monkeypatch):
    monkeypatch.setattr("include.kafka.clients.TIMEOUT", 5.0)
    absent = replace(pipeline, topic="nobody.made.this")
    with pytest.raises(BrokerError, match="minutemark_setup"):
        consume(absent)


def test_kafkas_default_partitioner_chooses_the_partition_of_the_shard(pipeline):
    """A producer in any language need not know shards: the id is the message's key, and the partitioner is Kafka's own."""
    sent = {}
    client = Producer({**settings(), "partitioner": "murmur2"})  # the name of Java's default in librdkafka
    for _ in range(200):
        identity = str(event_id("2026-08-07 10:00:00"))
        client.produce(
            pipeline.topic,
            key=identity,
            value=value_of(identity),
            on_delivery=lambda error, message: sent.update({message.key().decode(): message.partition()}),
        )
    assert client.flush(30) == 0
    assert len(sent) == 200
    assert sent == {identity: shard_of(identity, pipeline.shards) for identity in sent}
    summary = consume(pipeline)
    assert (summary.written, summary.misplaced) == (200, 0)


def test_an_event_in_a_wrong_partition_is_in_the_right_shard_and_is_reported(pipeline, send):
    identity = str(event_id("2026-08-07 11:00:00"))
    right = shard_of(identity, pipeline.shards)
    send.send(value_of(identity), partition=(right + 1) % pipeline.shards)
    summary = consume(pipeline)
    assert summary.misplaced == 1 and "in a partition other than their shard's" in str(summary)
    assert lake_rows("2026-08-07 11:00")[identity].shard == right


def test_the_same_events_by_import_and_by_topic_count_once(pipeline, send, tmp_path):
    events = [event("2026-08-08 10:00:00", custom_track="click", job_id=str(number)) for number in range(20)]
    path = tmp_path / "events.csv"
    lines = [f"{row.create_time},{row.values['custom_track']},{row.values['job_id']}" for row in events]
    path.write_text("\n".join(["create_time,custom_track,job_id", *lines]) + "\n")
    imports.import_events(pipelines.get("recruitment"), path)
    by_import = lake_rows("2026-08-08 10:00")
    send.write(events)
    consume(pipeline)
    assert lake_rows("2026-08-08 10:00") == by_import and len(by_import) == 20


def test_messages_removed_by_retention_before_they_were_read_are_reported_and_kept(pipeline, send):
    send.send(value_of(event_id("2026-08-09 10:00:00")), partition=1)
    consume(pipeline)
    for _ in range(3):
        send.send(value_of(event_id("2026-08-09 10:01:00")), partition=1)
    remove_before(pipeline, 1, 3)
    summary = consume(pipeline)
    assert (summary.written, summary.refused) == (1, 1)
    (row,) = kept(pipeline)
    assert row["place"] == f"{pipeline.topic}/1/1"
    assert row["reason"] == "the topic's retention removed messages before they were read: 2 from offset 1 on"


def test_events_of_closed_minutes_are_rejected_and_named(pipeline, send):
    send.send(value_of(event_id("2026-07-06 10:00:00")), partition=0)
    summary = consume(replace(pipeline, lake_retention=timedelta(days=1)))
    assert (summary.written, summary.refused) == (0, 1)
    assert "1 row is rejected: its minute, 2026-07-06 10:00:00 UTC, is closed" in str(summary)


def test_the_command_ingests_up_to_the_end(schemas, kafka_broker, minutemark, capsys):
    recruitment = pipelines.get("recruitment")
    topics.make_topics([recruitment])
    with producer(recruitment) as send:
        send.write([event("2026-08-10 10:00:00")])
    assert minutemark("ingest", "recruitment") == 0
    assert len(lake_rows("2026-08-10 10:00")) == 1
    assert minutemark("ingest", "nothing") == 2
    assert "`pipeline` is 'nothing'. Choose one of" in capsys.readouterr().err
