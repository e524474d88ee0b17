"""What could leave a hole between a topic and the lake: retention, new partitions, transactions, recreated topics,
and poison while the warehouse is stopped. On a real broker and real stores."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import datetime

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import NewPartitions

from include import pipelines
from include.kafka import clients, follow, topics
from include.kafka.ingest import ingest_again
from include.kafka.ingest_mode import CONNECT, DAG, DEAD_LETTERS, group_of
from include.kafka.producer import producer
from include.lake.keys import shard_of
from include.lake.writer import EventWriter
from include.operations import reprocess
from include.verify import verify
from include.warehouse import schema
from include.warehouse.rejected import Selection
from include.warehouse.session import warehouse
from local import connections
from local.layout import ROOT
from local.process import Child, free_port
from local.servers import mariadb
from tests.kafka.conftest import commit_as_connect, committed, consume, kept, lake_rows, remove_before, until, value_of
from tests.kafka.test_ingest import Follower
from tests.lake.conftest import event_id

pytestmark = pytest.mark.usefixtures("by_dag")


def send_to(send, partition: int, minute: str, count: int) -> None:
    for _ in range(count):
        send.send(value_of(event_id(f"{minute}:00")), partition=partition)


def topic_findings(pipeline) -> tuple[dict[str, int], dict[str, int], str]:
    """What verify finds in the topic: differences, waiting messages, and the topic's line of the report."""
    report = verify.verify([pipeline], patience=0).pipelines[0]
    differs, apart = (
        {kind: count for kind, count in findings.counts.items() if kind.startswith("topic_")}
        for findings in (report.differences, report.apart)
    )
    return differs, apart, report.notes[0]


# Retention


def test_retention_that_overtakes_a_running_follower_is_recorded_as_lost(schemas, kafka_broker):
    recruitment = pipelines.get("recruitment")
    topics.make_topics([recruitment])
    consume(recruitment)
    before = committed(recruitment)
    end = topics.offset_ranges(recruitment, group_of("recruitment", DAG))[1].end
    command = [sys.executable, "-m", "include.cli", "ingest", "recruitment", "--seconds", "300"]
    follower = subprocess.Popen(command, cwd=ROOT)
    try:
        with producer(recruitment) as send:
            send_to(send, 1, "2026-10-01 10:00", 3)
            until(lambda: committed(recruitment) == before + 3, 60)
            follower.send_signal(signal.SIGSTOP)
            # The broker may answer a request already under way with this message. A stopped process sends no other.
            send_to(send, 1, "2026-10-01 10:03", 1)
            send_to(send, 1, "2026-10-01 10:01", 5)
            remove_before(recruitment, 1, end + 3 + 1 + 4)  # one of the five is left
            send_to(send, 1, "2026-10-01 10:02", 2)
        follower.send_signal(signal.SIGCONT)
        until(lambda: committed(recruitment) == before + 11, 60)
        assert follower.poll() is None  # the same one, not a successor
    finally:
        follower.kill()
        follower.wait()
    assert [len(lake_rows(f"2026-10-01 10:0{minute}")) for minute in range(3)] == [3, 1, 2]
    answered = len(lake_rows("2026-10-01 10:03"))
    first, count = end + 3 + answered, 5 - answered
    (lost,) = (row for row in kept(recruitment) if row["place"] == f"recruitment.events/1/{first}")
    removed = "the topic's retention removed messages before they were read"
    assert lost["reason"] == f"{removed}: {count} from offset {first} on"
    differs, waits, _ = topic_findings(recruitment)
    # Other differences are messages of earlier tests, whose rows were removed from the lake.
    assert "topic_expired" not in differs and waits == {}


def test_messages_of_a_new_partition_that_retention_removed_unread_are_lost(pipeline, send):
    send_to(send, 0, "2026-10-01 11:00", 1)
    consume(pipeline)
    add_partitions(pipeline, 6)
    with producer(pipeline) as new:  # a new producer, which knows the new partitions
        send_to(new, 5, "2026-10-01 11:01", 3)
    remove_before(pipeline, 5, 2)
    assert consume(pipeline).written == 1
    assert [row["place"] for row in kept(pipeline)] == [f"{pipeline.topic}/5/0"]


