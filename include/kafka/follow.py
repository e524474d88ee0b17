"""Following a topic: what comes is handed on chunk by chunk, and committed when whoever takes it says that it is safe."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.kafka.clients import TIMEOUT, BrokerError, explained

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message

log = logging.getLogger(__name__)

LINGER = 0.5  # seconds that a chunk is waited for: rows are written in batches, and nothing is much older than this
_MOST_MESSAGES = 2_000
_MOST_BYTES = 8_000_000
_MESSAGES_PER_CALL = 100

Offsets = dict[tuple[str, int], int]  # of a topic's partition


@dataclass(frozen=True)
class Gap:
    """Offsets of a partition, from `first` until before `end`, that left the topic before they were followed."""

    topic: str
    partition: int
    first: int
    end: int


def follow(
    consumer: Consumer,
    take: Callable[[list[Message], int], None],
    lost: Callable[[list[Gap]], None],
    over: Callable[[], bool],
    clock: Callable[[], int],
    *,
    to_the_end: bool = False,
) -> bool:
    """Follow until `over()`, or to the end of the topic, or until another follower takes over: only then True.

    A chunk is committed when `take` has returned; whatever stops this in between, the chunk comes again. `take` gets the
    time of `clock` from before the chunk was consumed, and only while no other follower has taken over since: a write as
    of that time cannot replace what a successor wrote. `lost` hears once of what nobody can follow any more. Raises
    BrokerError. The consumer stays the caller's to close.
    """
    from confluent_kafka import KafkaException

    ends: set[int] = set()
    deadline, is_ours = time.monotonic() + TIMEOUT, False
    with explained():
        try:
            while not over():
                as_of = clock()
                messages = gathered(consumer, ends)
                if not is_ours and (is_ours := bool(consumer.assignment())):
                    lost(_gaps(consumer))
                if not is_ours and time.monotonic() > deadline:
                    raise BrokerError(
                        f"No partition was assigned within {TIMEOUT:.0f} s. Does the broker answer, and is the topic there "
                        "(`make schema`, or the DAG minutemark_setup)? The log above has what the client said."
                    )
                if messages:
                    # Commits nothing new, and is refused where a successor has taken over while this process slept.
                    _commit(consumer, _first_offsets(messages))
                    take(messages, as_of)
                    _commit(consumer, _ends(messages))
                if to_the_end and is_ours and ends >= {one.partition for one in consumer.assignment()}:
                    break
        except KafkaException as error:
            if _is_taken_over(error.args[0]):
                return True
            raise
    return False


def gathered(consumer: Consumer, ends: set[int]) -> list[Message]:
    """What comes within LINGER, and no more than fits well into memory. `ends` is kept: partitions that are at theirs."""
    found, size, deadline = [], 0, time.monotonic() + LINGER
    while len(found) < _MOST_MESSAGES and size < _MOST_BYTES and (left := deadline - time.monotonic()) > 0:
        for message in consumer.consume(_MESSAGES_PER_CALL, timeout=left):
            if (error := message.error()) is None:
                found.append(message)
                size += len(message)
                ends.discard(message.partition())
            elif _is_end(error):
                ends.add(message.partition())
            else:
                _mind(error)
    return found


def _first_offsets(messages: list[Message]) -> Offsets:
    """The first offset of each partition."""
    return {(message.topic(), message.partition()): message.offset() for message in reversed(messages)}


def _ends(messages: list[Message]) -> Offsets:
    """What stands behind the last message of each partition."""
    return {(message.topic(), message.partition()): message.offset() + 1 for message in messages}


def _commit(consumer: Consumer, offsets: Offsets) -> None:
    from confluent_kafka import KafkaException, TopicPartition

    try:
        wanted = [TopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()]
        for done in consumer.commit(offsets=wanted, asynchronous=False):
            if done.error:
                _mind(done.error)
    except KafkaException as error:
        _mind(error.args[0])


def _gaps(consumer: Consumer) -> list[Gap]:
    """What was committed and is older than what the topic still has: its retention was faster than we were."""
    found = []
    for one in consumer.committed(consumer.assignment(), timeout=TIMEOUT):
        begin, _ = consumer.get_watermark_offsets(one, timeout=TIMEOUT)
        if 0 <= one.offset < begin:
            found.append(Gap(one.topic, one.partition, one.offset, begin))
    return found


def _is_taken_over(error: KafkaError) -> bool:
    """Whether another follower has come with the same name: the client is shut out for good, and may say only that."""
    from confluent_kafka import KafkaError as codes

    fatal = error.code() == codes._FATAL and "fenced" in error.str().lower()
    return fatal or error.code() == codes.FENCED_INSTANCE_ID


def _is_end(error: KafkaError) -> bool:
    from confluent_kafka import KafkaError as codes

    return error.code() == codes._PARTITION_EOF


def _mind(error: KafkaError) -> None:
    """Raise what ends the following; return where the client goes on by itself."""
    from confluent_kafka import KafkaError as codes
    from confluent_kafka import KafkaException

    rejoining = (codes.ILLEGAL_GENERATION, codes.UNKNOWN_MEMBER_ID, codes.REBALANCE_IN_PROGRESS)
    if error.code() not in rejoining and not error.retriable():
        raise KafkaException(error)
    # What was not committed comes again, and is the same rows.
    log.warning("Kafka: %s", error.str())
