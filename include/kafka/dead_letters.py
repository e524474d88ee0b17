"""The dead-letter topic: messages that cannot be events, each with its original place.

Connect sends the messages that its transform refuses. While the warehouse is down or refuses writes, a follower or a
stream sends its refused messages, and a record of each range of messages that retention removed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from include.kafka.ingest_mode import dead_letters_of
from include.kafka.producer import producer
from include.lake.admission import Refused
from include.pipelines import Pipeline

if TYPE_CHECKING:
    from confluent_kafka import Message

LONGEST = 16_777_216  # bytes of a dead letter, headers included
_KEY, _REASON, _MINUTE, _AS_OF = (f"minutemark.{name}" for name in ("origin_key", "reason", "minute", "as_of"))
_PLACE = tuple(f"__connect.errors.{name}" for name in ("topic", "partition", "offset"))


def with_dead_letters(pipeline: Pipeline) -> Pipeline:
    """The same pipeline with its dead-letter topic as its topic, for clients and for functions of include/kafka/topics.py."""
    return replace(pipeline, topic=dead_letters_of(pipeline.topic))


@dataclass(frozen=True)
class PlacedMessage:
    """A message at its place in a topic, with the methods of confluent_kafka.Message that reading it needs."""

    place: tuple[str, int, int]
    bytes: bytes | None

    def topic(self) -> str:
        return self.place[0]

    def partition(self) -> int:
        return self.place[1]

    def offset(self) -> int:
        return self.place[2]

    def value(self) -> bytes | None:
        return self.bytes


def original(message: Message) -> Message | PlacedMessage:
    """The message at its original place; unchanged without Connect's headers, because another producer sent it."""
    headers = dict(message.headers() or ())  # if a name repeats, the last one wins: Connect's
    try:
        topic, partition, offset = (headers[name].decode() for name in _PLACE)
        return PlacedMessage((topic, int(partition), int(offset)), message.value())
    except (KeyError, AttributeError, ValueError):
        return message


def send_to_dead_letters(pipeline: Pipeline, refused: Iterable[Refused]) -> None:
    """Send these rows to the pipeline's dead-letter topic, and return when the broker has them. Raises BrokerError."""
    with producer(with_dead_letters(pipeline), **{"message.max.bytes": LONGEST}) as letters:
        for row in refused:
            minute = row.minute.isoformat() if row.minute else ""
            headers = {_KEY: row.key.encode(), _REASON: row.reason.encode(), _MINUTE: minute.encode()}
            if row.as_of is not None:
                headers[_AS_OF] = str(row.as_of).encode()
            letters.add_message(row.payload.encode(), headers=headers)
        letters.flush()


def parse_rejection(message: Message) -> Refused | None:
    """The row that send_to_dead_letters sent; None for other messages, even if Connect copied these headers from the original."""
    headers = dict(message.headers() or ())
    if _PLACE[0] in headers:
        return None
    try:
        key, reason, minute = (headers[name].decode() for name in (_KEY, _REASON, _MINUTE))
        as_of = int(headers.get(_AS_OF) or 0) or None  # earlier versions did not send it
        return Refused(key, reason, message.value().decode(), datetime.fromisoformat(minute) if minute else None, as_of)
    except (KeyError, AttributeError, ValueError):
        return None
