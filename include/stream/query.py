"""Spark's side of a stream: the query, its progress, and its checkpoint."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from include.kafka.ingest_mode import DAG, group_of
from include.kafka.positions import Offsets
from include.stream.job import MESSAGES_PER_MICRO_BATCH, Job

_TRIGGER = "500 milliseconds"  # as long as a follower waits for a chunk


def start(
    spark: SparkSession, job: Job, starts: Offsets, checkpoint: str, write: Callable[[DataFrame, int], None]
) -> StreamingQuery:
    """Start a query of topic, partition, offset and value from these offsets, with one Spark partition per topic partition."""
    options = {
        **{f"kafka.{name}": value for name, value in job.kafka.items()},
        "kafka.isolation.level": "read_committed",  # messages of an aborted transaction count as never sent
        "subscribe": job.pipeline.topic,
        "startingOffsets": _as_json(starts),
        "failOnDataLoss": "true",  # the start of the next query records lost messages
        "groupIdPrefix": f"{group_of(job.pipeline.name, DAG)}-spark",  # a prefix that the account may use
        "maxOffsetsPerTrigger": str(MESSAGES_PER_MICRO_BATCH),
        "kafkaConsumer.pollTimeoutMs": "30000",
    }
    messages = spark.readStream.format("kafka").options(**options).load()
    writer = messages.select("topic", "partition", "offset", "value").writeStream.foreachBatch(write)
    writer = writer.option("checkpointLocation", checkpoint)
    if job.to_the_end:
        return writer.trigger(availableNow=True).start()
    return writer.trigger(processingTime=_TRIGGER).start()


def ends_of(query: StreamingQuery) -> Offsets:
    """The end offsets of the query's newest complete micro-batch; control records may lie before them."""
    progress = query.lastProgress
    ends = progress["sources"][0]["endOffset"] if progress and progress["sources"] else None
    return {
        (topic, int(number)): end for topic, partitions in (ends or {}).items() for number, end in partitions.items()
    }


def remove(spark: SparkSession, location: str) -> None:
    """Remove a folder, on whichever file system Spark uses for it."""
    jvm, context = spark._jvm, spark._jsc
    path = jvm.org.apache.hadoop.fs.Path(location)
    path.getFileSystem(context.hadoopConfiguration()).delete(path, True)


def _as_json(offsets: Offsets) -> str:
    by_topic: dict[str, dict[str, int]] = defaultdict(dict)
    for (topic, partition), offset in offsets.items():
        by_topic[topic][str(partition)] = offset
    return json.dumps(by_topic)