def test_messages_expired_before_the_first_follower_are_not_counted_as_lost(pipeline, send):
    send_to(send, 0, "2026-10-01 12:00", 3)
    remove_before(pipeline, 0, 2)
    assert (consume(pipeline).written, kept(pipeline)) == (1, [])


def test_gaps_of_transactions_are_not_losses(pipeline, send):
    for _ in range(3):
        transaction(pipeline, 2)
        transaction(pipeline, 2, commit=False)
        consume(pipeline)
    send_to(send, 1, "2026-10-01 13:00", 1)
    assert (consume(pipeline).written, kept(pipeline)) == (1, [])


# A follower that is suspended


@pytest.mark.parametrize("where", ["before its chunk is fenced", "before its events are written"])
def test_a_suspended_follower_does_not_replace_what_its_successor_wrote(pipeline, send, monkeypatch, where):
    identity, suspended, resumed = event_id("2026-10-01 14:00:00"), threading.Event(), threading.Event()

    def stop_first(result=None):
        if threading.current_thread() is first:
            suspended.set()
            assert resumed.wait(60)
        return result

    gather, write = follow.gather, EventWriter.write
    if where == "before its chunk is fenced":

        def gather_and_stop(consumer, at_end):
            chunk = gather(consumer, at_end)
            return stop_first(chunk) if chunk.messages else chunk

        monkeypatch.setattr(follow, "gather", gather_and_stop)
    else:
        monkeypatch.setattr(EventWriter, "write", lambda *args, **options: stop_first() or write(*args, **options))
    first = Follower(pipeline)
    send.send(value_of(identity, bid="9"), partition=0)
    assert suspended.wait(60)
    send.send(value_of(identity, bid="10"), partition=0)
    assert consume(pipeline).written == 2  # the first follower has committed nothing
    resumed.set()
    first.join(60)
    assert first.summary.taken_over
    assert lake_rows("2026-10-01 14:00")[str(identity)].bid == "10"
    assert committed(pipeline) == 2


# New partitions


def add_partitions(pipeline, count: int) -> None:
    client = clients.admin()  # kept alive until the answer arrives
    client.create_partitions([NewPartitions(pipeline.topic, count)])[pipeline.topic].result(30)
    until(lambda: len(client.list_topics(pipeline.topic, timeout=10).topics[pipeline.topic].partitions) == count)


def test_a_running_follower_reads_partitions_that_its_topic_gains(pipeline, send, monkeypatch):
    monkeypatch.setattr(follow, "REFRESH", 1.0)
    follower = Follower(pipeline)
    send_to(send, 0, "2026-10-02 10:00", 1)
    until(lambda: committed(pipeline) == 1)
    add_partitions(pipeline, 8)
    identity = event_id("2026-10-02 10:01:00")
    with producer(pipeline) as new:
        new.send(value_of(identity), partition=6)
    until(lambda: committed(pipeline) == 2)
    assert lake_rows("2026-10-02 10:01")[str(identity)].shard == shard_of(str(identity), pipeline.shards)
    consume(pipeline)
    follower.join(30)
    assert follower.summary.written == 2


def test_a_successor_and_a_second_read_include_new_partitions(pipeline, send):
    consume(pipeline)
    add_partitions(pipeline, 8)
    with producer(pipeline) as new:
        send_to(new, 7, "2026-10-02 11:00", 2)
    assert consume(pipeline).written == 2
    assert ingest_again(pipeline).written == 2
    assert topic_findings(pipeline)[:2] == ({}, {})


# Transactions


def transaction(pipeline, count: int, *, commit: bool = True, partition: int = 1) -> None:
    client = Producer({**clients.settings(), "transactional.id": str(event_id("2026-10-03 10:00:00"))})
    client.init_transactions(30)
    client.begin_transaction()
    for _ in range(count):
        client.produce(pipeline.topic, value_of(event_id("2026-10-03 10:00:00")), partition=partition)
    client.flush(30)
    (client.commit_transaction if commit else client.abort_transaction)(30)


