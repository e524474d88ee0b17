"""Events that come as JSON objects, in messages or as lines of a file. The lake keeps the object as it was sent."""

from __future__ import annotations

import json
from datetime import datetime

from include.files.csv_records import CsvFile, Record
from include.files.import_log import Refused
from include.lake.admission import CsvEvents, Judge, NotAdmitted, line_payload, needs_content_id
from include.lake.payload import Fields, NotAnObject, parsed
from include.lake.writer import Event
from include.pipelines import Pipeline
from include.pipelines.declaration import OCCURRENCE

LONGEST_EVENT = 4_000_000  # bytes: Cassandra refuses a row of half a commit log segment, 8 MB and more

# By the place of the row.
_ENVELOPES = dict.fromkeys(("payload.after", "after"), "the envelope of a change event")
_ENVELOPES["payload"] = "the envelope of Kafka Connect, with its schema (schemas.enable=false writes none)"


class JsonObjects:
    """Turns JSON objects into events; `what` people call them."""

    def __init__(self, pipeline: Pipeline, clock: datetime, what: str) -> None:
        self._pipeline, self._what = pipeline, what
        self._judge = Judge(pipeline, clock)
        names = ("create_time", pipeline.event_id, pipeline.event_time)
        self._identifying = Fields(name for name in names if name)

    def identified(self, text: str) -> tuple[dict[str, str | None], str]:
        """The fields that identify the event, and the object as JSON. Raises NotAdmitted for anything else."""
        try:
            return self._identifying.read(text)
        except NotAnObject as error:
            raise NotAdmitted(f"the {self._what} {error}") from None

    def fields(self, text: str) -> dict[str, str | None]:
        """All fields of an `identified` object. Raises NotAdmitted: the faster parser looks less closely."""
        try:
            return parsed(text)[0]
        except NotAnObject as error:
            raise NotAdmitted(f"the {self._what} {error}") from None

    def event(self, text: str, values: dict[str, str | None], content: str | None = None) -> Event:
        """The event of an `identified` object, or NotAdmitted."""
        if not any(values.values()) and (place := _row_in_envelope(text)):
            raise NotAdmitted(f"the {self._what} is {_ENVELOPES[place]}: unwrap {place} before it is sent")
        if content is None and needs_content_id(self._pipeline, values):
            values = self.fields(text)
        if len(text.encode()) > LONGEST_EVENT:
            raise NotAdmitted(f"it is longer than {LONGEST_EVENT} bytes, which the lake refuses")
        return self._judge.admit(values, content=content, text=text)


class JsonLineEvents:
    """Turns records of a file of JSON lines into events, as CsvEvents does those of a CSV.

    With `as_texts` an event has all fields as texts, so that they can be changed, and is no longer the object as it was sent.
    """

    def __init__(self, pipeline: Pipeline, clock: datetime, *, as_texts: bool = False) -> None:
        self._pipeline, self._as_texts = pipeline, as_texts
        self._objects = JsonObjects(pipeline, clock, "line")

    def read(self, record: Record) -> Event | Refused:
        if record.problem:
            return self.refused(record, f"line {record.line} is not a record: {record.problem}")
        text = None
        try:
            values, text = self._objects.identified(record.fields[0])
            event = self._objects.event(text, values, record.content)
            if self._as_texts:
                return Event(event.create_time, {**self._objects.fields(text), **event.values})
            return event
        except NotAdmitted as error:
            return self._refused(record, text, str(error), error.minute)

    def refused(self, record: Record, reason: str) -> Refused:
        """The record as a rejected row, which an event was made of, or which is broken."""
        text = None if record.problem else self._objects.identified(record.fields[0])[1]
        return self._refused(record, text, reason)

    def unnamed(self, record: Record) -> dict[str, str] | None:
        """The fields of a record without an id, from which its id is computed; None for a record that has one."""
        if record.problem:
            return None
        try:
            values, text = self._objects.identified(record.fields[0])
            return self._objects.fields(text) if needs_content_id(self._pipeline, values) else None
        except NotAdmitted:
            return None

    def _refused(self, record: Record, text: str | None, reason: str, minute: datetime | None = None) -> Refused:
        """Which of several equal lines it was goes along, for StoredEvents."""
        if text is None:
            text = line_payload(record.fields[0])
        elif record.occurrence:
            text = json.dumps({**parsed(text)[0], OCCURRENCE: str(record.occurrence)}, ensure_ascii=False)
        return Refused(str(record.line), reason, text, minute)


def events_of(
    file: CsvFile, pipeline: Pipeline, clock: datetime, *, as_texts: bool = False
) -> CsvEvents | JsonLineEvents:
    """Reads the records of the file as events."""
    return (
        JsonLineEvents(pipeline, clock, as_texts=as_texts)
        if file.format.is_json
        else CsvEvents(file.header, pipeline, clock)
    )


def _row_in_envelope(text: str) -> str | None:
    """Where a message of change data capture (Debezium's, say), or one with its schema, has its row; None for any other."""
    try:
        fields = json.loads(text, parse_int=str, parse_float=str)  # Python makes no number of more than 4,300 digits
    except (ValueError, RecursionError):
        return None
    for place, holder in (("payload.after", fields.get("payload")), ("after", fields)):
        if isinstance(holder, dict) and isinstance(holder.get("after"), dict):
            return place
    return "payload" if "schema" in fields and isinstance(fields.get("payload"), dict) else None
