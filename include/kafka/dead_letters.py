"""The dead-letter topic: messages that Connect's transform refused, with the place that each of them came from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from include.kafka.way_in import dead_letters_of
from include.pipelines import Pipeline

if TYPE_CHECKING:
    from confluent_kafka import Message

_PLACE = tuple(f"__connect.errors.{name}" for name in ("topic", "partition", "offset"))


def with_dead_letters(pipeline: Pipeline) -> Pipeline:
    """The same pipeline with its dead-letter topic as topic: for clients and for all that include/kafka/topics.py knows."""
    return replace(pipeline, topic=dead_letters_of(pipeline.topic))


@dataclass(frozen=True)
class _Original:
    """A message as it was in the topic that Connect read, with the methods of confluent_kafka.Message that are needed."""

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


def original(message: Message) -> Message | _Original:
    """The message at its original place; as it is where Connect's headers are absent, because somebody else sent it."""
    headers = dict(message.headers() or ())  # of equal names the last one counts: that is Connect's
    try:
        topic, partition, offset = (headers[name].decode() for name in _PLACE)
        return _Original((topic, int(partition), int(offset)), message.value())
    except (KeyError, AttributeError, ValueError):
        return message
