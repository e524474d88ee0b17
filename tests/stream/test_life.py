"""When a stream joins its group, what it commits, and how it continues: without Spark, broker or stores."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.errors import PySparkException, StreamingQueryException

from include import pipelines
from include.kafka.clients import BrokerError
from include.kafka.positions import Start
from include.lake import change_log
from include.stream import stream as module
from include.stream.job import Job
from include.stream.member import Rejoined, TakenOver
from include.stream.partition import PartitionResult
from include.stream.stream import Stream

PIPELINE = pipelines.get("recruitment")


def at(*offsets: int) -> dict[tuple[str, int], int]:
    return {(PIPELINE.topic, partition): offset for partition, offset in enumerate(offsets)}


class Group:
    """The member of the stream, and what its broker knows."""

    def __init__(self) -> None:
        self.peeked = self.start = Start(at(0, 0), "first")
        self.joined = False
        self.joins = 0
        self.left = False
        self.while_committing: Callable[[], object] = lambda: None
        self.commits: list[tuple[dict, str | None]] = []
        self.while_joining: Callable[[], object] = lambda: None
        self.poll: Callable[[], object] = lambda: None

    def __enter__(self) -> Group:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def peek(self) -> Start:
        return self.peeked

    def topic_id(self) -> str | None:
        return self.start.topic_id

    def join(self) -> None:
        self.joins += not self.joined
        self.joined = True

    def starts(self, _) -> Start:
        self.while_joining()
        return self.start

    def commit(self, offsets: dict, topic_id: str | None) -> None:
        self.while_committing()
        assert offsets, "no offsets: the client refuses to commit none"
        self.commits.append((dict(offsets), topic_id))
        self.start = Start({**self.start.offsets, **offsets}, self.start.topic_id)

    def leave(self) -> None:
        self.left = True

    @property
    def committed(self) -> list[dict]:
        """Those commits that are different from the one before."""
        result = [offsets for offsets, _ in self.commits]
        return [offsets for number, offsets in enumerate(result) if number == 0 or offsets != result[number - 1]]


class Batch:
    """A micro-batch whose partitions have these results."""

    def __init__(self, *ends: int, fails: BaseException | None = None) -> None:
        self._results = [PartitionResult(partition, end, written=1) for partition, end in enumerate(ends)]
        self._fails, self._calls = fails, 0
        self.rdd = self

    def mapPartitions(self, function) -> Batch:  # noqa: N802  # Spark's
        self._is_rehearsal = function == "rehearse"
        return self

    def collect(self) -> list[PartitionResult]:
        if self._fails is not None and not self._is_rehearsal:
            raise self._fails
        return [] if self._is_rehearsal else self._results


class Store:
    record_gaps = None


class Writer:
    rehearse = "rehearse"


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
def group(monkeypatch) -> Group:
    result = Group()
    monkeypatch.setattr(module, "Member", lambda _: result)
    monkeypatch.setattr(module, "MessageStore", lambda *_: Store)
    monkeypatch.setattr(module, "keep_dead_letters", lambda _: 0)
    monkeypatch.setattr(module, "lake", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(change_log, "clock", lambda _: change_log.EPOCH)
    monkeypatch.setattr(Stream, "_start_workers", lambda _: None)
    monkeypatch.setattr(Stream, "_writer", lambda *_: Writer)
    return result


@pytest.fixture
def stream(group, monkeypatch):
    """Makes a stream, whose queries run these scripts one after the other; they are in its `queries`."""

    def made(*scripts: list, seconds: float = 60, to_the_end: bool = False) -> Stream:
        job = Job(PIPELINE, seconds, to_the_end, "file:///none", Path("none"), (), {})
        result = Stream(None, job)  # ty: ignore[invalid-argument-type]
        result.queries, left = [], iter(scripts)  # ty: ignore[unresolved-attribute]

        def start(spark, job, starts, checkpoint, write) -> Query:
            result.queries.append(Query(next(left), starts, write))  # ty: ignore[unresolved-attribute]
            return result.queries[-1]  # ty: ignore[unresolved-attribute]

        monkeypatch.setattr(module.query, "start", start)
        monkeypatch.setattr(module.query, "ends_of", lambda query: query.ends)
        monkeypatch.setattr(module.query, "remove", lambda *_: None)
        return result

    return made


def test_ends_of_a_query_are_not_committed_before_the_stream_has_taken_over(group, stream):
    """It is a member already while it reads where the group stands, and the running query has an older end."""
    group.peeked, group.start = Start(at(1, 1), "first"), Start(at(7, 7), "first")
    inside, released, threads = threading.Event(), threading.Event(), []
    group.while_joining = lambda: inside.set() or released.wait(10)

    def takes_over(query: Query) -> None:
        query.ends = at(3, 3)
        threads.append(threading.Thread(target=query.write, args=(Batch(9, 8), 0)))
        threads[0].start()
        assert inside.wait(10) and group.joined

    def goes_by(_: Query) -> None:
        assert group.commits == []

    def ends(_: Query) -> None:
        released.set()
        threads[0].join(10)

    stream([takes_over, goes_by, ends]).run()
    assert group.committed == [at(7, 7), at(9, 8)]
    assert {topic_id for _, topic_id in group.commits} == {"first"}


def test_a_micro_batch_waits_until_the_stream_has_taken_over(group, stream):
    threads = []

    def comes_meanwhile() -> None:
        threads.append(threading.Thread(target=lambda: made.queries[0].write(Batch(2, 2), 0)))
        threads[0].start()
        time.sleep(0.2)
        assert group.commits == []

    group.start, group.while_joining = Start(at(1, 0), "first"), comes_meanwhile
    made = stream([waits, lambda _: threads[0].join(10)])
    made.run()
    assert group.committed == [at(1, 0), at(2, 2)]


@pytest.mark.parametrize(
    "start",
    [
        Start(at(0, 0, 0), "first"),  # a partition more
        Start(at(0, 0), "second"),  # a topic that was created again
    ],
)
def test_a_topic_that_changes_before_the_stream_joins_gets_another_query(group, stream, start):
    group.start = start
    made = stream([batch(1, 1)], [batch(*(1 for _ in start.offsets))])
    made.run()
    assert [query.starts for query in made.queries] == [at(0, 0), start.offsets]
    assert group.committed[-1] == dict.fromkeys(start.offsets, 1)


def test_offsets_that_go_back_before_the_stream_joins_get_another_query(group, stream):
    group.peeked = Start(at(5, 0), "first")
    made = stream([waits, waits], [batch(1, 1)])
    made.run()
    assert [query.starts for query in made.queries] == [at(5, 0), at(0, 0)]


def test_a_failure_that_another_query_has_too_ends_the_stream(group, stream):
    error = PySparkException("of the lake")
    made = stream([batch(1, 1, fails=error)], [batch(1, 1, fails=error)])
    with pytest.raises(PySparkException, match="of the lake"):
        made.run()
    assert group.committed == [at(0, 0)]


def test_a_life_that_is_over_leaves_the_group_to_the_stream_that_is_in_it(group, stream):
    made = stream([lambda _: time.sleep(0.2), batch(1, 1)], seconds=0.1)
    made.run()
    assert (group.joins, group.commits) == (0, [])
    made = stream([lambda query: time.sleep(0.2) or query.run(Batch(1, 1))], seconds=0.1)
    made.run()
    assert (group.joins, group.commits) == (0, [])


def test_a_life_starts_once_the_workers_have(group, stream, monkeypatch):
    monkeypatch.setattr(Stream, "_start_workers", lambda _: time.sleep(0.6))
    stream([batch(1, 1)], seconds=0.5).run()
    assert group.committed[-1] == at(1, 1)


def test_up_to_the_end_it_joins_though_there_is_nothing_to_read(group, stream):
    stream([], to_the_end=True, seconds=float("inf")).run()
    assert group.joins == 1


def test_a_failure_to_record_gaps_near_the_end_is_not_success(group, stream):
    def fails() -> None:
        group.while_joining = lambda: None
        time.sleep(0.2)
        raise BrokerError("away")

    group.while_joining = fails
    with pytest.raises(BrokerError):
        stream([batch(1, 1)], seconds=0.1).run()


def fails_late(query: Query) -> None:
    time.sleep(0.2)
    query.fail()


@pytest.mark.parametrize("script", [[fails_late], [batch(1, 1), fails_late]])
def test_an_error_near_the_end_of_a_life_is_not_success(group, stream, script):
    with pytest.raises(StreamingQueryException):
        stream(script, seconds=0.1).run()


def test_what_stop_interrupts_is_not_a_failure(group, stream):
    def is_interrupted(query: Query) -> None:
        def stop() -> None:
            with contextlib.suppress(StreamingQueryException):
                query.run(Batch(2, 2, fails=PySparkException("cancelled")))

        query.stop = stop

    stream([batch(1, 1), is_interrupted]).run()
    assert group.committed[-1] == at(1, 1)


def test_a_query_that_does_not_stop_hides_no_successor(group, stream):
    def shut_out() -> None:
        raise TakenOver

    def goes_by(query: Query) -> None:
        query.stop, group.poll = does_not_stop, shut_out

    def does_not_stop() -> None:
        raise PySparkException("still running")

    assert stream([batch(1, 1), goes_by, goes_by]).run().taken_over
    assert not group.left


def test_it_leaves_the_group_when_its_time_is_over_or_the_topic_ends(group, stream):
    stream([batch(1, 1)]).run()
    assert group.left


def test_a_stream_that_is_in_the_group_again_reads_where_it_stands(group, stream):
    def rejoins(query: Query) -> None:
        def refuses() -> None:
            group.while_committing = lambda: None
            raise Rejoined

        group.while_committing = refuses
        query.run(Batch(2, 2))

    made = stream([batch(1, 1), rejoins], [batch(2, 2)])
    made.run()
    assert [query.starts for query in made.queries] == [at(0, 0), at(1, 1)]
    assert group.committed == [at(0, 0), at(1, 1), at(2, 2)]


def test_committed_offsets_do_not_go_back(group, stream):
    """The thread that watches the query passes control records while a micro-batch commits the former offsets."""
    threads = []

    def comes_meanwhile() -> None:
        group.while_committing = lambda: None
        threads.append(threading.Thread(target=made._commit, args=(at(5, 5),)))
        threads[0].start()
        time.sleep(0.2)
        assert group.committed == [at(0, 0), at(1, 1)]

    def in_order(query: Query) -> None:
        group.while_committing = comes_meanwhile
        made._commit({})
        threads[0].join(10)

    made = stream([batch(1, 1), in_order])
    made.run()
    assert group.committed == [at(0, 0), at(1, 1), at(5, 5)]