def test_nothing_waits_for_finished_transactions(pipeline):
    before = len(lake_rows("2026-10-03 10:00"))
    transaction(pipeline, 5)
    transaction(pipeline, 5, commit=False)
    assert consume(pipeline).written == 5
    assert len(lake_rows("2026-10-03 10:00")) == before + 5
    differs, waits, line = topic_findings(pipeline)
    assert (differs, waits) == ({}, {})
    assert "5 messages, 5 in the lake, 0 rejected, 0 missing; 0 more are waiting" in line


def test_an_aborted_transaction_does_not_count_as_waiting_before_a_reader_has_passed_it(pipeline):
    transaction(pipeline, 5)
    consume(pipeline)
    transaction(pipeline, 5, commit=False)
    group = group_of(pipeline.name, DAG)
    assert sum(offsets.waiting for offsets in topics.offset_ranges(pipeline, group).values()) == 0
    transaction(pipeline, 1)
    assert sum(offsets.waiting for offsets in topics.offset_ranges(pipeline, group).values()) > 0


def test_connects_offset_before_a_control_record_leaves_nothing_waiting(pipeline, monkeypatch):
    transaction(pipeline, 5)
    consume(pipeline)
    monkeypatch.setenv("MINUTEMARK_INGEST", CONNECT)
    commit_as_connect(pipeline, behind=1)  # Connect never receives a control record, and commits no offset after it
    assert topic_findings(pipeline)[:2] == ({}, {})


def test_verify_ends_at_control_records(pipeline, monkeypatch):
    monkeypatch.setattr(topics, "_PATIENCE", 3.0)
    transaction(pipeline, 3)
    consume(pipeline)
    remove_before(pipeline, 1, 3)  # only the control record is left
    differs, waits, line = topic_findings(pipeline)
    assert (differs, waits) == ({}, {}) and "0 messages" in line


# Recreated topics


def remove_topic(pipeline) -> None:
    client = clients.admin()
    client.delete_topics([pipeline.topic])[pipeline.topic].result(30)
    until(lambda: pipeline.topic not in client.list_topics(timeout=10).topics)


def recreate_topic(pipeline) -> None:
    remove_topic(pipeline)
    until(lambda: topics.make_topics([pipeline]) is None)


def test_poison_of_a_recreated_topic_overwrites_nothing(pipeline, send):
    send.send(b"{first", partition=0)
    consume(pipeline)
    recreate_topic(pipeline)
    with producer(pipeline) as new:
        new.send(b"{second", partition=0)
    assert consume(pipeline).refused == 1
    result = kept(pipeline)
    assert {row["place"] for row in result} == {f"{pipeline.topic}/0/0"}
    assert sorted(row["payload"] for row in result) == ['{"line": "{first"}', '{"line": "{second"}']
    assert topic_findings(pipeline)[:2] == ({}, {})


def test_a_recreated_topic_that_is_longer_than_before_is_read_from_its_start(pipeline, send):
    send_to(send, 0, "2026-10-04 10:00", 3)
    consume(pipeline)
    recreate_topic(pipeline)
    with producer(pipeline) as new:
        send_to(new, 0, "2026-10-04 10:01", 5)
    assert consume(pipeline).written == 5
    assert len(lake_rows("2026-10-04 10:01")) == 5
    assert (consume(pipeline).written, committed(pipeline)) == (0, 5)
    assert topic_findings(pipeline)[:2] == ({}, {})


def commit_at(pipeline, partition: int, offset: int) -> None:
    """Commit this offset without the topic's id."""
    client = Consumer({**clients.settings(), "group.id": group_of(pipeline.name, DAG)})
    client.commit(offsets=[TopicPartition(pipeline.topic, partition, offset)], asynchronous=False)
    client.close()


