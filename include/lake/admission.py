"""What may enter the lake: a row with a time-UUID, young enough and not too long. All else is the transform's to judge.

Where a source has no id, or no create_time, they are made from what the row says: the same row is one event, however often
and from whichever file it comes. Equal rows of one file are told apart by their number among them.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from include import readings
from include.files.csv_records import FileRefused, Record
from include.files.flat_table import FlatRow
from include.files.import_log import Refused
from include.lake.keys import NotATimeUUID, minute_of, parse, time_uuid
from include.lake.payload import NotAnObject, parsed
from include.lake.writer import Event
from include.lake.writer import payload_of as lake_payload
from include.pipelines import Pipeline
from include.pipelines.declaration import OCCURRENCE

_MOST_BYTES_A_CHARACTER = 6  # of a control character, which JSON escapes
_LONGEST_EVENT = 4_000_000  # bytes: Cassandra refuses a row of half a commit log segment, 8 MB and more
_LONGEST_ID = 1_000  # characters: Cassandra refuses 64 KiB in a key
_LONGEST_LINE = 2_000_000  # characters, which JSON may write as six each: a MEDIUMTEXT takes 16 MB
_COLUMNS_SHOWN, _EXPECTED_SHOWN = 50, 12
YEARS = range(1970, 2101)  # whose times every store takes


_FIRST_REASON = "; refused first for: "


_CLOSED = "its minute is older than the lake keeps"


@dataclass
class ClosedRows:
    """Rows that were refused because their minute is closed."""

    count: int = 0
    first: datetime | None = None
    last: datetime | None = None

    def add(self, refused: Iterable[Refused]) -> None:
        """Count those of the rows."""
        minutes = [row.minute for row in refused if row.minute and row.reason.startswith(_CLOSED)]
        if minutes:
            self.count += len(minutes)
            self.first = min(filter(None, [self.first, *minutes]))
            self.last = max(filter(None, [self.last, *minutes]))

    def lines(self) -> list[str]:
        """What a summary says of them."""
        if not self.count:
            return []
        return [
            f"{self.count} rows are of closed minutes, {self.first} to {self.last} UTC, which are older than the lake keeps: "
            "they are rejected."
        ]


class NotAdmitted(ValueError):
    """A row that can't be an event of the lake, and why."""

    def __init__(self, reason: str, minute: datetime | None = None) -> None:
        super().__init__(reason)
        self.minute = minute


def content_id(pipeline: Pipeline, values: Mapping[str, str | None], occurrence: int = 0) -> str:
    """The id of a row without one: a UUID of what it says, whatever order, white space and quotes it comes in.

    `occurrence` counts the equal rows of its file before it.
    """
    own_id, null_words = pipeline.event_id, pipeline.null_words
    parts = [
        f"{len(name)} {name} {len(said)} {said}"
        for name, text in sorted(values.items())
        if name not in (own_id, OCCURRENCE) and (said := readings.text(text, null_words))
    ]
    digest = sha256("".join(parts).encode(errors="surrogatepass"))
    if occurrence:
        digest.update(b"%d" % occurrence)
    bits = digest.hexdigest()
    # A UUID of version 8 (RFC 9562), which leaves its bits to who makes it.
    return f"{bits[:8]}-{bits[8:12]}-8{bits[12:15]}-8{bits[15:18]}-{bits[18:30]}"


def needs_content_id(pipeline: Pipeline, values: Mapping[str, str | None]) -> bool:
    """Whether the row says nothing that identifies it."""
    if pipeline.event_id == "create_time" and not pipeline.event_time:
        return False  # it is refused instead
    return readings.text(values.get(pipeline.event_id), pipeline.null_words) is None


