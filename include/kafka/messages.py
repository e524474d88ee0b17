"""Turns messages into events of the lake, or into rejected rows with the reason why they are not events.

A message's value is a JSON object of field name to value, which the lake keeps as it was sent. Only the fields that identify
the event are read.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from include.lake.admission import NotAdmitted, Refused, line_payload
from include.lake.json_objects import JsonObjects
from include.lake.keys import shard_of
from include.lake.writer import Event, event_id
from include.pipelines import Pipeline

if TYPE_CHECKING:
    from confluent_kafka import Message

_LONGEST_PAYLOAD = 4_000_000  # characters, of up to four bytes: a MEDIUMTEXT holds 16 MB
_LONGEST_TOPIC_IN_KEY = 130


def origin_key(topic: str, partition: int, offset: int) -> str:
    """The place of a message in the topic of that name, as a key."""
    return f"{topic[-_LONGEST_TOPIC_IN_KEY:]}/{partition}/{offset}"


def with_topic_id(key: str, topic_id: str | None) -> str:
    """The origin_key with the topic's id, as rejected events have it: a former topic of the same name has other keys."""
    topic, place = key.split("/", 1)
    return key if topic_id is None or "@" in topic else f"{topic}@{topic_id}/{place}"


def key_of(message: Message) -> str:
    return origin_key(message.topic(), message.partition(), message.offset())  # ty: ignore[invalid-argument-type]


class TopicEvents:
    """Turns messages of one pipeline's topic into events."""

    def __init__(self, pipeline: Pipeline, clock: datetime) -> None:
        self._pipeline = pipeline
        self._objects = JsonObjects(pipeline, clock, "message")

    def read(self, message: Message) -> Event | Refused:
        """Never raises for anything that a message may hold: one poison message must not stop the others."""
        try:
            text = _text(message.value())
        except NotAdmitted as error:
            raw = message.value()
            value = None if raw is None else raw.decode("utf-8", "backslashreplace")
            return Refused(key_of(message), str(error), line_payload(value or ""))
        try:
            values, text = self._objects.identified(text)
        except NotAdmitted as error:
            return Refused(key_of(message), str(error), line_payload(text))
        try:
            return self._objects.event(text, values)
        except NotAdmitted as error:
            return Refused(key_of(message), str(error), text[:_LONGEST_PAYLOAD], error.minute)

    def is_misplaced(self, message: Message, event: Event) -> bool:
        """Whether the message is in a partition other than its event's shard."""
        return message.partition() != shard_of(event_id(self._pipeline, event), self._pipeline.shards)


def _text(value: bytes | None) -> str:
    if value is None:
        raise NotAdmitted("the message has no value")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        octets = value[error.start : error.start + 4].hex(" ")
        raise NotAdmitted(f"the message is not UTF-8: bytes {octets} at position {error.start}") from None
