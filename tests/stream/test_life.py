"""When a stream joins its group, what it commits, and how it continues: on a real broker and real stores.

Spark's query and the writer are fakes: micro-batches arrive when a test wants them, and no workers are started.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import NewPartitions
from pyspark.errors import PySparkException, StreamingQueryException

from include.kafka import clients, topics
from include.kafka.clients import BrokerError
from include.kafka.ingest_mode import DAG, group_of
from include.kafka.positions import Offsets, Start
from include.kafka.producer import producer
from include.pipelines import Pipeline
from include.stream import stream as module
from include.stream.job import Job
from include.stream.member import Member
from include.stream.partition import PartitionResult
from include.stream.stream import Stream
from tests.kafka.conftest import until
from tests.kafka.test_holes import recreate_topic

MESSAGES = 10  # in each partition


class Group(Member):
    """The stream's real member, whose steps a test can delay; `commits` has its commits."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__(pipeline)
        self.pipeline = pipeline
        self.after_peek: Callable[[], object] = lambda: None
        self.while_joining: Callable[[], object] = lambda: None
        self.while_committing: Callable[[], object] = lambda: None
        self.commits: list[tuple[Offsets, str | None]] = []

    def end_offsets(self, *offsets: int) -> Offsets:
        """The end offsets of the first partitions, as a micro-batch commits them."""
        return {(self.pipeline.topic, partition): offset for partition, offset in enumerate(offsets)}

    def all_offsets(self, *offsets: int, partitions: int = 4) -> Offsets:
        """The offsets of all partitions: those after the given ones are 0, that is, unread."""
        return self.end_offsets(*offsets, *[0] * (partitions - len(offsets)))

    def commit_at(self, *offsets: int) -> None:
        """Commit for the group, which has no member yet."""
        with contextlib.closing(
            Consumer({**clients.settings(), "group.id": group_of(self.pipeline.name, DAG), "enable.auto.commit": False})
        ) as client:
            places = [TopicPartition(*place, offset) for place, offset in self.all_offsets(*offsets).items()]
            client.commit(offsets=places, asynchronous=False)

    @property
    def has_members(self) -> bool:
        return topics.has_members(group_of(self.pipeline.name, DAG))

    def peek(self) -> Start:
        start = super().peek()
        self.after_peek()
        self.after_peek = lambda: None
        return start

    def starts(self, record_gaps) -> Start:
        self.while_joining()
        return super().starts(record_gaps)

    def commit(self, offsets: Offsets, topic_id: str | None) -> None:
        self.while_committing()
        super().commit(offsets, topic_id)
        self.commits.append((dict(offsets), topic_id))

    def rejoin(self) -> None:
        """Leave the group and join it again, like a client that was away for too long."""
        before = self._joins
        self.leave()
        self._client.subscribe([self.pipeline.topic], on_assign=self._on_assign)
        until(lambda: self.poll(0.1) or self._joins > before)

    @property
    def committed(self) -> list[Offsets]:
        """The commits that differ from the previous one."""
        result = [offsets for offsets, _ in self.commits]
        return [offsets for number, offsets in enumerate(result) if number == 0 or offsets != result[number - 1]]


class Batch:
    """A micro-batch whose partitions end at these offsets, each with one event written."""

    def __init__(self, *ends: int, fails: BaseException | None = None) -> None:
        self._results = [PartitionResult(partition, end, written=1) for partition, end in enumerate(ends)]
        self._fails, self._calls = fails, 0
        self.rdd = self

    def mapPartitions(self, function) -> Batch:  # noqa: N802  # Spark's
        self._is_warm_up = function == "warm_up"
        return self

    def collect(self) -> list[PartitionResult]:
        if self._fails is not None and not self._is_warm_up:
            raise self._fails
        return [] if self._is_warm_up else self._results


class Writer:
    warm_up = "warm_up"


class Query:
    """Runs one step of its script each time that the stream waits for it."""

    def __init__(self, steps: list[Callable[[Query], object]], starts: dict, write) -> None:
        self.steps, self.starts, self.write = iter(steps), starts, write
        self.isActive, self.status = True, {"message": "Processing new data"}
        self.failure: StreamingQueryException | None = None
        self.ends: dict = {}
        self.stop: Callable[[], object] = lambda: None

    def awaitTermination(self, _: float) -> None:  # noqa: N802  # Spark's
        step = next(self.steps, None)
        if step is None:
            self.isActive = False
        else:
            step(self)

    def exception(self) -> StreamingQueryException | None:
        return self.failure

    def fail(self) -> None:
        self.isActive, self.failure = False, StreamingQueryException("it failed")

    def run(self, batch: Batch) -> None:
        try:
            self.write(batch, 0)
        except BaseException:
            self.fail()
            raise self.failure from None  # ty: ignore[invalid-raise]


def waits(query: Query) -> None:
    query.status = {"message": "Waiting for data to arrive"}


