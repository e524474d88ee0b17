"""The application that spark-submit runs for `<pipeline>_ingest` with MINUTEMARK_INGEST=spark: one life of a stream.

1. start Spark and its Python workers, while the predecessor still writes
2. join the consumer group, which shuts the predecessor out
3. start a query where the group stands; messages that retention removed before are recorded as lost
4. for each micro-batch: read the lake's clock and check that no successor has joined; write events to the lake and touch
   their minutes; keep messages that are not events; commit the group's offsets

A query that fails because the topic has changed (retention, new partitions, a topic that was made again) is started again
where the group stands. The group's offsets are the only record of what is done: a checkpoint serves one query, and is
removed with it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
import uuid
from collections import defaultdict
from pathlib import Path

if __name__ == "__main__":
    # spark-submit puts this file's folder on the path; the project is two levels up.
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    os.environ["TZ"] = "UTC"
    time.tzset()

from pyspark.errors import PySparkException  # noqa: E402
from pyspark.sql import DataFrame, SparkSession  # noqa: E402

from include.connections import LAKE_WRITER  # noqa: E402
from include.durations import MICROSECOND  # noqa: E402
from include.errors import MinutemarkError  # noqa: E402
from include.kafka import topics  # noqa: E402
from include.kafka.ingest import IngestSummary, MessageStore, keep_dead_letters  # noqa: E402
from include.kafka.ingest_mode import DAG, group_of  # noqa: E402
from include.kafka.positions import Gap, Offsets  # noqa: E402
from include.lake import change_log  # noqa: E402
from include.lake.session import lake  # noqa: E402
from include.spark.listener import end_with_parent  # noqa: E402
from include.spark.problems import FAILED, summary_of  # noqa: E402
from include.spark.run import LOG_FORMAT, LOG_TIME, step  # noqa: E402
from include.stream.job import MESSAGES_PER_BATCH, Job  # noqa: E402
from include.stream.member import Member, TakenOver  # noqa: E402
from include.stream.partition import PartitionResult, PartitionWriter  # noqa: E402

log = logging.getLogger("minutemark")
_TRIGGER = "500 milliseconds"  # as long as a follower waits for a chunk
_PAUSE = 0.1  # seconds between looks at query, member and clock
_EPOCH = change_log.EPOCH


class Stream:
    """One life: from the topic of the job's pipeline into the lake."""

    def __init__(self, spark: SparkSession, job: Job) -> None:
        self._spark, self._job, self._pipeline = spark, job, job.pipeline
        self._summary = IngestSummary(self._pipeline.topic)
        self._positions: Offsets = {}  # what the group has committed
        self._error: BaseException | None = None  # of a micro-batch
        self._as_of = 0

    def run(self) -> IngestSummary:
        """Follow the topic until the life is over or a successor takes over. Raises MinutemarkError, and Spark's errors."""
        started = time.monotonic()
        kept = keep_dead_letters(self._pipeline)
        with lake(LAKE_WRITER) as session:
            self._session = session
            self._store = MessageStore(self._pipeline, session, self._summary)
            with step("warm up"):
                self._warm_up()
            try:
                with Member(self._pipeline) as self._member:
                    _remove(self._spark, self._checkpoints())  # of predecessors, which are shut out
                    while self._follow(started) and not self._is_over(started):
                        pass
            except TakenOver:
                self._summary.taken_over = True
        self._summary.refused += kept
        self._summary.seconds = time.monotonic() - started
        return self._summary

    def _is_over(self, started: float) -> bool:
        return time.monotonic() - started > self._job.seconds

    def _follow(self, started: float) -> bool:
        """Run one query; True where the topic has changed under it, so that another one has to start."""
        starts = self._member.starts(self._store.record_gaps)
        if self._error is not None and starts == self._positions:
            raise self._error  # the topic is as it was: starting again would not help
        self._positions, self._error = starts, None
        checkpoint = f"{self._checkpoints()}/{uuid.uuid4()}"
        query = self._start(starts, checkpoint)
        try:
            while query.isActive and not self._is_over(started):
                self._member.poll()
                self._commit_ends(query)
                query.awaitTermination(_PAUSE)
        except PySparkException as error:
            if isinstance(self._error, TakenOver):
                raise self._error from error
            self._error = self._error or error
            log.warning("The query ended: %s", summary_of(error))
            return True
        finally:
            query.stop()
            _remove(self._spark, checkpoint)
        self._commit_ends(query)
        return False

    def _start(self, starts: Offsets, checkpoint: str):
        offsets: dict[str, dict[str, int]] = defaultdict(dict)
        for (topic, partition), offset in starts.items():
            offsets[topic][str(partition)] = offset
        options = {
            **{f"kafka.{name}": value for name, value in self._job.kafka.items()},
            "kafka.isolation.level": "read_committed",  # what a transaction has aborted was never sent
            "subscribe": self._pipeline.topic,
            "startingOffsets": json.dumps(offsets),
            "failOnDataLoss": "true",  # then the next query's start records what is lost
            "groupIdPrefix": f"{group_of(self._pipeline.name, DAG)}-spark",  # its account may use groups of this name
            "maxOffsetsPerTrigger": str(MESSAGES_PER_BATCH),
            "kafkaConsumer.pollTimeoutMs": "30000",
        }
        messages = self._spark.readStream.format("kafka").options(**options).load()
        writer = messages.select("topic", "partition", "offset", "value").writeStream.foreachBatch(self._write)
        writer = writer.option("checkpointLocation", checkpoint)
        if self._job.to_the_end:
            return writer.trigger(availableNow=True).start()
        return writer.trigger(processingTime=_TRIGGER).start()

    def _write(self, batch: DataFrame, _: int) -> None:
        """One micro-batch; what is raised here ends the query."""
        try:
            self._store_batch(batch)
        except BaseException as error:
            self._error = error
            raise

    def _store_batch(self, batch: DataFrame) -> None:
        clock = change_log.clock(self._session)
        # A partition's chunks count upward from it, and the next batch is after all of them, whichever node's clock was read.
        self._as_of = max((clock - _EPOCH) // MICROSECOND, self._as_of + MESSAGES_PER_BATCH)
        # Commits nothing new. If it succeeds, no successor had joined when the clock was read: a successor reads a later one,
        # and replaces what this stream or a task of it that hangs still writes.
        self._member.commit(self._positions)
        write = PartitionWriter(self._pipeline, self._job.lake, clock, self._as_of)
        results = batch.rdd.mapPartitions(write).collect()
        self._keep_refused(results)
        for result in results:
            self._summary.written += result.written
            self._summary.misplaced += result.misplaced
            self._summary.minutes |= result.minutes
        self._commit({(self._pipeline.topic, result.partition): result.end for result in results})

    def _keep_refused(self, results: list[PartitionResult]) -> None:
        """Read messages that are not events again, and keep them."""
        refused = {result.partition: set(result.refused) for result in results if result.refused}
        span = {number: (min(offsets), max(offsets) + 1) for number, offsets in refused.items()}
        for messages in topics.messages(self._pipeline, group_of(self._pipeline.name, DAG), span) if span else ():
            chosen = [message for message in messages if message.offset() in refused[message.partition()]]  # ty: ignore[invalid-argument-type]
            self._store.store(chosen, self._as_of)
            for message in chosen:
                refused[message.partition()].discard(message.offset())  # ty: ignore[invalid-argument-type]
        # Removed by retention in between.
        lost = [
            Gap(self._pipeline.topic, number, offset, offset + 1) for number in refused for offset in refused[number]
        ]
        if lost:
            self._store.record_gaps(lost)

    def _commit_ends(self, query) -> None:
        """Commit the end of the newest micro-batch that is done: behind its messages may be control records alone."""
        if progress := query.lastProgress:
            ends = progress["sources"][0]["endOffset"] or {}
            offsets = ((topic, int(number), end) for topic in ends for number, end in ends[topic].items())
            self._commit({(topic, number): end for topic, number, end in offsets})

    def _commit(self, ends: Offsets) -> None:
        """Commit those of the offsets that are after the committed ones."""
        further = {place: end for place, end in ends.items() if end > self._positions.get(place, 0)}
        if further:
            self._member.commit(further)
            self._positions |= further

    def _checkpoints(self) -> str:
        return f"{self._job.checkpoints.rstrip('/')}/{self._pipeline.name}"

    def _warm_up(self) -> None:
        """Start the Python workers, which import the project and open their sessions, before the predecessor is shut out."""
        cores = self._spark.sparkContext.defaultParallelism
        write = PartitionWriter(self._pipeline, self._job.lake, change_log.clock(self._session), 0)
        self._spark.sparkContext.parallelize(range(0), cores).mapPartitions(write).collect()


def _remove(spark: SparkSession, location: str) -> None:
    path = spark._jvm.org.apache.hadoop.fs.Path(location)
    path.getFileSystem(spark._jsc.hadoopConfiguration()).delete(path, True)


def main() -> int:
    """Run the job of the command line; 0 when its life is over, or a successor took over."""
    parser = argparse.ArgumentParser(description="One life of a stream, from a topic into the lake.")
    parser.add_argument("--job", type=Path, required=True, help="written by include/stream/submission.py")
    arguments = parser.parse_args()
    logging.basicConfig(format=LOG_FORMAT, datefmt=LOG_TIME, level=logging.WARNING)
    log.setLevel(logging.INFO)
    end_with_parent()  # the JVM, without which nothing works here
    job = Job.read(arguments.job)
    job.use_connections()
    with step("start"):
        spark = SparkSession.builder.getOrCreate()
    try:
        summary = Stream(spark, job).run()
    except Exception as error:
        if not isinstance(error, MinutemarkError):
            log.exception("The stream ended.")
        log.error("%s stream%s%s", job.pipeline.name, FAILED, summary_of(error))
        return 1
    finally:
        spark.stop()
    for line in str(summary).splitlines():
        log.info("%s", line)
    result = {"written": summary.written, "refused": summary.refused, "taken_over": summary.taken_over}
    job.result.write_text(json.dumps(result), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
