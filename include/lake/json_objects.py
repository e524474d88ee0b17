"""Events that come as JSON objects, in messages or as lines of a file. The lake keeps the object as it was sent."""

from __future__ import annotations

import json
from datetime import datetime

from include.lake.admission import LONGEST_EVENT, NotAdmitted, RowValidator, needs_content_id
from include.lake.payload import Fields, NotAnObject, parsed
from include.lake.writer import Event
from include.pipelines import Pipeline

# What the object is, by the place of the row in it.
_ENVELOPES = dict.fromkeys(("payload.after", "after"), "the envelope of a change event")
_ENVELOPES["payload"] = "the envelope of Kafka Connect, with its schema (schemas.enable=false writes none)"


def id_fields(pipeline: Pipeline) -> Fields:
    """The reader of the fields that identify an event."""
    return Fields(name for name in ("create_time", pipeline.event_id, pipeline.event_time) if name)


class JsonObjects:
    """Turns JSON objects into events; reasons name an object by the word `what`, such as message."""

    def __init__(self, pipeline: Pipeline, clock: datetime, what: str) -> None:
        self._pipeline, self._what = pipeline, what
        self._validator = RowValidator(pipeline, clock)
        self._id_fields = id_fields(pipeline)

    def identified(self, text: str) -> tuple[dict[str, str | None], str]:
        """The fields that identify the event, and the object as JSON. Raises NotAdmitted for anything else."""
        try:
            return self._id_fields.read(text)
        except NotAnObject as error:
            raise NotAdmitted(f"the {self._what} {error}") from None

    def fields(self, text: str) -> dict[str, str | None]:
        """All fields of an `identified` object. Raises NotAdmitted: the parser of `identified` is less strict."""
        try:
            return parsed(text)[0]
        except NotAnObject as error:
            raise NotAdmitted(f"the {self._what} {error}") from None

    def event(self, text: str, values: dict[str, str | None], content: str | None = None) -> Event:
        """The event of an `identified` object. Raises NotAdmitted."""
        if not any(values.values()) and (place := _row_in_envelope(text)):
            raise NotAdmitted(f"the {self._what} is {_ENVELOPES[place]}: send only the object in {place}")
        if content is None and needs_content_id(self._pipeline, values):
            values = self.fields(text)
        if len(text.encode()) > LONGEST_EVENT:
            raise NotAdmitted(f"it is longer than {LONGEST_EVENT} bytes, which the lake refuses")
        return self._validator.admit(values, content=content, text=text)


def _row_in_envelope(text: str) -> str | None:
    """Where a change event (of Debezium, for example), or a message with its schema, has its row; else None."""
    try:
        # Numbers as strings: Python does not parse integers of more than 4,300 digits.
        fields = json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return None
    for place, holder in (("payload.after", fields.get("payload")), ("after", fields)):
        if isinstance(holder, dict) and isinstance(holder.get("after"), dict):
            return place
    return "payload" if "schema" in fields and isinstance(fields.get("payload"), dict) else None
