"""What may enter the lake: a row with a time-UUID, young enough and not too long. All else is the transform's to judge.

Where a source has no id, or no create_time, they are made from what the row says and from where it stands: the same
row imported twice is one event, and two equal rows are two.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from include.lake.csv_records import FileRefused, Record
from include.lake.flat_table import FlatRow
from include.lake.keys import NotATimeUUID, minute_of, parse, time_uuid
from include.lake.writer import Event
from include.operations.import_log import Refused
from include.pipelines import Pipeline

_LONGEST_EVENT = 4_000_000  # characters: Cassandra refuses a row of half a commit log segment, 8 MB and more
_LONGEST_ID = 1_000  # characters: Cassandra refuses 64 KiB in a key
_IMPORTED = uuid.UUID("7c9de4b1-65c5-5fd2-9d8c-6d8a0e0c9a3b")  # names rows without an id; another one would double them
YEARS = range(1970, 2101)  # whose times every store takes

_FIRST_REASON = "; refused first for: "


class NotAdmitted(ValueError):
    """A row that can't be an event of the lake, and why."""

    def __init__(self, reason: str, minute: datetime | None = None) -> None:
        super().__init__(reason)
        self.minute = minute


class Judge:
    """Whether a row can be an event of the lake; everything else about it is the transform's to judge."""

    def __init__(self, pipeline: Pipeline, clock: datetime) -> None:
        self._pipeline = pipeline
        self._oldest = clock - pipeline.lake_retention if pipeline.lake_retention else None

    def admit(self, create_time: str, values: Mapping[str, str | None], origin: str) -> Event:
        """The row as an event, or NotAdmitted. `origin` names the row for good, e.g. by its file's digest and its line."""
        absent = self._pipeline.absent
        values = {name: text for name, text in values.items() if text and text not in absent}
        identity, event_id = origin, self._pipeline.event_id
        if event_id != "create_time":
            identity = values[event_id] = values.get(event_id) or str(uuid.uuid5(_IMPORTED, origin))
        event = Event(self._create_time(create_time, values, identity), values)
        minute = minute_of(event.create_time)
        if self._oldest and minute < self._oldest:
            raise NotAdmitted(
                f"its minute is older than the lake keeps ({self._pipeline.lake_retention}): closed", minute
            )
        if len(identity) > _LONGEST_ID:
            raise NotAdmitted(f"{event_id}, the event's id, is longer than {_LONGEST_ID} characters", minute)
        if sum(map(len, values.values())) > _LONGEST_EVENT:
            raise NotAdmitted(f"it is longer than {_LONGEST_EVENT} characters, which the lake refuses", minute)
        return event

    def _create_time(self, text: str, values: Mapping[str, str], identity: str) -> uuid.UUID:
        """What the row says, or else its own time made a time-UUID."""
        own_time, text = self._pipeline.event_time, text.strip()
        if own_time and (not text or text in self._pipeline.absent):
            return time_uuid(time_in(own_time, values.get(own_time, "")), identity)
        try:
            return parse(text)
        except NotATimeUUID as error:
            raise NotAdmitted(f"create_time {error}") from None


class CsvEvents:
    """Turns records of one CSV into events; `digest` is the file's."""

    def __init__(self, header: list[str], pipeline: Pipeline, clock: datetime, digest: str) -> None:
        self._header = header
        self._digest = digest
        self._create_time = header.index("create_time") if "create_time" in header else None
        self._wanted = [(index, name) for index, name in enumerate(header) if name in pipeline.columns]
        self._judge = Judge(pipeline, clock)

    def read(self, record: Record) -> Event | Refused:
        if record.problem:
            return self.refused(record, f"line {record.line} is no record: {record.problem}")
        fields = record.fields
        values = {name: fields[index] for index, name in self._wanted}
        create_time = "" if self._create_time is None else fields[self._create_time]
        try:
            return self._judge.admit(create_time, values, f"{self._digest}:{record.line}")
        except NotAdmitted as error:
            return self.refused(record, str(error), error.minute)

    def refused(self, record: Record, reason: str, minute: datetime | None = None) -> Refused:
        """The record as a rejected row."""
        fields = record.fields
        row = {"line": fields[0]} if record.problem else dict(zip(self._header, fields, strict=True))
        return Refused(str(record.line), reason, payload_of(row), minute)


