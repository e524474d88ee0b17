"""The positions of a consumer group in its topic: where to start, which messages are lost, and fenced commits."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from include.kafka import clients
from include.kafka.clients import BrokerError, watermarks

log = logging.getLogger(__name__)

Offsets = dict[tuple[str, int], int]  # by topic and partition


@dataclass(frozen=True)
class Gap:
    """Offsets of a partition, from `first` to `end` (excluded), that left the topic before they were read."""

    topic: str
    partition: int
    first: int
    end: int


@dataclass(frozen=True)
class Start:
    """The offset at which to read each partition, and the id of the topic, which is committed with each offset."""

    offsets: Offsets
    topic_id: str | None  # None: the broker is older than topic ids, or could not return it


def starting_offsets(
    consumer: Consumer,
    topic: str,
    partitions: set[int],
    read_topic_id: Callable[[], str | None],
    record_gaps: Callable[[list[Gap]], None],
) -> Start | None:
    """Where to read each partition: its committed offset, or its first message if the partition lacks that offset.

    An offset with another topic's id belongs to a topic that was deleted: the new topic is read from its start. Lost
    messages are recorded before the starts are committed. Returns None if the broker does not have the offsets now (a
    new partition has no leader for a moment), or if the topic's id cannot be read now.
    """
    try:
        # Before everything else: an offset must never be committed with the id of a later topic.
        topic_id = read_topic_id()
        places = [TopicPartition(topic, number) for number in sorted(partitions)]
        committed = consumer.committed(places, timeout=clients.TIMEOUT)
        offsets = {place.partition: watermarks(consumer, place) for place in places}
    except BrokerError as error:
        if not isinstance(error.__cause__, KafkaException):
            raise
        raise_unless_transient(error.__cause__.args[0])
        return None
    except KafkaException as error:
        raise_unless_transient(error.args[0])
        return None
    if topic_id is None and any(place.metadata for place in committed):
        log.warning("The id of topic %s cannot be read now; the follower tries again.", topic)
        return None
    is_first = all(place.offset < 0 for place in committed)
    starts: Offsets = {}
    gaps: list[Gap] = []
    for place in committed:
        begin, end = offsets[place.partition]
        is_from_deleted_topic = bool(place.metadata) and place.metadata != topic_id
        if is_from_deleted_topic:
            log.warning("%s was created again: partition %s is read from its start.", topic, place.partition)
        # If others have a committed offset, a partition without one is new: its first message had offset 0.
        is_new = is_from_deleted_topic or (place.offset < 0 and not is_first)
        expected_offset = 0 if is_new else begin if is_first else place.offset
        if expected_offset < begin:
            gaps.append(Gap(topic, place.partition, expected_offset, begin))
        elif expected_offset > end:
            log.warning(
                "%s, partition %s, ends at offset %s, before the committed offset %s: all of it is read again.",
                topic,
                place.partition,
                end,
                expected_offset,
            )
        starts[topic, place.partition] = expected_offset if begin <= expected_offset <= end else begin
    if gaps:
        record_gaps(gaps)
    commit(consumer, starts, topic_id)
    return Start(starts, topic_id)


def commit(consumer: Consumer, offsets: Offsets, topic_id: str | None) -> bool:
    """Commit; returns False if this member has to join again, or after another transient error.

    Raises KafkaException for other errors, such as after a successor has fenced this member. Read `topic_id` before
    the messages: a topic that was created again since then has another id.
    """
    try:
        positions = [
            TopicPartition(topic, partition, offset, metadata=topic_id or "")
            for (topic, partition), offset in offsets.items()
        ]
        for position in consumer.commit(offsets=positions, asynchronous=False):
            if position.error:
                raise_unless_transient(position.error)
                return False
    except KafkaException as error:
        raise_unless_transient(error.args[0])
        return False
    return True


def is_taken_over(error: KafkaError) -> bool:
    """Whether another follower with the same name has joined: no other error is fatal to a consumer of a group."""
    return error.code() in (KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID)


def raise_unless_transient(error: KafkaError) -> None:
    """Raise the error unless the client recovers from it."""
    rejoining = (KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.REBALANCE_IN_PROGRESS)
    if error.code() not in rejoining and not error.retriable():
        raise KafkaException(error)
    # Uncommitted messages are read again, and become the same rows.
    log.warning("Kafka: %s", error.str())
