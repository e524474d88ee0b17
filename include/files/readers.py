"""Turns records of a file, rows of a flat table and stored rejected rows into events, or into rejected rows."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from include.errors import MinutemarkError
from include.files.flat_table import FlatRow
from include.files.record_files import FileRefused, Record
from include.lake.admission import NotAdmitted, Refused, RowValidator, content_id, line_payload, needs_content_id
from include.lake.json_objects import id_fields
from include.lake.payload import NotAnObject, parsed
from include.lake.writer import Event
from include.pipelines import Pipeline
from include.pipelines.declaration import OCCURRENCE

_OCCURRENCE = re.compile("[0-9]{1,18}")
_COLUMNS_SHOWN, _EXPECTED_SHOWN = 50, 12
_FIRST_REASON = "; refused first for: "  # in stored reasons, so it must not change


class CsvEvents:
    """Turns records of one CSV into events."""

    def __init__(self, header: list[str], pipeline: Pipeline, clock: datetime) -> None:
        self._header, self._pipeline = header, pipeline
        self._validator = RowValidator(pipeline, clock)

    def read(self, record: Record) -> Event | Refused:
        if record.problem:
            return self.refused(record, f"line {record.line} is not a record: {record.problem}")
        values = dict(zip(self._header, record.fields, strict=True))
        try:
            return self._validator.admit(values, content=record.content_id)
        except NotAdmitted as error:
            return self.refused(record, str(error), error.minute)

    def refused(self, record: Record, reason: str, minute: datetime | None = None) -> Refused:
        """The record as a rejected row; its payload includes which of several equal records it is, for StoredEvents."""
        if record.problem:
            return Refused(str(record.line), reason, line_payload(record.fields[0]), minute)
        row = dict(zip(self._header, record.fields, strict=True))
        if record.occurrence:
            row[OCCURRENCE] = str(record.occurrence)
        return Refused(str(record.line), reason, payload_of(row), minute)

    def fields_without_id(self, record: Record) -> dict[str, str] | None:
        """The fields of a record without an id, from which its id is computed; None for a record that has one."""
        if record.problem:
            return None
        values = dict(zip(self._header, record.fields, strict=True))
        return values if needs_content_id(self._pipeline, values) else None


class TemporaryFileFailed(MinutemarkError):
    """The counts of equal rows cannot be written, for example because the disk is full."""


class Occurrences:
    """Gives each record without an id its content_id, which depends on the number of equal records before it.

    Use as a context manager. `fields_without_id` is that method of CsvEvents or JsonLineEvents. Beyond 64 MB, the counts are
    kept in a temporary file: a history may have more rows than fit in memory.
    """

    def __init__(
        self, fields_without_id: Callable[[Record], Mapping[str, str | None] | None], pipeline: Pipeline
    ) -> None:
        self._fields_without_id, self._pipeline = fields_without_id, pipeline
        # An empty name makes a temporary database on disk, which is deleted with the connection.
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
            values = self._fields_without_id(record)
            if values is None:
                yield record
                continue
            first_id = content_id(self._pipeline, values)
            occurrence = self._count(first_id)
            content = content_id(self._pipeline, values, occurrence) if occurrence else first_id
            yield Record(record.line, record.end_line, record.fields, None, content, occurrence)

    def _count(self, content: str) -> int:
        """Count this record; returns the number of equal ones before it."""
        # 60 bits: if two different rows share them by chance, the second merely gets an id as if it repeated the first.
        key = int(content[-12:] + content[:3], 16)
        try:
            if self._counts.execute("INSERT OR IGNORE INTO seen VALUES (?, 1)", (key,)).rowcount:
                return 0
            (occurrence,) = self._counts.execute("SELECT times FROM seen WHERE content = ?", (key,)).fetchone()
            self._counts.execute("UPDATE seen SET times = times + 1 WHERE content = ?", (key,))
        except sqlite3.OperationalError as error:
            raise TemporaryFileFailed(
                f"The temporary file that counts equal rows without ids cannot be written: {error}. Free disk space in the "
                "temporary folder, or set SQLITE_TMPDIR to a folder with more space, then run the same command again to resume."
            ) from error
        return occurrence


class TableEvents:
    """Turns rows of a flat table into events."""

    def __init__(self, pipeline: Pipeline, clock: datetime) -> None:
        self._validator = RowValidator(pipeline, clock)
        self._id_fields = id_fields(pipeline)

    def read(self, row: FlatRow) -> Event | Refused:
        values, text = {"create_time": row.create_time, **row.values}, None
        try:
            if row.payload is not None:
                fields, text = _object(row.payload)
                values = {**fields, **self._id_fields.read(text)[0], **values}
            return self._validator.admit(values, text=text)
        except NotAdmitted as error:
            return Refused(row.create_time, str(error), row.payload or payload_of(values), error.minute)


class StoredEvents:
    """Turns stored rows that an import or ingest rejected into events."""

    def __init__(self, pipeline: Pipeline, clock: datetime) -> None:
        self._pipeline = pipeline
        self._validator = RowValidator(pipeline, clock)
        self._id_fields = id_fields(pipeline)

    def read(self, payload: str, reason: str) -> Event:
        """Parse a stored row. Raises NotAdmitted with the rule that still refuses it, or with the stored `reason`."""
        try:
            texts, payload = parsed(payload)
        except NotAnObject as error:
            raise NotAdmitted(_not_json_reason(str(error), reason)) from None
        if texts.keys() == {"line"} and "line" not in self._pipeline.fields:
            raise NotAdmitted(reason)  # a line that was not a record, without the header of its file
        occurrence = texts.pop(OCCURRENCE, None) or ""
        content = content_id(self._pipeline, texts, int(occurrence)) if _OCCURRENCE.fullmatch(occurrence) else None
        values = {**texts, **self._id_fields.read(payload)[0]}
        return self._validator.admit(values, content=content, text=None if occurrence else payload)


def _object(text: str) -> tuple[dict[str, str | None], str]:
    try:
        return parsed(text)
    except NotAnObject as error:
        raise NotAdmitted(f"its payload {error}") from None


def _not_json_reason(problem: str, reason: str) -> str:
    """The reason for a payload that is not JSON, such as a truncated one. Keeps the first reason."""
    first = reason.partition(_FIRST_REASON)[2] or reason
    return f"its stored payload {problem}{_FIRST_REASON}{first}"


def payload_of(values: Mapping[str, str | None]) -> str:
    """The raw row as JSON, without empty values."""
    return json.dumps({name: value for name, value in values.items() if value}, ensure_ascii=False)


def names_of(pipeline: Pipeline) -> tuple[str, ...]:
    """The columns that the pipeline knows in a file of its events. Others are kept as undeclared fields."""
    return tuple(dict.fromkeys(("create_time", pipeline.event_id, *pipeline.fields)))


def check_header(path: Path, header: list[str], pipeline: Pipeline) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the unknown columns and the missing ones. Raises FileRefused if the file cannot hold this pipeline's events."""
    if not header:  # JSON lines whose first lines could not be read
        return (), ()
    known = [column for column in header if column in pipeline.fields]
    time_columns = [name for name in ("create_time", pipeline.event_time) if name]
    has_time = any(name in header for name in time_columns)
    if not has_time or not known:
        needed = " or ".join(pipeline.fields if has_time else time_columns)
        raise FileRefused(
            f"{path}: it has no column {needed}, which pipeline {pipeline.name} needs. "
            + (
                _other_case(header, names_of(pipeline))
                or "The first line of a CSV must name the columns, "
                f"such as {', '.join(names_of(pipeline)[:_EXPECTED_SHOWN])}."
            )
        )
    unknown = tuple(column for column in header if column not in names_of(pipeline))
    absent = (name for name in pipeline.fields if name not in known and name != pipeline.event_id)
    return unknown, tuple(absent)


def column_lines(source: str, unknown: Sequence[str], missing: Sequence[str]) -> list[str]:
    """Lines of a summary about the columns of a file or another source, as check_header found them.

    `source` is the word by which the lines name it: `file` or `source`.
    """
    lines = []
    if missing:
        lines.append(f"Columns that the {source} does not have: {_list_text(missing)}.")
    if unknown:
        lines.append(
            f"Columns of the {source} that the pipeline does not declare, kept with each event: {_list_text(unknown)}."
        )
    if other_case := _other_case(unknown, missing):
        lines.append(other_case)
    return lines


def _other_case(names: Iterable[str], declared: Iterable[str]) -> str | None:
    """A sentence if some of the names are declared in another case. CSV headers were already matched regardless of case."""
    by_case = {name.casefold(): name for name in declared}
    close_names = [
        f"{name} is not {by_case[name.casefold()]}" for name in names if by_case.get(name.casefold(), name) != name
    ]
    return f"Names in JSON are matched exactly: {_list_text(close_names)}." if close_names else None


def _list_text(columns: Sequence[str]) -> str:
    more = len(columns) - _COLUMNS_SHOWN
    return ", ".join(columns[:_COLUMNS_SHOWN]) + (f" and {more} more" if more > 0 else "")