def batch(*ends: int, fails: BaseException | None = None) -> Callable[[Query], None]:
    return lambda query: query.run(Batch(*ends, fails=fails))


@pytest.fixture
def group(pipeline, monkeypatch) -> Iterator[Group]:
    """The group of a topic with messages in each partition."""
    until(lambda: len(topics.offset_ranges(pipeline, "any")) == pipeline.shards)
    with producer(pipeline) as messages:
        for partition in range(pipeline.shards):
            for _ in range(MESSAGES):
                messages.send(b"{}", partition)
    result = Group(pipeline)
    monkeypatch.setattr(module, "Member", lambda _: result)
    return result


@pytest.fixture
def make_stream(group, monkeypatch):
    """Makes a stream. Each of its queries runs the next of the scripts; `queries` of the stream lists the queries."""

    def make(*scripts: list, seconds: float = 120, to_the_end: bool = False) -> Stream:
        job = Job(group.pipeline, seconds, to_the_end, "file:///none", Path("none"), (), {})
        result = Stream(None, job)  # ty: ignore[invalid-argument-type]
        result.queries, remaining = [], iter(scripts)  # ty: ignore[unresolved-attribute]

        def start(spark, job, starts, checkpoint, write) -> Query:
            result.queries.append(Query(next(remaining), starts, write))  # ty: ignore[unresolved-attribute]
            return result.queries[-1]  # ty: ignore[unresolved-attribute]

        monkeypatch.setattr(module.query, "start", start)
        monkeypatch.setattr(module.query, "ends_of", lambda query: query.ends)
        monkeypatch.setattr(module.query, "remove", lambda *_: None)
        return result

    monkeypatch.setattr(Stream, "_start_workers", lambda _: None)
    monkeypatch.setattr(Stream, "_writer", lambda *_: Writer)
    return make


def wait_until_over(stream: Stream) -> None:
    until(stream._is_over, 60)


def test_end_offsets_of_a_query_are_not_committed_before_the_stream_has_taken_over(group, make_stream):
    """The stream is already a member while it reads the group's offsets, and the running query has an older end."""
    group.commit_at(1, 1)
    group.after_peek = lambda: group.commit_at(7, 7)
    inside, released, threads = threading.Event(), threading.Event(), []
    group.while_joining = lambda: inside.set() or released.wait(30)

    def takes_over(query: Query) -> None:
        query.ends = group.end_offsets(3, 3)
        threads.append(threading.Thread(target=query.write, args=(Batch(9, 8), 0)))
        threads[0].start()
        assert inside.wait(30) and group.joined

    def has_no_commit(_: Query) -> None:
        assert group.commits == []

    def joins(_: Query) -> None:
        released.set()
        threads[0].join(30)

    make_stream([takes_over, has_no_commit, joins]).run()
    assert group.committed == [group.all_offsets(7, 7), group.end_offsets(9, 8)]
    assert {topic_id for _, topic_id in group.commits} == {topics.topic_id(group.pipeline.topic)}


def test_a_micro_batch_waits_until_the_stream_has_taken_over(group, make_stream):
    threads = []

    def comes_meanwhile() -> None:
        threads.append(threading.Thread(target=lambda: stream.queries[0].write(Batch(2, 2), 0)))
        threads[0].start()
        until(lambda: stream._joining.locked())
        assert group.commits == []

    group.after_peek, group.while_joining = lambda: group.commit_at(1, 0), comes_meanwhile
    stream = make_stream([waits, lambda _: threads[0].join(30)])
    stream.run()
    assert group.committed == [group.all_offsets(1, 0), group.end_offsets(2, 2)]


def test_a_topic_that_gains_a_partition_before_the_stream_joins_gets_another_query(group, make_stream):
    def grows() -> None:
        client = clients.admin()  # kept until the result has arrived
        client.create_partitions([NewPartitions(group.pipeline.topic, 5)])[group.pipeline.topic].result(30)
        until(lambda: len(topics.offset_ranges(group.pipeline, "any")) == 5)

    group.after_peek = grows
    stream = make_stream([batch(1, 1)], [batch(1, 1, 1, 1, 1)])
    stream.run()
    assert [query.starts for query in stream.queries] == [group.all_offsets(0), group.all_offsets(0, partitions=5)]
    assert group.committed[-1] == group.end_offsets(1, 1, 1, 1, 1)


def test_a_topic_that_is_created_again_before_the_stream_joins_gets_another_query(group, make_stream):
    group.after_peek = lambda: recreate_topic(group.pipeline)
    stream = make_stream([batch(1, 1)], [batch(1, 1)])
    stream.run()
    assert [query.starts for query in stream.queries] == [group.all_offsets(0, 0), group.all_offsets(0, 0)]
    assert group.commits[-1] == (group.end_offsets(1, 1), topics.topic_id(group.pipeline.topic))


