"""A stream: it starts while its predecessor still runs, takes over the group, and writes one micro-batch after another.

The group's offsets are the only record of what is done. A checkpoint serves one query, and is removed with it.
"""

from __future__ import annotations

import logging
import math
import re
import time
import uuid
from datetime import datetime
from threading import Lock

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from include.connections import LAKE_WRITER
from include.durations import EPOCH, MICROSECOND
from include.kafka import topics
from include.kafka.ingest import IngestSummary, MessageStore, keep_dead_letters
from include.kafka.ingest_mode import DAG, group_of
from include.kafka.positions import Gap, Offsets, Start
from include.lake import change_log
from include.lake.session import lake
from include.spark.problems import summary_of
from include.spark.run import step
from include.stream import query
from include.stream.job import MESSAGES_PER_MICRO_BATCH, Job
from include.stream.member import Member, Rejoined, TakenOver
from include.stream.partition import PartitionResult, PartitionWriter

log = logging.getLogger("minutemark")
_PAUSE = 0.1  # seconds between checks of query, member and clock
_OWN_ERROR = re.compile(r"^(?:include\.[\w.]+): (.+)", re.MULTILINE)


class TopicChanged(Exception):
    """A query was planned for another topic of this name, or for other offsets than the group has now."""


class _TimeOver(Exception):
    """The stream's time was up before it joined the group, which keeps its current member."""


