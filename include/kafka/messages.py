"""What a message holds: an event of the lake, or something that can be none, with the reason why.

A value is a JSON object of field name to text or number, `create_time` among them. Numbers keep the digits that their
producer wrote, because raw columns are text.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

from include.lake.keys import shard_of
from include.lake.writer import Event, event_id
from include.operations.admission import Judge, NotAdmitted
from include.operations.import_log import Refused
from include.pipelines import Pipeline

if TYPE_CHECKING:
    from confluent_kafka import Message

LONGEST_EVENT = 4_000_000  # bytes: Cassandra refuses a row of half a commit log segment, 8 MB and more
_LONGEST_PAYLOAD = 4_000_000  # characters, of up to four bytes: a MEDIUMTEXT takes 16 MB
_LONGEST_TOPIC_IN_KEY = 150


def origin_key(topic: str, partition: int, offset: int) -> str:
    """Where a message stands: its key among rejected events of origin kafka."""
    return f"{topic[-_LONGEST_TOPIC_IN_KEY:]}/{partition}/{offset}"


def key_of(message: Message) -> str:
    return origin_key(message.topic(), message.partition(), message.offset())


class TopicEvents:
    """Turns messages of one pipeline's topic into events."""

    def __init__(self, pipeline: Pipeline, clock: datetime) -> None:
        self._pipeline = pipeline
        self._judge = Judge(pipeline, clock)

    def read(self, message: Message) -> Event | Refused:
        """Never raises for anything that a message may hold: one poison message must not stop the others."""
        try:
            text = _text(message.value())
        except NotAdmitted as error:
            raw = message.value()
            said = None if raw is None else raw.decode("utf-8", "backslashreplace")
            return Refused(key_of(message), str(error), _as_line(said))
        try:
            fields = _fields(text)
        except NotAdmitted as error:
            return Refused(key_of(message), str(error), _as_line(text))
        try:
            return self._event(fields, key_of(message))
        except NotAdmitted as error:
            return Refused(key_of(message), str(error), text[:_LONGEST_PAYLOAD], error.minute)

    def misplaced(self, message: Message, event: Event) -> bool:
        """Whether its producer did not send it to the partition of its shard."""
        return message.partition() != shard_of(event_id(self._pipeline, event), self._pipeline.shards)

    def _event(self, fields: dict[str, object], origin: str) -> Event:
        values = {name: _value(name, fields[name]) for name in self._pipeline.columns if name in fields}
        name, absent = self._pipeline.event_id, ("", *self._pipeline.absent)
        if name != "create_time" and (values.get(name) or "").strip() in absent:
            # One made of the message's place would be another one when the producer sends it again.
            raise NotAdmitted(f"{name}, the event's id, is empty")
        event = self._judge.admit(_value("create_time", fields.get("create_time")) or "", values, origin)
        if sum(len(text.encode()) for text in values.values() if text) > LONGEST_EVENT:
            raise NotAdmitted(f"it is longer than {LONGEST_EVENT} bytes, which the lake refuses")
        return event


def _text(value: bytes | None) -> str:
    if value is None:
        raise NotAdmitted("the message has no value")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        found = value[error.start : error.start + 4].hex(" ")
        raise NotAdmitted(f"the message is no UTF-8: bytes {found} at {error.start}") from None


def _fields(text: str) -> dict[str, object]:
    try:
        found = json.loads(text, parse_int=_Digits, parse_float=_Digits, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise NotAdmitted(f"the message is no JSON: {str(error) or type(error).__name__}") from None
    if not isinstance(found, dict):
        raise NotAdmitted("the message is JSON, but no object of fields")
    return found


class _Digits(str):
    """A number as it was written."""


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _value(name: str, found: object) -> str | None:
    if isinstance(found, bool):
        return json.dumps(found)
    if found is not None and not isinstance(found, str):
        raise NotAdmitted(f"{name} is neither text nor a number: send nested values as JSON in a text")
    try:
        (found or "").encode()
    except UnicodeEncodeError:
        raise NotAdmitted(f"{name} holds half of a character (a lone surrogate), which no text can") from None
    return None if found is None else str(found)


def _as_line(said: str | None) -> str:
    """As an import keeps a line that is no record: a replay then leaves it alone."""
    return json.dumps({"line": (said or "")[: _LONGEST_PAYLOAD // 2]}, ensure_ascii=False)
