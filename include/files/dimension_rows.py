"""Turns the records of a file into typed rows of a dimension: the types are those of its columns in the warehouse."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple, TypeVar

from include import readings
from include.durations import EPOCH, SECOND
from include.errors import MinutemarkError
from include.files.record_files import Record, RecordFile
from include.lake.admission import Refused, line_payload
from include.lake.payload import NotAnObject, parsed
from include.pipelines import Dimension, Pipeline, all_pipelines
from include.pipelines.declaration import NULL_WORDS
from include.warehouse.errors import WarehouseError
from include.warehouse.statements import Statements

sql = Statements(__file__)


class UnknownDimension(MinutemarkError):
    """A dimension that no pipeline, or more than one, declares."""


def dimension_of(name: str, pipeline: Pipeline | None = None) -> tuple[Pipeline, Dimension]:
    """The dimension of that name, and its pipeline. Raises UnknownDimension, which lists the declared ones."""
    owners = [pipeline] if pipeline else list(all_pipelines().values())
    declared = [(owner, dimension) for owner in owners for dimension in owner.dimensions]
    candidates = [(owner, dimension) for owner, dimension in declared if dimension.name == name]
    if len(candidates) == 1:
        return candidates[0]
    known = ", ".join(f"{dimension.name} (pipeline {owner.name})" for owner, dimension in declared) or "none"
    if candidates:
        raise UnknownDimension(
            f"More than one pipeline has a table {name!r}: also set `pipeline`. Declared tables: {known}."
        )
    raise UnknownDimension(f"Unknown table {name!r}. Declared tables: {known}.")


def typed_rows(
    conn,
    dimension: Dimension,
    file: RecordFile,
    records: Iterable[Record],
    refused: list[Refused],
    unreadable: list[str],
    null_words: Collection[str] = NULL_WORDS,
) -> Iterator[dict[str, object]]:
    """One dict of column to value for each record of the file; an empty string or a null word is None.

    A number, time or text that its column cannot hold is None, too, and listed in `unreadable`. Records that are broken
    or have no usable key are added to `refused`.
    """
    readers = _readers(conn, dimension)
    texts_of = _json_texts(dimension) if file.format.is_json else _csv_texts(dimension, file.header)
    for record in records:
        try:
            if record.problem:
                raise ValueError(f"line {record.line} is not a record: {record.problem}")
            texts = texts_of(record)
        except ValueError as error:
            refused.append(Refused(str(record.line), str(error), line_payload(record.fields[0])))
            continue
        row, problems = {}, {}
        for column, text in texts.items():
            try:
                row[column] = _convert(column, text, readers[column], null_words)
            except ValueError as error:
                row[column], problems[column] = None, str(error)
        if row[dimension.key] is None:
            reason = problems.get(dimension.key, f"{dimension.key} is empty")
            refused.append(Refused(str(record.line), reason, json.dumps(texts, ensure_ascii=False)))
            continue
        unreadable += [f"line {record.line}: {problem}" for problem in problems.values()]
        yield row


def _csv_texts(dimension: Dimension, header: list[str]) -> Callable[[Record], dict[str, str | None]]:
    positions = {column: header.index(column) for column in dimension.columns}
    return lambda record: {column: record.fields[position] for column, position in positions.items()}


def _json_texts(dimension: Dimension) -> Callable[[Record], dict[str, str | None]]:
    def read(record: Record) -> dict[str, str | None]:
        try:
            fields, _ = parsed(record.fields[0])
        except NotAnObject as error:
            raise ValueError(f"the line {error}") from None
        return {column: fields.get(column) for column in dimension.columns}

    return read


def _readers(conn, dimension: Dimension) -> dict[str, Callable[[str], object]]:
    database, table = dimension.table.split(".")
    cursor = conn.cursor()
    cursor.execute(sql("columns"), {"database": database, "table": table})
    readers = {column.name: _reader(column) for column in map(_Column._make, cursor.fetchall())}
    cursor.close()
    absent = [column for column in dimension.columns if column not in readers]
    if absent:
        raise WarehouseError(
            f"The warehouse's {dimension.table} has no column {', '.join(absent)}: run the set-up (`./minutemark schema`)."
        )
    return readers


def _convert(column: str, text: str | None, read: Callable[[str], object], null_words: Collection[str]) -> object:
    value = readings.text(text, null_words)
    if value is None:
        return None
    try:
        return read(value)
    except ValueError as error:
        raise ValueError(f"{column} {value[:60]!r} {error}") from None


class _Column(NamedTuple):
    """A column, as the server describes it."""

    name: str
    kind: str
    definition: str  # such as `decimal(5,2) unsigned`
    characters: int | None  # of a text
    octets: int | None  # of a text
    precision: int | None  # digits of a number
    scale: int | None  # digits after its decimal point


def _reader(column: _Column) -> Callable[[str], object]:
    if column.kind in _WHOLE_BITS:
        return lambda text: _whole_number(text, column)
    if column.kind in ("decimal", "double", "float"):
        return lambda text: _number(text, column)
    if column.kind == "timestamp":
        return _timestamp
    if column.kind == "datetime":
        return _time
    if column.kind == "date":
        return _date
    return lambda text: _text(text, column)


_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_WHOLE_BITS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}
_LAST_TIMESTAMP = datetime(2038, 1, 19, 3, 14, 7)
_BY_CHARACTERS = ("char", "varchar")  # the limit of other texts, and of binary columns, is in bytes
_DOES_NOT_FIT = "does not fit in its column"


T = TypeVar("T")


def _require(value: T | None, problem: str) -> T:
    if value is None:
        raise ValueError(problem)
    return value


def _whole_number(text: str, column: _Column) -> int:
    """Reads 12, and also 12.0, which spreadsheets write."""
    number = _require(readings.whole_number(text), "is not a whole number")
    size = 2 ** _WHOLE_BITS[column.kind]
    first = 0 if "unsigned" in column.definition else -size // 2
    if not first <= number < first + size:
        raise ValueError(_DOES_NOT_FIT)
    return number


def _number(text: str, column: _Column) -> Decimal:
    number = _require(readings.amount(text), "is not a number")
    precision, scale = column.precision, column.scale  # a DOUBLE has no scale
    if (number < 0 and "unsigned" in column.definition) or (
        precision is not None
        and scale is not None
        and abs(readings.rounded(number, scale)) >= 10 ** (precision - scale)
    ):
        raise ValueError(_DOES_NOT_FIT)
    return number


def _time(text: str) -> datetime:
    """Read a date without a time as midnight, as exporters and servers do."""
    instant_text = f"{text} 00:00:00" if _DAY.fullmatch(text) else text
    return _require(readings.instant(instant_text), "is not a time such as 2026-11-22 14:05:00")


def _timestamp(text: str) -> datetime:
    time = _time(text)
    if not EPOCH + SECOND <= time <= _LAST_TIMESTAMP:
        raise ValueError(_DOES_NOT_FIT)
    return time


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return _require(readings.instant(text), "is not a date such as 2026-11-22").date()


def _text(text: str, column: _Column) -> str:
    if column.characters is not None and len(text) > column.characters:
        raise ValueError(f"is longer than {column.characters} characters")
    if column.kind not in _BY_CHARACTERS and column.octets is not None and len(text.encode()) > column.octets:
        raise ValueError(f"is longer than {column.octets} bytes")
    return text