class Stream:
    """One stream, from the topic of the job's pipeline into the lake."""

    def __init__(self, spark: SparkSession, job: Job) -> None:
        self._spark, self._job, self._pipeline = spark, job, job.pipeline
        self._checkpoints = f"{job.checkpoints.rstrip('/')}/{self._pipeline.name}"
        self._summary = IngestSummary(self._pipeline.topic)
        self._positions: Offsets = {}  # what the group has committed
        self._topic_id: str | None = None  # the topic that these positions belong to
        self._planned = Start({}, None)  # where the running query started
        self._ready = False  # the positions are the group's, and the running query starts at or before them
        self._error: BaseException | None = None  # why the previous query ended
        self._joining, self._committing = Lock(), Lock()
        self._as_of = 0
        self._started = time.monotonic()
        self._over_at = math.inf

    def run(self) -> IngestSummary:
        """Follow the topic until the stream's time is up or a successor takes over.

        Raises MinutemarkError, and Spark's errors.
        """
        kept = keep_dead_letters(self._pipeline)
        with lake(LAKE_WRITER) as session, Member(self._pipeline) as self._member:
            self._session = session
            self._store = MessageStore(self._pipeline, session, self._summary)
            self._start_workers()
            self._over_at = time.monotonic() + self._job.seconds
            try:
                while self._follow():
                    pass
                self._member.leave()
            except TakenOver:
                self._summary.taken_over = True
        self._summary.refused += kept
        self._summary.seconds = time.monotonic() - self._started
        return self._summary

    def _is_over(self) -> bool:
        return time.monotonic() > self._over_at

    def _follow(self) -> bool:
        """Run one query; True if it failed. The next query runs only if the topic or the group's offsets have changed."""
        if self._error is None:
            # Planned while the predecessor still writes: the steps up to the first micro-batch take seconds.
            self._planned = self._member.peek()
        else:
            can_be_checked = self._positions or isinstance(self._error, TopicChanged)
            if self._is_over() and not can_be_checked:
                raise self._error  # the time was up before the stream could check whether the topic had changed
            self._planned, self._ready = self._take_over(), True
            if self._is_over():
                return False  # the topic has changed: the next stream continues at the group's offsets
        checkpoint = f"{self._checkpoints}/{uuid.uuid4()}"
        running = query.start(self._spark, self._job, self._planned.offsets, checkpoint, self._write)
        is_final = False
        try:
            self._watch(running)
        except Exception as error:
            is_final = not isinstance(error, (PySparkException, TopicChanged, _TimeOver))
            if self._error is None or (is_final and not isinstance(self._error, TakenOver)):
                self._error = error
        failure = self._error
        if failure is not None and not isinstance(failure, (TakenOver, _TimeOver)):
            log.warning("The query ended: %s", reason_of(failure))
        try:
            running.stop()
            query.remove(self._spark, checkpoint)
        except Exception as error:
            if not isinstance(failure, TakenOver):
                raise  # a micro-batch may still run: no other query can start
            log.warning("The query did not stop: %s", reason_of(error))
        self._error = failure  # a micro-batch that stop() has interrupted is not a failure
        if failure is None or isinstance(failure, _TimeOver):
            return False
        if is_final or isinstance(failure, TakenOver):
            raise failure
        return True

    def _watch(self, running: StreamingQuery) -> None:
        """Return when the query has read to the end or has failed, or the stream's time is up. Raises what Spark raised."""
        while running.isActive and not self._is_over():
            if self._ready:
                self._member.poll()
                self._commit_ends(running)
            elif running.status["message"].startswith("Waiting"):  # no message has started a micro-batch
                self._join()
            running.awaitTermination(_PAUSE)  # ty: ignore[invalid-argument-type]  # accepts fractions of a second
        if self._error is not None:
            return  # a micro-batch has failed
        if failure := running.exception():
            raise failure
        if self._job.to_the_end:
            self._join()  # lost messages are recorded even if there was nothing to read
        if self._ready:
            self._commit_ends(running)

    def _commit_ends(self, running: StreamingQuery) -> None:
        if ends := query.ends_of(running):
            self._commit(ends)

    def _join(self) -> None:
        """Fence the predecessor, once, and continue where it stopped: the query skips earlier messages."""
        with self._joining:
            if self._ready:
                return
            if self._is_over():
                raise _TimeOver
            start, planned = self._take_over(), self._planned
            is_same = start.offsets.keys() == planned.offsets.keys() and start.topic_id == planned.topic_id
            if not is_same or any(start.offsets[place] < offset for place, offset in planned.offsets.items()):
                self._positions = {}  # no query has started at these offsets: the next one may succeed
                raise TopicChanged(f"{self._pipeline.topic} has changed since the query was planned.")
            self._ready = True

    def _take_over(self) -> Start:
        """Join the group, and return its offsets; messages that retention has removed are recorded as lost."""
        self._member.join()
        start = self._member.starts(self._store.record_gaps)
        if self._error is not None and start == Start(self._positions, self._topic_id):
            raise self._error  # the topic has not changed: another query would fail in the same way
        self._positions, self._topic_id, self._error = start.offsets, start.topic_id, None
        return start

    def _write(self, batch: DataFrame, _: int) -> None:
        """Write one micro-batch; an exception ends the query."""
        try:
            if self._ready:
                self._store_batch(batch)
                return
            batch.rdd.mapPartitions(self._writer(change_log.clock(self._session)).warm_up).collect()
            with step("take over and write the first micro-batch"):
                self._join()
                self._store_batch(batch)
        except BaseException as error:
            self._error = error
            raise

    def _store_batch(self, batch: DataFrame) -> None:
        """Write events and touch their minutes, then store the other messages as rejected events, then commit the offsets."""
        clock = change_log.clock(self._session)
        # The write times of a partition's chunks count up from this time, and those of the next micro-batch are later,
        # whichever node's clock was read.
        self._as_of = max((clock - EPOCH) // MICROSECOND, self._as_of + MESSAGES_PER_MICRO_BATCH)
        # Commits nothing new. If it succeeds, no successor had joined when the clock was read: a successor reads a later time,
        # so its writes replace those of this stream, even of a task that hangs.
        self._commit({})
        results = batch.rdd.mapPartitions(self._writer(clock)).collect()
        # Spark notices a recreated topic only if it has fewer offsets now.
        if self._member.topic_id() != self._topic_id:
            raise TopicChanged(f"{self._pipeline.topic} was deleted or created again.")
        self._keep_refused(results)
        for result in results:
            self._summary.written += result.written
            self._summary.misplaced += result.misplaced
            self._summary.minutes |= result.minutes
        self._commit({(self._pipeline.topic, result.partition): result.end for result in results})

    def _writer(self, clock: datetime) -> PartitionWriter:
        starts = {partition: offset for (_, partition), offset in self._positions.items()}
        return PartitionWriter(self._pipeline, self._job.lake, clock, self._as_of, starts)

    def _keep_refused(self, results: list[PartitionResult]) -> None:
        """Read the messages that are not events again, and keep them as the follower does, as of the same write time."""
        refused = {result.partition: set(result.refused) for result in results if result.refused}
        if not refused:
            return
        span = {number: (min(offsets), max(offsets) + 1) for number, offsets in refused.items()}
        for messages in topics.messages(self._pipeline, group_of(self._pipeline.name, DAG), span):
            chosen = [message for message in messages if message.offset() in refused[message.partition()]]  # ty: ignore[invalid-argument-type]
            self._store.store(chosen, self._as_of)
            for message in chosen:
                refused[message.partition()].discard(message.offset())  # ty: ignore[invalid-argument-type]
        # Retention has removed these in between.
        lost = [
            Gap(self._pipeline.topic, number, offset, offset + 1) for number in refused for offset in refused[number]
        ]
        if lost:
            self._store.record_gaps(lost)

    def _commit(self, ends: Offsets) -> None:
        """Commit the offsets that are after the committed ones; if `ends` is empty, commit the committed ones again."""
        with self._committing:  # both the micro-batch and the watching thread commit: offsets must not go back
            new_ends = {place: end for place, end in ends.items() if end > self._positions.get(place, 0)}
            if ends and not new_ends:
                return
            try:
                self._member.commit(new_ends or self._positions, self._topic_id)
            except Rejoined:
                self._positions = {}  # unknown after rejoining: another query starts at whatever is committed
                raise TopicChanged(
                    f"The stream had to rejoin the consumer group of {self._pipeline.name}. It continues at the committed "
                    "offsets."
                ) from None
            self._positions = {**self._positions, **new_ends}

    def _start_workers(self) -> None:
        """Start Python workers, which import the project and open sessions: on a cold machine this takes seconds."""
        context = self._spark.sparkContext
        empty = context.parallelize(range(0), context.defaultParallelism)
        empty.mapPartitions(self._writer(change_log.clock(self._session))).collect()


def reason_of(error: BaseException) -> str:
    """The error as one line: the project's own message, even from an executor, or else the JVM's last cause."""
    own = _OWN_ERROR.findall(str(error))
    return own[-1] if own else summary_of(error)