class Judge:
    """Whether a row can be an event of the lake; everything else about it is the transform's to judge."""

    def __init__(self, pipeline: Pipeline, clock: datetime) -> None:
        self._pipeline = pipeline
        self._clock = clock
        self._oldest = clock - pipeline.lake_retention if pipeline.lake_retention else None

    def admit(self, values: Mapping[str, str | None], *, content: str | None = None, text: str | None = None) -> Event:
        """The row as an event, or NotAdmitted.

        `content` is its content_id, by default that of a first occurrence; `text` its JSON, where it came as such.
        """
        name, create_time = self._pipeline.event_id, self._said(values.get("create_time"))
        identity = create_time if name == "create_time" else self._said(values.get(name))
        if not identity and needs_content_id(self._pipeline, values):
            identity = content or content_id(self._pipeline, values)
        if name != "create_time":
            values = {**values, name: identity}
        event = Event(self._create_time(create_time, values, identity), values, text)
        minute = minute_of(event.create_time)
        if reason := self._pipeline.out_of_range(minute, self._clock):
            raise NotAdmitted(reason, minute)
        if self._oldest and minute < self._oldest:
            raise NotAdmitted(f"{_CLOSED} ({self._pipeline.lake_retention}): closed", minute)
        if identity and len(identity) > _LONGEST_ID:
            raise NotAdmitted(f"{name}, the event's id, is longer than {_LONGEST_ID} characters", minute)
        characters = len(text) if text else sum(map(len, filter(None, values.values())))
        if characters * _MOST_BYTES_A_CHARACTER > _LONGEST_EVENT and len(lake_payload(event)) > _LONGEST_EVENT:
            raise NotAdmitted(f"it is longer than {_LONGEST_EVENT} bytes, which the lake refuses", minute)
        return event

    def _said(self, text: str | None) -> str | None:
        return readings.text(text, self._pipeline.null_words)

    def _create_time(self, said: str | None, values: Mapping[str, str | None], identity: str | None) -> uuid.UUID:
        """What the row says, or else its own time made a time-UUID."""
        own_time = self._pipeline.event_time
        if own_time and not said:
            return time_uuid(time_in(own_time, values.get(own_time) or ""), identity)
        try:
            return parse(said or "")
        except NotATimeUUID as error:
            raise NotAdmitted(f"create_time {error}") from None


class CsvEvents:
    """Turns records of one CSV into events."""

    def __init__(self, header: list[str], pipeline: Pipeline, clock: datetime) -> None:
        self._header, self._pipeline = header, pipeline
        self._judge = Judge(pipeline, clock)

    def read(self, record: Record) -> Event | Refused:
        if record.problem:
            return self.refused(record, f"line {record.line} is not a record: {record.problem}")
        values = dict(zip(self._header, record.fields, strict=True))
        try:
            return self._judge.admit(values, content=record.content)
        except NotAdmitted as error:
            return self.refused(record, str(error), error.minute)

    def refused(self, record: Record, reason: str, minute: datetime | None = None) -> Refused:
        """The record as a rejected row; which of several equal ones it was goes along, for StoredEvents."""
        if record.problem:
            return Refused(str(record.line), reason, line_payload(record.fields[0]), minute)
        row = dict(zip(self._header, record.fields, strict=True))
        if record.occurrence:
            row[OCCURRENCE] = str(record.occurrence)
        return Refused(str(record.line), reason, payload_of(row), minute)

    def unnamed(self, record: Record) -> dict[str, str] | None:
        """The fields of a record without an id, from which its id is computed; None for a record that has one."""
        if record.problem:
            return None
        values = dict(zip(self._header, record.fields, strict=True))
        return values if needs_content_id(self._pipeline, values) else None


class Occurrences:
    """Gives each record without an id its content_id, which counts the equal records before it. Use as a context manager.

    `unnamed` is the method of the class that reads the records.

    The counts are kept in a temporary file beyond 64 MB: a history has more rows than memory.
    """

    def __init__(self, unnamed: Callable[[Record], Mapping[str, str | None] | None], pipeline: Pipeline) -> None:
        self._unnamed, self._pipeline = unnamed, pipeline
        # An empty name makes a temporary database on disk that ends with the connection.
        self._counts = sqlite3.connect("", isolation_level=None)
        for setting in ("journal_mode = OFF", "cache_size = -65536"):
            self._counts.execute(f"PRAGMA {setting}")
        self._counts.execute("CREATE TABLE seen (content INTEGER PRIMARY KEY, times INTEGER NOT NULL)")
        self._counts.execute("BEGIN")

    def __enter__(self) -> Occurrences:
        return self

    def __exit__(self, *_) -> None:
        self._counts.close()

    def numbered(self, records: Iterable[Record]) -> Iterator[Record]:
        for record in records:
            values = self._unnamed(record)
            if values is None:
                yield record
                continue
            first = content_id(self._pipeline, values)
            before = self._seen(first)
            content = content_id(self._pipeline, values, before) if before else first
            yield Record(record.line, record.end_line, record.fields, None, content, before)

    def _seen(self, content: str) -> int:
        # 60 bits: two rows that share them by chance only get another number than they would alone.
        key = int(content[-12:] + content[:3], 16)
        if self._counts.execute("INSERT OR IGNORE INTO seen VALUES (?, 1)", (key,)).rowcount:
            return 0
        (before,) = self._counts.execute("SELECT times FROM seen WHERE content = ?", (key,)).fetchone()
        self._counts.execute("UPDATE seen SET times = times + 1 WHERE content = ?", (key,))
        return before


class TableEvents:
    """Turns rows of a flat table into events."""

    def __init__(self, pipeline: Pipeline, clock: datetime) -> None:
        self._judge = Judge(pipeline, clock)

    def read(self, row: FlatRow) -> Event | Refused:
        values, text = {"create_time": row.create_time, **row.values}, None
        try:
            if row.payload is not None:
                fields, text = _object(row.payload)
                values = {**fields, **values}
            return self._judge.admit(values, text=text)
        except NotAdmitted as error:
            return Refused(row.create_time, str(error), row.payload or payload_of(values), error.minute)


