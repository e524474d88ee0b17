"""When a stream joins its group, what it commits, and how it continues: on a real broker and real stores.

Only Spark's query is a fake: its micro-batches arrive when a test wants them.
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
from tests.kafka.test_holes import make_again

MESSAGES = 10  # in each partition


class Group(Member):
    """The stream's real member, whose steps a test can hold up; `commits` has what it committed."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__(pipeline)
        self.pipeline = pipeline
        self.after_peek: Callable[[], object] = lambda: None
        self.while_joining: Callable[[], object] = lambda: None
        self.while_committing: Callable[[], object] = lambda: None
        self.commits: list[tuple[Offsets, str | None]] = []

    def ends(self, *offsets: int) -> Offsets:
        """The end offsets of the first partitions, as a micro-batch commits them."""
        return {(self.pipeline.topic, partition): offset for partition, offset in enumerate(offsets)}

    def at(self, *offsets: int, partitions: int = 4) -> Offsets:
        """The offsets of all partitions: those after the given ones are 0, that is, unread."""
        return self.ends(*offsets, *[0] * (partitions - len(offsets)))

    def commit_at(self, *offsets: int) -> None:
        """Commit for the group, which has no member yet."""
        with contextlib.closing(
            Consumer({**clients.settings(), "group.id": group_of(self.pipeline.name, DAG), "enable.auto.commit": False})
        ) as client:
            places = [TopicPartition(*place, offset) for place, offset in self.at(*offsets).items()]
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

    def joins_again(self) -> None:
        """Leave the group and join it again, like a client that was away for too long."""
        before = self._joins
        self.leave()
        self._client.subscribe([self.pipeline.topic], on_assign=self._on_assign)
        until(lambda: self.poll(0.1) or self._joins > before)

    @property
    def committed(self) -> list[Offsets]:
        """The commits that differ from the one before."""
        result = [offsets for offsets, _ in self.commits]
        return [offsets for number, offsets in enumerate(result) if number == 0 or offsets != result[number - 1]]


class Batch:
    """A micro-batch whose partitions have these results."""

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
def stream(group, monkeypatch):
    """Makes a stream, whose queries run these scripts one after the other; they are in its `queries`."""

    def made(*scripts: list, seconds: float = 120, to_the_end: bool = False) -> Stream:
        job = Job(group.pipeline, seconds, to_the_end, "file:///none", Path("none"), (), {})
        result = Stream(None, job)  # ty: ignore[invalid-argument-type]
        result.queries, left = [], iter(scripts)  # ty: ignore[unresolved-attribute]

        def start(spark, job, starts, checkpoint, write) -> Query:
            result.queries.append(Query(next(left), starts, write))  # ty: ignore[unresolved-attribute]
            return result.queries[-1]  # ty: ignore[unresolved-attribute]

        monkeypatch.setattr(module.query, "start", start)
        monkeypatch.setattr(module.query, "ends_of", lambda query: query.ends)
        monkeypatch.setattr(module.query, "remove", lambda *_: None)
        return result

    monkeypatch.setattr(Stream, "_start_workers", lambda _: None)
    monkeypatch.setattr(Stream, "_writer", lambda *_: Writer)
    return made


def wait_until_over(made: Stream) -> None:
    until(made._is_over, 60)


def test_ends_of_a_query_are_not_committed_before_the_stream_has_taken_over(group, stream):
    """It is already a member while it reads the group's offsets, and the running query has an older end."""
    group.commit_at(1, 1)
    group.after_peek = lambda: group.commit_at(7, 7)
    inside, released, threads = threading.Event(), threading.Event(), []
    group.while_joining = lambda: inside.set() or released.wait(30)

    def takes_over(query: Query) -> None:
        query.ends = group.ends(3, 3)
        threads.append(threading.Thread(target=query.write, args=(Batch(9, 8), 0)))
        threads[0].start()
        assert inside.wait(30) and group.joined

    def goes_by(_: Query) -> None:
        assert group.commits == []

    def ends(_: Query) -> None:
        released.set()
        threads[0].join(30)

    stream([takes_over, goes_by, ends]).run()
    assert group.committed == [group.at(7, 7), group.ends(9, 8)]
    assert {topic_id for _, topic_id in group.commits} == {topics.topic_id(group.pipeline.topic)}


def test_a_micro_batch_waits_until_the_stream_has_taken_over(group, stream):
    threads = []

    def comes_meanwhile() -> None:
        threads.append(threading.Thread(target=lambda: made.queries[0].write(Batch(2, 2), 0)))
        threads[0].start()
        until(lambda: made._joining.locked())
        assert group.commits == []

    group.after_peek, group.while_joining = lambda: group.commit_at(1, 0), comes_meanwhile
    made = stream([waits, lambda _: threads[0].join(30)])
    made.run()
    assert group.committed == [group.at(1, 0), group.ends(2, 2)]


def test_a_topic_that_gains_a_partition_before_the_stream_joins_gets_another_query(group, stream):
    def grows() -> None:
        client = clients.admin()  # kept until the answer is there
        client.create_partitions([NewPartitions(group.pipeline.topic, 5)])[group.pipeline.topic].result(30)
        until(lambda: len(topics.offset_ranges(group.pipeline, "any")) == 5)

    group.after_peek = grows
    made = stream([batch(1, 1)], [batch(1, 1, 1, 1, 1)])
    made.run()
    assert [query.starts for query in made.queries] == [group.at(0), group.at(0, partitions=5)]
    assert group.committed[-1] == group.ends(1, 1, 1, 1, 1)


