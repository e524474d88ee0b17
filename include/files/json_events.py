"""Reads events from a file of JSON lines or CSV, whichever it is."""

from __future__ import annotations

import json
from datetime import datetime

from include.files.readers import CsvEvents
from include.files.record_files import Record, RecordFile
from include.lake.admission import NotAdmitted, Refused, line_payload, needs_content_id
from include.lake.json_objects import JsonObjects
from include.lake.payload import parsed
from include.lake.writer import Event
from include.pipelines import Pipeline
from include.pipelines.declaration import OCCURRENCE


class JsonLineEvents:
    """Turns records of a file of JSON lines into events: the counterpart of CsvEvents.

    With `as_strings`, all fields of an event are strings, which callers can change; without it, the event is the object as sent.
    """

    def __init__(self, pipeline: Pipeline, clock: datetime, *, as_strings: bool = False) -> None:
        self._pipeline, self._as_strings = pipeline, as_strings
        self._objects = JsonObjects(pipeline, clock, "line")

    def read(self, record: Record) -> Event | Refused:
        if record.problem:
            return self.refused(record, f"line {record.line} is not a record: {record.problem}")
        text = None
        try:
            values, text = self._objects.identified(record.fields[0])
            event = self._objects.event(text, values, record.content_id)
            if self._as_strings:
                return Event(event.create_time, {**self._objects.fields(text), **event.values})
            return event
        except NotAdmitted as error:
            return self._refused(record, text, str(error), error.minute)

    def refused(self, record: Record, reason: str) -> Refused:
        """The record as a rejected row, whether it is broken or its event was refused."""
        text = None if record.problem else self._objects.identified(record.fields[0])[1]
        return self._refused(record, text, reason)

    def fields_without_id(self, record: Record) -> dict[str, str | None] | None:
        """The fields of a record without an id, from which its id is computed; None for a record that has one."""
        if record.problem:
            return None
        try:
            values, text = self._objects.identified(record.fields[0])
            return self._objects.fields(text) if needs_content_id(self._pipeline, values) else None
        except NotAdmitted:
            return None

    def _refused(self, record: Record, text: str | None, reason: str, minute: datetime | None = None) -> Refused:
        """The payload also has the number of this line among equal ones, for StoredEvents."""
        if text is None:
            text = line_payload(record.fields[0])
        elif record.occurrence:
            text = json.dumps({**parsed(text)[0], OCCURRENCE: str(record.occurrence)}, ensure_ascii=False)
        return Refused(str(record.line), reason, text, minute)


def event_reader(
    file: RecordFile, pipeline: Pipeline, clock: datetime, *, as_strings: bool = False
) -> CsvEvents | JsonLineEvents:
    """The object that turns the records of the file into events."""
    return (
        JsonLineEvents(pipeline, clock, as_strings=as_strings)
        if file.format.is_json
        else CsvEvents(file.header, pipeline, clock)
    )