class StoredEvents:
    """Turns rows that an import had refused, and kept, into events."""

    def __init__(self, pipeline: Pipeline, clock: datetime) -> None:
        self._pipeline = pipeline
        self._judge = Judge(pipeline, clock)

    def read(self, payload: str, reason: str) -> Event:
        """The row as an event, or NotAdmitted with its newest reason: `reason` where there is nothing new to say."""
        try:
            texts, payload = parsed(payload)
        except NotAnObject as error:
            raise NotAdmitted(_no_json(str(error), reason)) from None
        if texts.keys() == {"line"} and "line" not in self._pipeline.fields:
            raise NotAdmitted(reason)  # a line that was no record, without the header of its file
        occurrence = texts.pop(OCCURRENCE, None) or ""
        content = content_id(self._pipeline, texts, int(occurrence)) if occurrence.isdigit() else None
        return self._judge.admit(texts, content=content, text=None if occurrence else payload)


def _object(text: str) -> tuple[dict[str, str | None], str]:
    try:
        return parsed(text)
    except NotAnObject as error:
        raise NotAdmitted(f"its payload {error}") from None


def _no_json(problem: str, reason: str) -> str:
    """Keeps what the import had said, however often it is judged: a payload that was cut is not JSON either."""
    first = reason.partition(_FIRST_REASON)[2] or reason
    return f"its stored payload {problem}{_FIRST_REASON}{first}"


def line_payload(line: str) -> str:
    """A line that is not a record, as a rejected row keeps it: a replay leaves it alone."""
    return json.dumps({"line": line[:_LONGEST_LINE]}, ensure_ascii=False)


def payload_of(values: Mapping[str, str | None]) -> str:
    """The raw row as JSON, without what is empty."""
    return json.dumps({name: value for name, value in values.items() if value}, ensure_ascii=False)


def names_of(pipeline: Pipeline) -> tuple[str, ...]:
    """The columns that a file of the pipeline's events may have."""
    return tuple(dict.fromkeys(("create_time", pipeline.event_id, *pipeline.fields)))


def check_header(path: Path, header: list[str], pipeline: Pipeline) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(unknown, missing) columns, or FileRefused where the file can't hold this pipeline's events."""
    if not header:  # of JSON lines
        return (), ()
    known = [column for column in header if column in pipeline.fields]
    times = [name for name in ("create_time", pipeline.event_time) if name]
    has_time = any(name in header for name in times)
    if not has_time or not known:
        needed = f"any of {', '.join(pipeline.fields)}" if has_time else " or ".join(times)
        raise FileRefused(
            f"{path}: it has no column {needed}, which pipeline {pipeline.name} needs. "
            + (
                _other_case(header, names_of(pipeline))
                or "The first line of a CSV must name the columns, "
                f"such as {', '.join(names_of(pipeline)[:_EXPECTED_SHOWN])}."
            )
        )
    unknown = tuple(column for column in header if column not in ("create_time", *known))
    absent = (name for name in pipeline.fields if name not in known and name != pipeline.event_id)
    return unknown, tuple(absent)


def about_columns(source: str, unknown: Sequence[str], missing: Sequence[str]) -> list[str]:
    """Lines of a summary on what check_header has found; `source` is what people call it."""
    lines = []
    if missing:
        lines.append(f"Columns that the {source} does not have: {_listed(missing)}.")
    if unknown:
        lines.append(
            f"Columns of the {source} that the pipeline does not declare, kept with each event: {_listed(unknown)}."
        )
    if other_case := _other_case(unknown, missing):
        lines.append(other_case)
    return lines


def _other_case(names: Iterable[str], declared: Iterable[str]) -> str | None:
    """That some of the names are declared in another case. The header of a CSV has been matched in any case before."""
    by_case = {name.casefold(): name for name in declared}
    found = [
        f"{name} is not {by_case[name.casefold()]}" for name in names if by_case.get(name.casefold(), name) != name
    ]
    return f"Names in JSON are matched exactly: {_listed(found)}." if found else None


def _listed(columns: Sequence[str]) -> str:
    more = len(columns) - _COLUMNS_SHOWN
    return ", ".join(columns[:_COLUMNS_SHOWN]) + (f" and {more} more" if more > 0 else "")


def time_in(column: str, text: str) -> datetime:
    """The UTC time in it, of a year that every store takes. Raises NotAdmitted."""
    time = readings.instant(text)
    if time is None or time.year not in YEARS:
        raise NotAdmitted(
            f"{column} {text[:60]!r} is not a timestamp between 1970 and 2100, and there is no create_time"
        )
    return time
