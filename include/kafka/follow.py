"""Follows a topic: stores messages chunk by chunk, and commits them once they are safe."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from include.kafka import clients
from include.kafka.clients import BrokerError, TopicMissing, translate_errors
from include.kafka.positions import (
    Gap,
    Offsets,
    commit,
    is_taken_over,
    raise_unless_transient,
    starting_offsets,
)

log = logging.getLogger(__name__)

LINGER = 0.5  # seconds to collect a chunk: rows are written in chunks, and no message waits much longer than this
REFRESH = 30.0  # seconds between checks for new partitions
_MAX_MESSAGES = 2_000
_MAX_BYTES = 8_000_000
_MESSAGES_PER_CALL = 100


@dataclass
class Chunk:
    """The messages that arrived from some partitions."""

    messages: list[Message] = field(default_factory=list)
    # By partition, the offset after the last message that arrived. Control records and messages of aborted transactions are
    # skipped.
    ends: Offsets = field(default_factory=dict)
    out_of_range: bool = False  # a partition does not have the requested offset, or none is committed


def follow(
    consumer: Consumer,
    topic: str,
    store: Callable[[list[Message], int], None],
    record_gaps: Callable[[list[Gap]], None],
    is_over: Callable[[], bool],
    clock: Callable[[], int],
    read_topic_id: Callable[[], str | None],
    *,
    to_the_end: bool = False,
) -> bool:
    """Follow until `is_over()`, a takeover or, with `to_the_end`, the end of the topic; returns True for a takeover.

    A chunk is committed when `store` has returned; if the process stops earlier, the chunk is read again. `store` also
    gets a time of `clock` at which this follower had the chunk and no other had taken over: a write as of that time
    cannot replace what a successor wrote. `record_gaps` gets the offsets that the topic's retention removed, before any later
    offset is committed. Offsets are committed with the topic's id, by which the next follower notices a topic that was
    created again. Raises BrokerError. The caller closes the consumer.
    """
    at_end: set[int] = set()
    followed_partitions: set[int] = set()
    topic_id: str | None = None  # of the topic that is followed
    deadline, refresh_at, lacks_start = time.monotonic() + clients.TIMEOUT, 0.0, True
    with translate_errors():
        try:
            while not is_over():
                chunk = gather(consumer, at_end)
                as_of = clock() if chunk.messages else 0
                # This commits nothing new. If it succeeds, no successor had taken over when the clock was read: a
                # successor reads a later time, even if this process is suspended before it writes.
                if chunk.messages and not commit(consumer, _first_offsets(chunk.messages), topic_id):
                    chunk, lacks_start = Chunk(), True
                if chunk.messages:
                    store(chunk.messages, as_of)
                if chunk.ends:
                    commit(consumer, chunk.ends, topic_id)
                assigned_partitions = {place.partition for place in consumer.assignment()}
                if not assigned_partitions:
                    if not followed_partitions and time.monotonic() > deadline:
                        raise BrokerError(
                            f"No partition was assigned within {clients.TIMEOUT:.0f} s. Check that the broker answers, and "
                            "that the topic exists (`./minutemark schema`, or the DAG minutemark_setup, creates it). The log "
                            "above has the client's messages."
                        )
                    continue
                lacks_start |= chunk.out_of_range or assigned_partitions != followed_partitions
                if lacks_start or time.monotonic() > refresh_at:
                    refresh_at = time.monotonic() + REFRESH
                    partitions = _partitions_now(consumer, topic, followed_partitions)
                    if not lacks_start and partitions == followed_partitions:
                        continue
                    if start := starting_offsets(consumer, topic, partitions, read_topic_id, record_gaps):
                        # This consumer, the only member of its group, reads all partitions. The group's own assignment
                        # lacks those that were added after its first member joined, and a successor gets the same assignment.
                        consumer.assign([TopicPartition(*place, offset) for place, offset in start.offsets.items()])
                        followed_partitions, topic_id, lacks_start = partitions, start.topic_id, False
                        at_end.clear()
                elif to_the_end and at_end >= followed_partitions:
                    break
        except KafkaException as error:
            if is_taken_over(error.args[0]):
                return True
            raise
    return False


def gather(consumer: Consumer, at_end: set[int]) -> Chunk:
    """Collect the messages that arrive within LINGER, limited in number and size. Updates `at_end`, a set of partitions."""
    chunk, size, deadline = Chunk(), 0, time.monotonic() + LINGER
    while len(chunk.messages) < _MAX_MESSAGES and size < _MAX_BYTES and (left := deadline - time.monotonic()) > 0:
        for message in consumer.consume(_MESSAGES_PER_CALL, timeout=left):
            place = message.topic(), message.partition()
            if (error := message.error()) is None:
                chunk.messages.append(message)
                chunk.ends[place] = message.offset() + 1  # ty: ignore[invalid-assignment, unsupported-operator]
                size += len(message)
                at_end.discard(message.partition())
            elif error.code() == KafkaError._PARTITION_EOF:
                chunk.ends[place] = message.offset()  # ty: ignore[invalid-assignment]
                at_end.add(message.partition())  # ty: ignore[invalid-argument-type]
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                chunk.out_of_range = True
            else:
                raise_unless_transient(error)
    return chunk


def partitions_of(client, topic: str) -> set[int]:
    """The numbers of the topic's partitions as they are now. Raises TopicMissing, and KafkaException for other errors."""
    metadata = client.list_topics(topic, timeout=clients.TIMEOUT).topics[topic]
    if metadata.error and metadata.error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        raise KafkaException(KafkaError(metadata.error.code(), f"topic {topic}: {metadata.error.str()}"))
    if metadata.error:
        raise TopicMissing(f"Topic {topic}: {metadata.error}. Create it: `./minutemark schema`, or minutemark_setup.")
    return set(metadata.partitions)


def _partitions_now(consumer: Consumer, topic: str, followed_partitions: set[int]) -> set[int]:
    """Like partitions_of, but returns the partitions that are already followed if the topic cannot be described now."""
    try:
        return partitions_of(consumer, topic)
    except (KafkaException, TopicMissing) as error:
        if not followed_partitions:
            raise
        log.warning("Kafka: cannot list the partitions of %s now: %s", topic, error)
        return followed_partitions


def _first_offsets(messages: list[Message]) -> Offsets:
    """The first offset of each partition."""
    return {(message.topic(), message.partition()): message.offset() for message in reversed(messages)}  # ty: ignore[invalid-explicit-return]