def test_a_topic_that_is_created_again_before_the_stream_joins_gets_another_query(group, stream):
    group.after_peek = lambda: make_again(group.pipeline)
    made = stream([batch(1, 1)], [batch(1, 1)])
    made.run()
    assert [query.starts for query in made.queries] == [group.at(0, 0), group.at(0, 0)]
    assert group.commits[-1] == (group.ends(1, 1), topics.topic_id(group.pipeline.topic))


def test_offsets_that_go_back_before_the_stream_joins_get_another_query(group, stream):
    group.commit_at(5, 0)
    group.after_peek = lambda: group.commit_at(0, 0)
    made = stream([waits, waits], [batch(1, 1)])
    made.run()
    assert [query.starts for query in made.queries] == [group.at(5, 0), group.at(0, 0)]


def test_a_failure_that_another_query_has_too_ends_the_stream(group, stream):
    error = PySparkException("of the lake")
    made = stream([batch(1, 1, fails=error)], [batch(1, 1, fails=error)])
    with pytest.raises(PySparkException, match="of the lake"):
        made.run()
    assert group.committed == [group.at(0, 0)]


def test_a_life_that_is_over_leaves_the_group_to_the_stream_that_is_in_it(group, stream):
    made = stream([lambda _: wait_until_over(made), batch(1, 1)], seconds=0.1)
    made.run()
    assert (group.joined, group.commits) == (False, [])
    made = stream([lambda query: wait_until_over(made) or query.run(Batch(1, 1))], seconds=0.1)
    made.run()
    assert (group.joined, group.commits) == (False, [])


def test_a_life_starts_once_the_workers_have_started(group, stream, monkeypatch):
    made = stream([batch(1, 1)], seconds=8)
    monkeypatch.setattr(Stream, "_start_workers", lambda _: until(lambda: time.monotonic() > made._started + 9, 60))
    made.run()
    assert group.committed[-1] == group.ends(1, 1)


def test_a_catch_up_joins_the_group_even_if_there_is_nothing_to_read(group, stream):
    stream([], to_the_end=True, seconds=float("inf")).run()
    assert group.joined


def test_a_failure_to_record_gaps_near_the_end_is_not_success(group, stream):
    def fails() -> None:
        group.while_joining = lambda: None
        wait_until_over(made)
        raise BrokerError("away")

    group.while_joining = fails
    made = stream([batch(1, 1)], seconds=10)
    with pytest.raises(BrokerError):
        made.run()


@pytest.mark.parametrize("steps", [[], [batch(1, 1)]])
def test_an_error_near_the_end_of_a_life_is_not_success(group, stream, steps):
    made = stream([*steps, lambda query: wait_until_over(made) or query.fail()], seconds=10)
    with pytest.raises(StreamingQueryException):
        made.run()


def test_what_stop_interrupts_is_not_a_failure(group, stream):
    def is_interrupted(query: Query) -> None:
        def stop() -> None:
            with contextlib.suppress(StreamingQueryException):
                query.run(Batch(2, 2, fails=PySparkException("cancelled")))

        query.stop = stop

    stream([batch(1, 1), is_interrupted]).run()
    assert group.committed[-1] == group.at(1, 1)


def test_a_query_that_does_not_stop_hides_no_successor(group, stream):
    def does_not_stop() -> None:
        raise PySparkException("still running")

    with Member(group.pipeline) as successor:

        def is_fenced(query: Query) -> None:
            query.stop = does_not_stop
            successor.join()

        assert stream([batch(1, 1), is_fenced, *[lambda _: time.sleep(0.1)] * 100]).run().taken_over
        assert group.has_members


def test_it_leaves_the_group_when_its_time_is_over_or_the_topic_ends(group, stream):
    stream([batch(1, 1)]).run()
    assert not group.has_members


def test_a_stream_that_is_in_the_group_again_continues_at_the_committed_offsets(group, stream):
    def rejoins(query: Query) -> None:
        group.joins_again()
        query.run(Batch(2, 2))

    made = stream([batch(1, 1), rejoins], [batch(2, 2)])
    made.run()
    assert [query.starts for query in made.queries] == [group.at(0, 0), group.at(1, 1)]
    assert group.committed == [group.at(0), group.ends(1, 1), group.at(1, 1), group.ends(2, 2)]


def test_committed_offsets_do_not_go_back(group, stream):
    """The thread that watches the query skips control records while a micro-batch commits older offsets."""
    threads = []

    def comes_meanwhile() -> None:
        group.while_committing = lambda: None
        threads.append(threading.Thread(target=made._commit, args=(group.ends(5, 5),)))
        threads[0].start()
        assert group.committed == [group.at(0), group.ends(1, 1)]

    def in_order(query: Query) -> None:
        group.while_committing = comes_meanwhile
        made._commit({})
        threads[0].join(30)

    made = stream([batch(1, 1), in_order])
    made.run()
    assert group.committed == [group.at(0), group.ends(1, 1), group.at(1, 1), group.ends(5, 5)]
