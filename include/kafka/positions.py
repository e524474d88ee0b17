"""Where a group stands in its topic: where to start, which messages are lost, and commits that a successor shuts out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.kafka.clients import TIMEOUT, watermarks

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError

log = logging.getLogger(__name__)

Offsets = dict[tuple[str, int], int]  # of a topic's partition


@dataclass(frozen=True)
class Gap:
    """Offsets of a partition, from `first` until before `end`, that left the topic before they were followed."""

    topic: str
    partition: int
    first: int
    end: int


def starting_offsets(
    consumer: Consumer, topic: str, partitions: set[int], record_gaps: Callable[[list[Gap]], None]
) -> Offsets | None:
    """Where to read each partition from: its committed offset, or its first message where retention has passed that.

    What is lost is recorded, then the starts are committed. None if the broker cannot say now where that is: a new
    partition has no leader for a moment.
    """
    from confluent_kafka import KafkaException, TopicPartition

    try:
        places = [TopicPartition(topic, number) for number in sorted(partitions)]
        committed = consumer.committed(places, timeout=TIMEOUT)
        reach = {place.partition: watermarks(consumer, place) for place in places}
    except KafkaException as error:
        raise_unless_transient(error.args[0])
        return None
    is_first = all(place.offset < 0 for place in committed)
    starts: Offsets = {}
    gaps: list[Gap] = []
    for place in committed:
        begin, end = reach[place.partition]
        # An unread partition beside others that were read: it is new, and its first message had offset 0.
        expected = place.offset if place.offset >= 0 else (begin if is_first else 0)
        if expected < begin:
            gaps.append(Gap(topic, place.partition, expected, begin))
        elif expected > end:
            log.warning(
                "%s, partition %s, ends at %s, before %s: all of it is read again.",
                topic,
                place.partition,
                end,
                expected,
            )
        starts[topic, place.partition] = expected if begin <= expected <= end else begin
    if gaps:
        record_gaps(gaps)
    commit(consumer, starts)
    return starts


def commit(consumer: Consumer, offsets: Offsets) -> bool:
    """Whether the group has them now; False while this member has to join again. Raises where it has been shut out."""
    from confluent_kafka import KafkaException, TopicPartition

    try:
        wanted = [TopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()]
        for done in consumer.commit(offsets=wanted, asynchronous=False):
            if done.error:
                raise_unless_transient(done.error)
                return False
    except KafkaException as error:
        raise_unless_transient(error.args[0])
        return False
    return True


def is_taken_over(error: KafkaError) -> bool:
    """Whether another follower has come with the same name: no other error is fatal to a consumer of a group."""
    from confluent_kafka import KafkaError as codes

    return error.code() in (codes._FATAL, codes.FENCED_INSTANCE_ID)


def raise_unless_transient(error: KafkaError) -> None:
    """Raise what ends the following; return if the client recovers by itself."""
    from confluent_kafka import KafkaError as codes
    from confluent_kafka import KafkaException

    rejoining = (codes.ILLEGAL_GENERATION, codes.UNKNOWN_MEMBER_ID, codes.REBALANCE_IN_PROGRESS)
    if error.code() not in rejoining and not error.retriable():
        raise KafkaException(error)
    # What was not committed comes again, and is the same rows.
    log.warning("Kafka: %s", error.str())
