"""A stream on real stores: nothing is lost or duplicated, however it ends and whatever happens to its topic."""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import datetime, timedelta

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import NewPartitions

from include import pipelines
from include.connections import KAFKA, LAKE_WRITER, WAREHOUSE_ETL, endpoint
from include.kafka import clients, topics
from include.kafka.ingest import ingest
from include.kafka.ingest_mode import SETTING
from include.kafka.ingest_mode import SPARK as BY_SPARK
from include.kafka.producer import producer
from include.lake.keys import time_uuid
from include.stream.catch_up import StreamFailed, StreamSummary, run_stream
from include.stream.catch_up import consume as consume_topic
from tests import airflow_home  # noqa: F401  (before Airflow)
from tests.kafka.conftest import committed, consume, kept, lake_rows, remove_before, until, value_of
from tests.kafka.test_holes import recreate_topic

DAY = datetime(2026, 9, 1)


class Sender:
    """Sends events of one minute, each with a unique id; knows which rows the lake must have."""

    def __init__(self, send, minute: str, partition: int | None = None) -> None:
        self._send, self.minute, self._partition = send, minute, partition
        self.ids: list[str] = []

    def __call__(self, count: int) -> None:
        at = datetime.fromisoformat(self.minute)
        for _ in range(count):
            number = len(self.ids)
            identity = str(time_uuid(at + timedelta(milliseconds=number), f"{self.minute} {number}"))
            partition = number % 4 if self._partition is None else self._partition
            self._send.send(value_of(identity, custom_track="click"), partition=partition)
            self.ids.append(identity)
        self._send.flush()

    def missing(self) -> set[str]:
        return set(self.ids) - lake_rows(self.minute).keys()


def test_with_available_now_a_stream_stops_at_the_end_of_the_topic(pipeline, send, monkeypatch):
    monkeypatch.setenv(SETTING, BY_SPARK)
    monkeypatch.setattr(pipelines, "get", lambda _: pipeline)
    events = Sender(send, "2026-09-01 10:00")
    events(300)
    send.send(b"{not json", partition=1)
    summary = run_stream(pipeline)
    assert (summary.written, summary.refused, summary.taken_over) == (300, 1, False)
    assert not events.missing() and committed(pipeline) == 301
    assert [row["place"] for row in kept(pipeline)] == [f"{pipeline.topic}/1/75"]
    again = consume_topic(pipeline.name)  # at once: the first one has left the group
    assert isinstance(again, StreamSummary)
    assert (again.written, again.refused, committed(pipeline)) == (0, 0, 301)
    recreate_topic(pipeline)
    with producer(pipeline) as new:
        longer = Sender(new, "2026-09-01 10:30")
        longer(400)
    assert run_stream(pipeline).written == 400
    assert not longer.missing() and committed(pipeline) == 400


def test_nothing_waits_for_aborted_messages_and_control_records(pipeline):
    client = Producer({**clients.settings(), "transactional.id": pipeline.name})
    client.init_transactions(30)
    for end in (client.commit_transaction, client.abort_transaction):
        client.begin_transaction()
        client.produce(pipeline.topic, value_of(time_uuid(DAY, end.__name__)), partition=1)
        client.flush(30)
        end(30)
    assert run_stream(pipeline).written == 1
    assert committed(pipeline) == 4  # two messages, each with a control record


def test_events_without_an_acknowledged_touch_are_not_committed_but_written_again(pipeline, send, refusing_change_log):
    """The same happens after a kill between writing the events and touching their minute."""
    events = Sender(send, "2026-09-01 11:00", partition=1)
    events(20)
    with pytest.raises(StreamFailed, match="denied permission"):
        run_stream(pipeline)
    assert not events.missing()
    assert committed(pipeline) == 0
    refusing_change_log()
    assert run_stream(pipeline).written == 20
    assert committed(pipeline) == 20 and len(lake_rows(events.minute)) == 20


def test_a_killed_stream_loses_nothing_and_the_next_one_does_not_wait_for_its_session(pipeline, send, start):
    events, stream = Sender(send, "2026-09-01 12:00"), start()
    events(100)
    stream.until(lambda: committed(pipeline) >= 100)
    events(2_000)
    until(lambda: len(lake_rows(events.minute)) > 100)  # in the middle of a micro-batch, usually
    stream.kill()
    events(100)
    run_stream(pipeline)
    assert not events.missing() and len(lake_rows(events.minute)) == 2_200
    assert committed(pipeline) == 2_200


def test_poison_that_cannot_be_kept_is_not_committed(pipeline, send, monkeypatch):
    """Neither the warehouse nor the dead-letter topic accepts it.

    The same happens after a kill between writing the events and keeping the poison.
    """
    from include.kafka.dead_letters import with_dead_letters

    events = Sender(send, "2026-09-01 12:30")
    events(4)
    send.send(b"{not json", partition=1)
    letters = with_dead_letters(pipeline).topic
    admin = clients.admin()  # kept until the result has arrived
    admin.delete_topics([letters])[letters].result(30)
    with monkeypatch.context() as without_warehouse:
        without_warehouse.setenv("AIRFLOW_CONN_WAREHOUSE_ETL", '{"conn_type": "mysql", "host": "127.0.0.1", "port": 1}')
        with pytest.raises(StreamFailed):
            run_stream(pipeline)
    assert committed(pipeline) == 0
    topics.make_topics([pipeline])
    assert (run_stream(pipeline).refused, committed(pipeline)) == (1, 5)