class TableEvents:
    """Turns rows of the flat table of that name into events."""

    def __init__(self, name: str, pipeline: Pipeline, clock: datetime) -> None:
        self._name = name
        self._judge = Judge(pipeline, clock)

    def read(self, row: FlatRow) -> Event | Refused:
        try:
            return self._judge.admit(row.create_time, row.values, f"{self._name}:{row.create_time}")
        except NotAdmitted as error:
            payload = payload_of({"create_time": row.create_time, **row.values})
            return Refused(row.create_time, str(error), payload, error.minute)


class StoredEvents:
    """Turns rows that an import had refused, and kept, into events."""

    def __init__(self, pipeline: Pipeline, clock: datetime) -> None:
        self._columns = pipeline.columns
        self._judge = Judge(pipeline, clock)

    def read(self, payload: str, reason: str, origin: str) -> Event:
        """The row as an event, or NotAdmitted with its newest reason: `reason` where there is nothing new to say.

        With the origin that it had in its import, so that it is the same event should it be imported again.
        """
        try:
            fields = json.loads(payload)
        except ValueError as error:
            raise NotAdmitted(_no_json(str(error), reason)) from None
        if not isinstance(fields, dict):
            raise NotAdmitted(_no_json("it is no object", reason))
        if fields.keys() == {"line"} and "line" not in self._columns:
            raise NotAdmitted(reason)  # a line that was no record, without the header of its file
        texts = {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in fields.items()
            if value is not None
        }
        values = {name: texts[name] for name in self._columns if name in texts}
        return self._judge.admit(texts.get("create_time", ""), values, origin)


def _no_json(problem: str, reason: str) -> str:
    """Keeps what the import had said, however often it is judged: a payload that was cut is no JSON either."""
    first = reason.partition(_FIRST_REASON)[2] or reason
    return f"its stored payload is no JSON: {problem}{_FIRST_REASON}{first}"


def payload_of(values: dict[str, str | None]) -> str:
    """The raw row as JSON, without what is empty."""
    return json.dumps({name: value for name, value in values.items() if value}, ensure_ascii=False)


def check_header(path: Path, header: list[str], pipeline: Pipeline) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(ignored, missing) columns, or FileRefused where the file can't hold this pipeline's events."""
    known = [column for column in header if column in pipeline.columns]
    times = [name for name in ("create_time", pipeline.event_time) if name]
    has_time = any(name in header for name in times)
    if not has_time or not known:
        needed = f"any of {', '.join(pipeline.columns)}" if has_time else " or ".join(times)
        raise FileRefused(
            f"{path}: it has no column {needed}, which pipeline {pipeline.name} needs. Its header names "
            f"{', '.join(header)[:500]}. The first line must name the columns, separated by commas."
        )
    ignored = tuple(column for column in header if column not in ("create_time", *known))
    left_empty = (column for column in pipeline.columns if column not in known and column != pipeline.event_id)
    return ignored, tuple(left_empty)


def about_columns(source: str, ignored: Sequence[str], missing: Sequence[str]) -> list[str]:
    """Lines of a summary on what check_header has found; `source` is what people call it."""
    lines = []
    if missing:
        lines.append(f"Columns that the {source} does not have, left empty: {', '.join(missing)}.")
    if ignored:
        lines.append(f"Columns of the {source} that are not wanted, ignored: {', '.join(ignored)}.")
    return lines


def time_in(column: str, text: str) -> datetime:
    """UTC, unless it carries another zone; leniently, since the transform judges it once more. Raises NotAdmitted."""
    try:
        time = datetime.fromisoformat(text.strip().removesuffix(" UTC"))
    except ValueError:
        time = None
    if time is None or time.year not in YEARS:
        raise NotAdmitted(f"{column} {text[:60]!r} is no time of the years 1970 to 2100, and there is no create_time")
    return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time
