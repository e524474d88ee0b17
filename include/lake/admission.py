"""Admits rows to the lake: a row needs a time-UUID, and must not be too old, too far ahead or too long.

The transform checks the rest.

If a source has no id, or no create_time, they are computed from the row's values: the same row is one event, however often
and from whichever file it comes. Equal rows of one file are numbered, which distinguishes them.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from include import readings
from include.lake.keys import NotATimeUUID, minute_of, parse, time_uuid
from include.lake.writer import Event, payload_of
from include.pipelines import Pipeline
from include.pipelines.declaration import OCCURRENCE

_MAX_BYTES_PER_CHARACTER = 6  # of a control character, which JSON escapes
LONGEST_EVENT = 4_000_000  # bytes: Cassandra refuses more than half a commit log segment; that half is 8 MiB or more
_LONGEST_ID = 1_000  # characters: Cassandra refuses 64 KiB in a key
_LONGEST_LINE = 2_000_000  # characters, which JSON may write as six each: a MEDIUMTEXT takes 16 MB
_CLOSED = "its minute is closed"


@dataclass(frozen=True)
class Refused:
    """A row that never reached the lake, or the warehouse, and why."""

    key: str  # within its source: the line of a file, the key of a table's row, the place of a message
    reason: str
    payload: str
    minute: datetime | None = None
    as_of: int | None = None  # the write timestamp that it would have in the lake


@dataclass
class ClosedRows:
    """Rows that were refused because their minute is closed."""

    count: int = 0
    first: datetime | None = None
    last: datetime | None = None

    def add(self, refused: Iterable[Refused]) -> None:
        """Count the rows that were refused for this reason."""
        minutes = [row.minute for row in refused if row.minute and row.reason.startswith(_CLOSED)]
        if minutes:
            self.count += len(minutes)
            self.first = min(filter(None, [self.first, *minutes]))
            self.last = max(filter(None, [self.last, *minutes]))

    def lines(self) -> list[str]:
        """The lines of a summary about them."""
        if not self.count:
            return []
        rows = "1 row is rejected: its" if self.count == 1 else f"{self.count} rows are rejected: their"
        if self.first == self.last:
            minutes = f"minute, {self.first} UTC, is closed, because it is"
        else:
            minutes = f"minutes, {self.first} to {self.last} UTC, are closed, because they are"
        return [f"{rows} {minutes} past the lake's retention."]


class NotAdmitted(ValueError):
    """A row that cannot be an event of the lake, and why."""

    def __init__(self, reason: str, minute: datetime | None = None) -> None:
        super().__init__(reason)
        self.minute = minute


def content_id(pipeline: Pipeline, values: Mapping[str, str | None], occurrence: int = 0) -> str:
    """The id of a row without one: a UUID of its values, whatever their order, their quoting and the white space around them.

    `occurrence` is the number of equal rows before it in its file.
    """
    own_id, null_words = pipeline.event_id, pipeline.null_words
    parts = [
        f"{len(name)} {name} {len(value)} {value}"
        for name, text in sorted(values.items())
        if name not in (own_id, OCCURRENCE) and (value := readings.text(text, null_words))
    ]
    digest = sha256("".join(parts).encode(errors="surrogatepass"))
    if occurrence:
        digest.update(b"%d" % occurrence)
    bits = digest.hexdigest()
    # A UUID of version 8 (RFC 9562), whose bits are implementation-defined.
    return f"{bits[:8]}-{bits[8:12]}-8{bits[12:15]}-8{bits[15:18]}-{bits[18:30]}"


def needs_content_id(pipeline: Pipeline, values: Mapping[str, str | None]) -> bool:
    """Whether the row has no id, and gets one from its values."""
    if pipeline.event_id == "create_time" and not pipeline.event_time:
        return False  # it is refused instead
    return readings.text(values.get(pipeline.event_id), pipeline.null_words) is None


class RowValidator:
    """Checks whether a row can be an event of the lake; the transform checks everything else."""

    def __init__(self, pipeline: Pipeline, clock: datetime) -> None:
        self._pipeline = pipeline
        self._clock = clock
        self._first_open = pipeline.first_open(clock)

    def admit(self, values: Mapping[str, str | None], *, content: str | None = None, text: str | None = None) -> Event:
        """The row as an event. Raises NotAdmitted.

        `content` is its content_id, by default that of a first occurrence; `text` is its JSON, if it came as JSON.
        """
        name, create_time = self._pipeline.event_id, self._read_text(values.get("create_time"))
        identity = create_time if name == "create_time" else self._read_text(values.get(name))
        if not identity and needs_content_id(self._pipeline, values):
            identity = content or content_id(self._pipeline, values)
        if name != "create_time":
            values = {**values, name: identity}
        event = Event(self._create_time(create_time, values, identity), values, text)
        minute = minute_of(event.create_time)
        if reason := self._pipeline.out_of_range(minute, self._clock):
            raise NotAdmitted(reason, minute)
        if minute < self._first_open:
            raise NotAdmitted(
                f"{_CLOSED}, because it is past the lake's retention: {self._pipeline.retention_text}", minute
            )
        if identity and len(identity) > _LONGEST_ID:
            raise NotAdmitted(f"{name}, the event's id, is longer than {_LONGEST_ID} characters", minute)
        characters = len(text) if text else sum(map(len, filter(None, values.values())))
        if characters * _MAX_BYTES_PER_CHARACTER > LONGEST_EVENT and len(payload_of(event)) > LONGEST_EVENT:
            raise NotAdmitted(f"it is longer than {LONGEST_EVENT} bytes, which the lake refuses", minute)
        return event

    def _read_text(self, text: str | None) -> str | None:
        return readings.text(text, self._pipeline.null_words)

    def _create_time(self, text: str | None, values: Mapping[str, str | None], identity: str | None) -> uuid.UUID:
        """The row's create_time, or else a time-UUID made from its event time."""
        own_time = self._pipeline.event_time
        if own_time and not text:
            return time_uuid(time_in(own_time, values.get(own_time) or ""), identity)  # ty: ignore[invalid-argument-type]
        try:
            return parse(text or "")
        except NotATimeUUID as error:
            raise NotAdmitted(f"create_time {error}") from None


def line_payload(line: str) -> str:
    """A line or message that is not a record, as a rejected row keeps it: reprocessing leaves it rejected."""
    return json.dumps({"line": line[:_LONGEST_LINE]}, ensure_ascii=False)


def time_in(column: str, text: str) -> datetime:
    """The UTC time in the text, of a year that every store accepts. Raises NotAdmitted."""
    time = readings.instant(text)
    if time is None or time.year not in readings.YEARS:
        raise NotAdmitted(
            f"{column} {text[:60]!r} is not a timestamp between 1970 and 2100, and there is no create_time"
        )
    return time