def test_messages_removed_before_they_were_read_are_recorded(pipeline, send):
    events = Sender(send, "2026-09-01 13:00", partition=1)
    events(1)
    consume(pipeline)  # by the follower, which uses the same group
    events(3)
    remove_before(pipeline, 1, 3)
    summary = run_stream(pipeline)
    assert (summary.written, summary.refused) == (1, 1)
    (row,) = kept(pipeline)
    assert row["place"] == f"{pipeline.topic}/1/1"
    assert row["reason"] == "the topic's retention removed messages before they were read: 2 from offset 1 on"
    assert committed(pipeline) == 4


def test_the_topic_may_change_while_the_stream_runs(pipeline, send, start):
    """Messages are removed unread, a partition is added, and the topic is created again."""
    stream, events = start(), Sender(send, "2026-09-01 14:00", partition=1)
    events(1)
    stream.until(lambda: committed(pipeline) == 1)

    def lose_events() -> bool:
        """Send events and remove them; returns whether some were removed before the stream read them."""
        events(200)
        remove_before(pipeline, 1, len(events.ids))
        stream.until(lambda: committed(pipeline) == len(events.ids))
        return bool(kept(pipeline))

    stream.until(lose_events)
    assert len(events.missing()) == sum(int(row["reason"].split(": ")[1].split()[0]) for row in kept(pipeline))

    admin = clients.admin()  # kept until the result has arrived
    admin.create_partitions([NewPartitions(pipeline.topic, 5)])[pipeline.topic].result(30)
    until(lambda: len(topics.offset_ranges(pipeline, f"minutemark-{pipeline.name}")) == 5)
    with producer(pipeline) as wider:
        new = Sender(wider, "2026-09-01 14:10", partition=4)
        new(3)
        stream.until(lambda: not new.missing())

    recreate_topic(pipeline)
    with producer(pipeline) as again:
        newest = Sender(again, "2026-09-01 14:20")
        newest(10)
        stream.until(lambda: not newest.missing())
    assert stream.process.poll() is None


def test_follower_and_stream_hand_over_to_each_other_without_a_gap(pipeline, send, start):
    events, first = Sender(send, "2026-09-01 15:00"), start()
    events(50)
    first.until(lambda: committed(pipeline) == 50)
    second = start()
    longest, newest = 0.0, time.monotonic()
    while first.process.poll() is None:  # events keep arriving while the second stream takes over
        events(5)
        until(lambda: not events.missing(), 60)
        longest, newest = max(longest, time.monotonic() - newest), time.monotonic()
        second.until(lambda: True)
    print(f"the longest time until sent events were in the lake: {longest:.1f} s")
    assert first.wait() == 0 and "has taken over" in first.output
    events(10)
    second.until(lambda: committed(pipeline) == len(events.ids))
    summary = ingest(pipeline, lambda: clients.follower(pipeline), seconds=60, to_the_end=True)
    assert summary.written == 0
    assert second.wait() == 0 and "has taken over" in second.output
    assert len(lake_rows(events.minute)) == len(events.ids)
    events(10)
    assert run_stream(pipeline).written == 10


def test_a_stream_ends_on_time_and_no_command_line_or_log_line_has_a_password(pipeline, send, start):
    began = time.monotonic()
    stream, events = start(seconds=45), Sender(send, "2026-09-01 16:00")
    events(10)
    stream.until(lambda: committed(pipeline) == 10)
    seen = stream.command_lines()
    passwords = [endpoint(name).password for name in (LAKE_WRITER, WAREHOUSE_ETL)]
    passwords.append(endpoint(KAFKA).extra["sasl.password"])
    assert stream.wait() == 0, stream.output
    assert 45 < time.monotonic() - began < 150
    assert "stream/run.py" in seen
    assert not [password for password in passwords if password in seen + stream.output]
    assert "taken over" not in stream.output and "10 events written" in stream.output


def test_the_task_runs_a_stream_and_names_the_topic_and_the_table_that_it_filled(schemas, kafka_broker):
    from plugins.stream import StreamTopic

    recruitment = pipelines.get("recruitment")
    topics.make_topics([recruitment])
    consume(recruitment)
    before = committed(recruitment)
    task = StreamTopic(task_id="follow_topic", pipeline="recruitment")
    running = threading.Thread(target=task.execute, args=({},), daemon=True)
    running.start()
    with producer(recruitment) as send:
        events = Sender(send, "2026-09-01 17:00")
        events(3)
    until(lambda: committed(recruitment) == before + 3, 120)
    consume(recruitment)  # a successor
    running.join(60)
    lake_port = json.loads(os.environ["AIRFLOW_CONN_LAKE_WRITER"])["port"]
    facets = task.get_openlineage_facets_on_complete(None)
    assert [data_set.name for data_set in facets.inputs] == ["recruitment.events"]
    [table] = facets.outputs
    assert (table.namespace, table.name) == (f"cassandra://127.0.0.1:{lake_port}", "bedan.tracking")
    assert table.outputFacets["outputStatistics"].rowCount == 3
