"""What may enter the lake: a row with a time-UUID, young enough and not too long. All else is the transform's to judge."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

from include.lake.csv_records import FileRefused, Record
from include.lake.flat_table import FlatRow
from include.lake.keys import NotATimeUUID, minute_of, parse
from include.lake.writer import Event
from include.operations.import_log import Refused
from include.pipelines import Pipeline

_LONGEST_EVENT = 4_000_000  # characters: Cassandra refuses a row of half a commit log segment, 8 MB and more

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

    def admit(self, create_time: str, values: dict[str, str | None]) -> Event:
        """The row as an event, or NotAdmitted."""
        try:
            event = Event(parse(create_time.strip()), values)
        except NotATimeUUID as error:
            raise NotAdmitted(f"create_time {error}") from None
        minute = minute_of(event.create_time)
        if self._oldest and minute < self._oldest:
            raise NotAdmitted(
                f"its minute is older than the lake keeps ({self._pipeline.lake_retention}): closed", minute
            )
        if self._pipeline.event_id != "create_time" and not values.get(self._pipeline.event_id):
            raise NotAdmitted(f"{self._pipeline.event_id}, the event's id, is empty", minute)
        if sum(len(value) for value in values.values() if value) > _LONGEST_EVENT:
            raise NotAdmitted(f"it is longer than {_LONGEST_EVENT} characters, which the lake refuses", minute)
        return event


class CsvEvents:
    """Turns records of one CSV into events."""

    def __init__(self, header: list[str], pipeline: Pipeline, clock: datetime) -> None:
        self._header = header
        self._create_time = header.index("create_time")
        self._wanted = [(index, name) for index, name in enumerate(header) if name in pipeline.columns]
        self._judge = Judge(pipeline, clock)

    def read(self, record: Record) -> Event | Refused:
        key = str(record.line)
        if record.problem:
            return Refused(key, f"line {key} is no record: {record.problem}", payload_of({"line": record.fields[0]}))
        fields = record.fields
        values = {name: fields[index] for index, name in self._wanted if fields[index]}
        try:
            return self._judge.admit(fields[self._create_time], values)
        except NotAdmitted as error:
            return Refused(key, str(error), payload_of(dict(zip(self._header, fields, strict=True))), error.minute)


class TableEvents:
    """Turns rows of one flat table into events."""

    def __init__(self, pipeline: Pipeline, clock: datetime) -> None:
        self._judge = Judge(pipeline, clock)

    def read(self, row: FlatRow) -> Event | Refused:
        try:
            return self._judge.admit(row.create_time, row.values)
        except NotAdmitted as error:
            payload = payload_of({"create_time": row.create_time, **row.values})
            return Refused(row.create_time, str(error), payload, error.minute)


class StoredEvents:
    """Turns rows that an import had refused, and kept, into events."""

    def __init__(self, pipeline: Pipeline, clock: datetime) -> None:
        self._columns = pipeline.columns
        self._judge = Judge(pipeline, clock)

    def read(self, payload: str, reason: str) -> Event:
        """The row as an event, or NotAdmitted with its newest reason: `reason` where there is nothing new to say."""
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
        values = {name: texts[name] for name in self._columns if texts.get(name)}
        return self._judge.admit(texts.get("create_time", ""), values)


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
    if "create_time" not in header or not known:
        needed = "create_time" if "create_time" not in header else f"any of {', '.join(pipeline.columns)}"
        raise FileRefused(
            f"{path}: it has no column {needed}, which pipeline {pipeline.name} needs. Its header names "
            f"{', '.join(header)[:500]}. The first line must name the columns, separated by commas."
        )
    ignored = tuple(column for column in header if column not in ("create_time", *known))
    return ignored, tuple(column for column in pipeline.columns if column not in known)