def test_a_partition_that_ends_before_the_committed_offset_is_waiting_and_read_from_its_start(pipeline, send):
    """A broker that lost its newest messages, for example in a power cut, leaves such offsets."""
    send_to(send, 0, "2026-10-04 13:00", 3)
    commit_at(pipeline, 0, 8)
    group = group_of(pipeline.name, DAG)
    assert topics.waiting(pipeline, group) == 3
    assert topics.offset_ranges(pipeline, group)[0] == topics.OffsetRange(0, None, 3)
    assert topic_findings(pipeline)[:2] == ({}, {"topic_waiting": 1})
    assert consume(pipeline).written == 3
    assert topic_findings(pipeline)[:2] == ({}, {})


def test_offsets_that_were_committed_without_the_topics_id_are_valid(pipeline, send):
    """An earlier version commits them like this, and so does Kafka's tool that resets offsets."""
    send_to(send, 0, "2026-10-04 11:00", 3)
    commit_at(pipeline, 0, 2)
    assert consume(pipeline).written == 1


def test_nothing_is_committed_without_the_topics_id_if_the_committed_offsets_have_one(pipeline, send, monkeypatch):
    """The id is missing while a topic is deleted and created again."""
    send_to(send, 0, "2026-10-04 12:00", 3)
    consume(pipeline)
    recreate_topic(pipeline)
    with monkeypatch.context() as without_id:
        without_id.setattr(topics, "topic_id", lambda *_: None)
        assert consume(pipeline, seconds=3).written == 0
    with producer(pipeline) as new:
        send_to(new, 0, "2026-10-04 12:01", 5)
    assert consume(pipeline).written == 5


def test_a_message_that_was_kept_without_the_topics_id_is_not_kept_twice(pipeline, send):
    send.send(b"{first", partition=0)
    consume(pipeline)
    (row,) = kept(pipeline)
    with warehouse() as conn:
        conn.cursor().execute(
            "UPDATE etl.rejected_events SET origin_key = %s WHERE pipeline = %s", (row["place"], pipeline.name)
        )
        conn.commit()
    assert topic_findings(pipeline)[:2] == ({}, {})  # known by its former key
    ingest_again(pipeline)
    assert kept(pipeline) == [row]


# The warehouse is stopped


class StoppableWarehouse:
    """A MariaDB server of the test's own, whose data outlives a stop."""

    def __init__(self, folder) -> None:
        passwords = connections.new_passwords()
        accounts = connections.warehouse_passwords(passwords)
        self._server = mariadb.Server(folder / "mariadb", free_port(), accounts, throw_away=True)
        self._log = folder / "mariadb.log"
        self._command = self._server.prepare()
        self.variables = connections.warehouse(passwords, self._server.port)

    def start(self) -> None:
        self._child = Child(self._command, self._log)
        self._server.wait_until_ready(alive=self._child.alive, log=str(self._child.log))

    def stop(self) -> None:
        self._child.stop()

    def set_read_only(self, value: int) -> None:
        with warehouse("warehouse_admin") as admin:
            admin.cursor().execute("SET GLOBAL read_only = %s", (value,))


@pytest.fixture
def own_warehouse(tmp_path, schemas, monkeypatch):
    server = StoppableWarehouse(tmp_path)
    server.start()
    for name, value in server.variables.items():
        monkeypatch.setenv(name, value)
    schema.apply_schema()
    yield server
    server.stop()


def test_poison_stops_no_event_while_the_warehouse_is_stopped_and_is_kept_afterwards(own_warehouse, pipeline, send):
    own_warehouse.stop()
    for number in range(3):
        send.send(b"{not json", partition=1)
        send_to(send, 1, f"2026-10-05 10:0{number}", 2)
    summary = consume(pipeline)
    assert (summary.written, summary.refused, summary.dead_letters) == (6, 0, 3)
    assert [len(lake_rows(f"2026-10-05 10:0{number}")) for number in range(3)] == [2, 2, 2]
    assert committed(pipeline) == 9
    own_warehouse.start()
    differs, waits, line = topic_findings(pipeline)
    assert (differs, waits) == ({}, {"topic_waiting": 1}) and "3 in the dead-letter topic" in line
    assert consume(pipeline).refused == 3
    assert [row["place"] for row in kept(pipeline)] == [f"{pipeline.topic}/1/{offset}" for offset in (0, 3, 6)]
    assert {row["reason"].partition(":")[0] for row in kept(pipeline)} == {"the message is not JSON"}
    assert topic_findings(pipeline)[:2] == ({}, {})


