"""What a message holds: an event of the lake, or something that can be none, with the reason why.

A value is a JSON object of field name to value, which the lake keeps as it was sent. Only what identifies the event is read
here. What other programs write for JSON (a byte order mark, a bare NaN) is made JSON first.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from include.lake import payload
from include.lake.keys import shard_of
from include.lake.writer import Event, event_id
from include.operations.admission import Judge, NotAdmitted, needs_content_id
from include.operations.import_log import Refused
from include.pipelines import Pipeline

if TYPE_CHECKING:
    from confluent_kafka import Message

LONGEST_EVENT = 4_000_000  # bytes: Cassandra refuses a row of half a commit log segment, 8 MB and more
_LONGEST_PAYLOAD = 4_000_000  # characters, of up to four bytes: a MEDIUMTEXT takes 16 MB
_LONGEST_TOPIC_IN_KEY = 130
_NULL = msgspec.Raw(b"null")


def origin_key(topic: str, partition: int, offset: int) -> str:
    """Where a message stands in the topic of that name."""
    return f"{topic[-_LONGEST_TOPIC_IN_KEY:]}/{partition}/{offset}"


def with_topic_id(key: str, topic_id: str | None) -> str:
    """An origin_key as the key among rejected events: another topic that once had the same name has others."""
    topic, place = key.split("/", 1)
    return key if topic_id is None or "@" in topic else f"{topic}@{topic_id}/{place}"


def key_of(message: Message) -> str:
    return origin_key(message.topic(), message.partition(), message.offset())


class TopicEvents:
    """Turns messages of one pipeline's topic into events."""

    def __init__(self, pipeline: Pipeline, clock: datetime) -> None:
        self._pipeline = pipeline
        self._judge = Judge(pipeline, clock)
        self._identifying = tuple(
            name for name in dict.fromkeys(("create_time", pipeline.event_id, pipeline.event_time)) if name
        )
        fields = [(name, msgspec.Raw, msgspec.field(default=_NULL, name=name)) for name in self._identifying]
        names = [(f"field_{number}", *rest) for number, (_, *rest) in enumerate(fields)]
        self._decode = msgspec.json.Decoder(msgspec.defstruct("Identifying", names)).decode

    def read(self, message: Message) -> Event | Refused:
        """Never raises for anything that a message may hold: one poison message must not stop the others."""
        try:
            text = _text(message.value())
        except NotAdmitted as error:
            raw = message.value()
            found = None if raw is None else raw.decode("utf-8", "backslashreplace")
            return Refused(key_of(message), str(error), _as_line(found))
        try:
            text, values = self._identified(text)
        except NotAdmitted as error:
            return Refused(key_of(message), str(error), _as_line(text))
        try:
            return self._event(text, values)
        except NotAdmitted as error:
            return Refused(key_of(message), str(error), text[:_LONGEST_PAYLOAD], error.minute)

    def misplaced(self, message: Message, event: Event) -> bool:
        """Whether its producer did not send it to the partition of its shard."""
        return message.partition() != shard_of(event_id(self._pipeline, event), self._pipeline.shards)

    def _identified(self, text: str) -> tuple[str, dict[str, str | None]]:
        """The JSON object, and those of its fields that identify the event."""
        if "\\ud" not in text and "\\uD" not in text:  # halves of characters are looked at below
            try:
                found = self._decode(text)
            except (msgspec.MsgspecError, RecursionError):
                pass  # it says too little of what is wrong, and knows no NaN
            else:
                values = zip(self._identifying, msgspec.structs.astuple(found), strict=True)
                return text, {name: _value(raw) for name, raw in values}
        values, text = _parsed(text)
        return text, {name: values.get(name) for name in self._identifying}

    def _event(self, text: str, values: dict[str, str | None]) -> Event:
        if not any(values.values()) and (place := _row_in_envelope(text)):
            raise NotAdmitted(f"the message is the envelope of a change event: unwrap {place} before it is sent")
        if needs_content_id(self._pipeline, values):
            values, _ = _parsed(text)
        if len(text.encode()) > LONGEST_EVENT:
            raise NotAdmitted(f"it is longer than {LONGEST_EVENT} bytes, which the lake refuses")
        return self._judge.admit(values, text=text)


def _text(value: bytes | None) -> str:
    if value is None:
        raise NotAdmitted("the message has no value")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        found = value[error.start : error.start + 4].hex(" ")
        raise NotAdmitted(f"the message is not UTF-8: bytes {found} at {error.start}") from None


def _parsed(text: str) -> tuple[dict[str, str | None], str]:
    try:
        return payload.parsed(text)
    except payload.NotAnObject as error:
        raise NotAdmitted(f"the message {error}") from None


def _value(raw: msgspec.Raw) -> str | None:
    """The text of a field's value as it was sent: what a string says, or the digits of a number."""
    sent = bytes(raw)
    if sent.startswith(b'"'):
        return msgspec.json.decode(sent)
    return None if sent == b"null" else sent.decode()


def _row_in_envelope(text: str) -> str | None:
    """Where a message of change data capture (Debezium's, say) has its row; None for any other message."""
    try:
        fields = json.loads(text, parse_int=str, parse_float=str)  # Python makes no number of more than 4,300 digits
    except (ValueError, RecursionError):
        return None
    for place, holder in (("payload.after", fields.get("payload")), ("after", fields)):
        if isinstance(holder, dict) and isinstance(holder.get("after"), dict):
            return place
    return None


def _as_line(found: str | None) -> str:
    """As an import keeps a line that is not a record: a replay then leaves it alone."""
    return json.dumps({"line": (found or "")[: _LONGEST_PAYLOAD // 2]}, ensure_ascii=False)