def test_offsets_that_go_back_before_the_stream_joins_get_another_query(group, make_stream):
    group.commit_at(5, 0)
    group.after_peek = lambda: group.commit_at(0, 0)
    stream = make_stream([waits, waits], [batch(1, 1)])
    stream.run()
    assert [query.starts for query in stream.queries] == [group.all_offsets(5, 0), group.all_offsets(0, 0)]


def test_a_failure_that_a_second_query_repeats_ends_the_stream(group, make_stream):
    error = PySparkException("of the lake")
    stream = make_stream([batch(1, 1, fails=error)], [batch(1, 1, fails=error)])
    with pytest.raises(PySparkException, match="of the lake"):
        stream.run()
    assert group.committed == [group.all_offsets(0, 0)]


def test_a_stream_whose_time_is_up_leaves_the_group_to_its_current_member(group, make_stream):
    stream = make_stream([lambda _: wait_until_over(stream), batch(1, 1)], seconds=0.1)
    stream.run()
    assert (group.joined, group.commits) == (False, [])
    stream = make_stream([lambda query: wait_until_over(stream) or query.run(Batch(1, 1))], seconds=0.1)
    stream.run()
    assert (group.joined, group.commits) == (False, [])


def test_the_time_of_a_stream_starts_once_the_workers_have_started(group, make_stream, monkeypatch):
    stream = make_stream([batch(1, 1)], seconds=8)
    monkeypatch.setattr(Stream, "_start_workers", lambda _: until(lambda: time.monotonic() > stream._started + 9, 60))
    stream.run()
    assert group.committed[-1] == group.end_offsets(1, 1)


def test_a_catch_up_joins_the_group_even_if_there_is_nothing_to_read(group, make_stream):
    make_stream([], to_the_end=True, seconds=float("inf")).run()
    assert group.joined


def test_a_failure_to_record_gaps_near_the_end_of_a_streams_time_is_not_success(group, make_stream):
    def fails() -> None:
        group.while_joining = lambda: None
        wait_until_over(stream)
        raise BrokerError("away")

    group.while_joining = fails
    stream = make_stream([batch(1, 1)], seconds=10)
    with pytest.raises(BrokerError):
        stream.run()


@pytest.mark.parametrize("steps", [[], [batch(1, 1)]])
def test_an_error_near_the_end_of_a_streams_time_is_not_success(group, make_stream, steps):
    stream = make_stream([*steps, lambda query: wait_until_over(stream) or query.fail()], seconds=10)
    with pytest.raises(StreamingQueryException):
        stream.run()


def test_what_stop_interrupts_is_not_a_failure(group, make_stream):
    def is_interrupted(query: Query) -> None:
        def stop() -> None:
            with contextlib.suppress(StreamingQueryException):
                query.run(Batch(2, 2, fails=PySparkException("cancelled")))

        query.stop = stop

    make_stream([batch(1, 1), is_interrupted]).run()
    assert group.committed[-1] == group.all_offsets(1, 1)


def test_a_query_that_does_not_stop_does_not_hide_a_successor(group, make_stream):
    def does_not_stop() -> None:
        raise PySparkException("still running")

    with Member(group.pipeline) as successor:

        def is_fenced(query: Query) -> None:
            query.stop = does_not_stop
            successor.join()

        assert make_stream([batch(1, 1), is_fenced, *[lambda _: time.sleep(0.1)] * 100]).run().taken_over
        assert group.has_members


def test_a_stream_that_ends_by_itself_leaves_the_group(group, make_stream):
    make_stream([batch(1, 1)]).run()
    assert not group.has_members


def test_a_stream_that_has_rejoined_the_group_continues_at_the_committed_offsets(group, make_stream):
    def rejoins(query: Query) -> None:
        group.rejoin()
        query.run(Batch(2, 2))

    stream = make_stream([batch(1, 1), rejoins], [batch(2, 2)])
    stream.run()
    assert [query.starts for query in stream.queries] == [group.all_offsets(0, 0), group.all_offsets(1, 1)]
    assert group.committed == [
        group.all_offsets(0),
        group.end_offsets(1, 1),
        group.all_offsets(1, 1),
        group.end_offsets(2, 2),
    ]


def test_committed_offsets_do_not_go_back(group, make_stream):
    """The thread that watches the query skips control records while a micro-batch commits older offsets."""
    threads = []

    def comes_meanwhile() -> None:
        group.while_committing = lambda: None
        threads.append(threading.Thread(target=stream._commit, args=(group.end_offsets(5, 5),)))
        threads[0].start()
        assert group.committed == [group.all_offsets(0), group.end_offsets(1, 1)]

    def commits_older_offsets(_: Query) -> None:
        group.while_committing = comes_meanwhile
        stream._commit({})
        threads[0].join(30)

    stream = make_stream([batch(1, 1), commits_older_offsets])
    stream.run()
    assert group.committed == [
        group.all_offsets(0),
        group.end_offsets(1, 1),
        group.all_offsets(1, 1),
        group.end_offsets(5, 5),
    ]