def test_poison_that_was_kept_late_does_not_replace_a_version_that_came_after_it(own_warehouse, pipeline, send):
    strict, identity = replace(pipeline, earliest=datetime(2027, 1, 1)), event_id("2026-10-05 12:00:00")
    own_warehouse.stop()
    send.send(value_of(identity, custom_track="first"), partition=1)
    assert consume(strict).dead_letters == 1
    send.send(value_of(identity, custom_track="second"), partition=1)
    assert consume(pipeline).written == 1
    own_warehouse.start()
    assert consume(pipeline).refused == 1
    assert reprocess.begin(pipeline, Selection(), lambda _: None).written == 1
    assert lake_rows("2026-10-05 12:00:00")[str(identity)].custom_track == "second"


def test_a_gap_is_recorded_although_the_warehouse_is_stopped(own_warehouse, pipeline, send):
    send_to(send, 1, "2026-10-05 11:00", 1)
    consume(pipeline)
    send_to(send, 1, "2026-10-05 11:01", 3)
    remove_before(pipeline, 1, 3)
    own_warehouse.stop()
    summary = consume(pipeline)
    assert (summary.written, summary.dead_letters) == (1, 1)
    own_warehouse.start()
    consume(pipeline)
    assert [row["reason"] for row in kept(pipeline)] == [
        "the topic's retention removed messages before they were read: 2 from offset 1 on"
    ]


def test_dead_letters_wait_while_the_warehouse_is_stopped(own_warehouse, pipeline, send):
    own_warehouse.stop()
    send.send(b"{not json", partition=1)
    consume(pipeline)
    assert consume(pipeline).refused == 0
    group = group_of(pipeline.name, DEAD_LETTERS)
    letters = replace(pipeline, topic=f"{pipeline.topic}.dead")
    assert sum(offsets.waiting for offsets in topics.offset_ranges(letters, group).values()) == 1
    own_warehouse.start()
    assert consume(pipeline).refused == 1


def test_poison_stops_no_event_while_the_warehouse_is_read_only_and_is_kept_afterwards(own_warehouse, pipeline, send):
    own_warehouse.stop()
    send.send(b"{not json", partition=1)
    assert consume(pipeline).dead_letters == 1
    own_warehouse.start()
    own_warehouse.set_read_only(1)
    send_to(send, 1, "2026-10-05 12:00", 1)
    assert consume(pipeline).written == 1  # although the first message cannot leave the dead-letter topic
    send.send(b"{not json either", partition=1)
    send_to(send, 1, "2026-10-05 12:01", 1)
    summary = consume(pipeline)
    assert (summary.written, summary.refused, summary.dead_letters) == (1, 0, 1)
    assert committed(pipeline) == 4
    own_warehouse.set_read_only(0)
    assert consume(pipeline).refused == 2
    assert [row["place"] for row in kept(pipeline)] == [f"{pipeline.topic}/1/{offset}" for offset in (0, 2)]


def test_poison_does_not_wait_for_a_locked_warehouse(own_warehouse, pipeline, send):
    send.send(b"{not json", partition=1)
    send_to(send, 1, "2026-10-05 13:00", 1)
    with warehouse("warehouse_admin") as admin:
        # By default a day or more: a failing test would not end.
        admin.cursor().execute("SET GLOBAL lock_wait_timeout = 10")
        admin.cursor().execute("FLUSH TABLES WITH READ LOCK")  # as backups do
        summary = consume(pipeline)
    assert (summary.written, summary.dead_letters) == (1, 1)
    assert summary.seconds < 30
    assert consume(pipeline).refused == 1
