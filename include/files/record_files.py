"""Reads a file of any size, CSV or JSON lines, into records, whole or broken.

A broken line costs only that line, not the rest of the file, and memory is bounded whatever a line holds.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import hashlib
import io
import itertools
import json
import re
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TextIO

from include.files import file_format as formats
from include.files.compressed_file import PEEK, Compression, Damage, FileDamaged, FileRefused, decompressed
from include.files.file_format import FileFormat

__all__ = ["RecordFile", "FileRefused", "Fingerprint", "Record", "open_records", "fingerprint"]

LONGEST_VALUE = 2 * 1024 * 1024  # characters; also where a quote that is never closed stops swallowing lines
LONGEST_RECORD = 5_000_000  # characters, quotes included: the lake refuses an event of more than 4,000,000 bytes
_LINE_COSTS = 64  # bytes in addition to its characters: a record of many short lines takes memory, too
_KEPT_CHARACTERS = 10_000  # of a line that is too long
_CHUNK = 1024 * 1024
_PIECE = 64 * 1024  # characters read at a time from a longer line
_BATCH = 100  # lines
_BLANK_LINES = re.compile(r"(?:[ \t]*[\r\n])*")
_MARK = re.compile("[\udc00-\udcff]")
_LONE_BACKSLASH = re.compile(r'\\(["\\])|\\')


class Record(NamedTuple):
    """One record, or a line that is not a record, with the problem."""

    line: int  # the physical line where it begins, counted from 1
    end_line: int
    fields: list[str]  # of a broken record, and of JSON lines: only the line
    problem: str | None = None
    content_id: str | None = None  # the id computed from its content, if the record has no id
    occurrence: int = 0  # number of equal records before it in the file


@dataclass(frozen=True)
class RecordFile:
    """An open file; `position()` returns how many bytes of the (compressed) file have been read."""

    header: list[str]  # of JSON lines: the fields of the first lines, if they could be read
    format: FileFormat
    compression: Compression
    position: Callable[[], int]
    _lines: _Lines
    _columns: _Columns | None

    @property
    def description(self) -> str:
        """Its compression and format, as text."""
        return ", ".join([*self.compression.layers, str(self.format)])

    def records(self) -> Iterator[Record]:
        """The records; can be read once."""
        if self._columns is None:
            return _json_records(self._lines)
        return _records(self._lines, self.format, self._columns)


class Fingerprint(NamedTuple):
    """The content of a file, and where it is damaged."""

    digest: str
    damage: Damage | None


def fingerprint(path: Path, on_bytes: Callable[[int], object] = lambda position: None) -> Fingerprint:
    """SHA-256 of the decompressed content, and the damage if some bytes before it are intact.

    Raises FileRefused if the file is absent, unsupported, or damaged without intact bytes before the damage.
    """
    digest, damage = hashlib.sha256(), None
    try:
        with decompressed(path) as (content, _, position):
            while chunk := content.read1(_CHUNK):
                digest.update(chunk)
                on_bytes(position())
    except FileDamaged as error:
        if not error.damage.intact_bytes:
            raise
        damage = error.damage
    return Fingerprint(digest.hexdigest(), damage)


@contextlib.contextmanager
def open_records(
    path: Path,
    names: Collection[str],
    stated_format: FileFormat = FileFormat(),  # noqa: B008
    damage: Damage | None = None,
) -> Iterator[RecordFile]:
    """Open the file and read its header. `names` are the columns that it may have; `stated_format` is what the user states.

    With the `damage` that `fingerprint` found, the records end with the last whole line before it.
    """
    with decompressed(path, damage) as (content, compression, position):
        head = content.peek()
        file_format, mark = formats.with_encoding(path, stated_format, head)
        content.read(mark)
        sample = _sample(head[mark:], file_format.encoding)  # ty: ignore[invalid-argument-type]  # with_encoding sets it
        if damage and not re.search(r"[\r\n]", sample):
            raise FileDamaged(path, damage)
        blank = _BLANK_LINES.match(sample)[0]  # ty: ignore[not-subscriptable]  # always matches, if only the empty string
        sample = sample[len(blank) :]
        _check_text(path, sample)
        file_format = formats.detect_format(file_format, sample, names, _count_broken)
        # Python's own handler has the same effect as MARKS, and is faster.
        errors = "surrogateescape" if file_format.encoding == "utf-8" else formats.MARKS
        lines = _Lines(
            io.TextIOWrapper(content, encoding=file_format.encoding, errors=errors, newline=""),
            file_format,
            is_truncated=damage is not None,
        )
        lines.skip_to(len(re.findall(r"\r\n?|\n", blank)))
        if file_format.is_json:
            header, columns = _names_in(path, sample, is_whole=_is_whole(head)), None
        else:
            if formats.excel_delimiter(sample):
                lines.skip_to(lines.number + 1)
            columns = _header(path, lines, file_format, names)
            header = columns.names
        yield RecordFile(header, file_format, compression, position, lines, columns)


def _sample(head: bytes, encoding: str) -> str:
    """The first lines, without a truncated last line."""
    text = codecs.getincrementaldecoder(encoding)(formats.MARKS).decode(head)
    if _is_whole(head):
        return text
    return text[: text.rfind("\n") + 1] or text


def _is_whole(head: bytes) -> bool:
    """Whether the head is probably the whole file."""
    return len(head) < PEEK // 2


def _check_text(path: Path, sample: str) -> None:
    first = re.split(r"[\r\n]", sample, maxsplit=1)[0]
    if not first.strip():
        raise FileRefused(f"{path}: it is empty, or its first line is. The first line must name the columns.")
    if "\0" in first:
        raise FileRefused(
            f"{path}: its first line holds NUL characters. It is binary or UTF-16 without a byte order mark. "
            "If it is UTF-16, set `encoding` to utf-16-le or utf-16-be."
        )
    if first.lstrip().startswith("["):
        raise FileRefused(
            f"{path}: it begins with '[', as a JSON array does. Write one object per line (jq -c '.[]'), and import that."
        )


def _names_in(path: Path, sample: str, *, is_whole: bool) -> list[str]:
    """The fields that the first JSON lines have. Unless `is_whole`, the first line may be longer than the sample."""
    lines = [line for line in re.split(r"[\r\n]", sample) if line.strip()]  # other line separators belong to a value
    if lines[0].strip() == "{":
        raise FileRefused(
            f"{path}: it is JSON with objects that span several lines. Write one object per line (jq -c .)."
        )
    names: dict[str, None] = {}
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            if isinstance(fields := json.loads(line, parse_int=str), dict):
                names.update(dict.fromkeys(fields))
    if not names and is_whole:
        raise FileRefused(f"{path}: its first lines are not JSON objects. Write one object per line (jq -c .).")
    return list(names)


def _count_broken(file_format: FileFormat, sample: str) -> int:
    """How many records of the sample are broken in that format."""
    lines = _Lines(io.StringIO(sample, newline=""), file_format)
    try:
        width = len(next(csv.reader(lines, **file_format.dialect), []))
    except csv.Error:
        return len(sample)
    columns = _Columns([str(number) for number in range(width)])
    return sum(record.problem is not None for record in _records(lines, file_format, columns))


class _Columns:
    """Which cells of a record belong to columns that have names."""

    def __init__(self, header: list[str]) -> None:
        while header and not header[-1]:
            header = header[:-1]
        self._width = len(header)
        self._named = [position for position, name in enumerate(header) if name]
        self.names = [header[position] for position in self._named]
        self._all_named = len(self._named) == self._width

    def cells(self, fields: list[str]) -> list[str]:
        """The cells, in the order of `names`. Raises ValueError if their number differs, unless the additional ones are empty."""
        if len(fields) != self._width:
            if len(fields) < self._width or any(map(str.strip, fields[self._width :])):
                raise ValueError(f"it has {len(fields)} fields, but the header has {self._width}")
            fields = fields[: self._width]
        return fields if self._all_named else [fields[position] for position in self._named]


def _records(lines: _Lines, file_format: FileFormat, columns: _Columns) -> Iterator[Record]:
    reader = csv.reader(lines, **file_format.dialect)
    csv.field_size_limit(LONGEST_VALUE)
    while True:
        yield from _plain_records(lines, file_format, columns)
        lines.begin_record()
        first = lines.number + 1
        try:
            fields = next(reader)
            if _is_blank(fields):
                continue
            if lines.problem is None:
                yield Record(first, lines.number, columns.cells(fields))
                continue
            yield Record(first, lines.number, [_text_to_keep("".join(lines.taken))], lines.problem)
        except StopIteration:
            return
        except (csv.Error, ValueError) as error:
            # Only the record's first line is given up: the others may be whole records that a stray quote swallowed.
            line = lines.give_back_all_but_first()
            problem = lines.undecodable(line) or str(error)
            if '\\"' in line and not file_format.backslash:
                problem += '. If \\" stands for a quote, set `format` to backslash'
            yield Record(first, first, [_text_to_keep(line)], problem)


def _plain_records(lines: _Lines, file_format: FileFormat, columns: _Columns) -> Iterator[Record]:
    """The next records while each is one plain line; this takes half as long as reading them one by one."""
    while batch := lines.plain_batch():
        try:
            rows = list(csv.reader(batch, **file_format.dialect))
        except csv.Error:
            rows = []
        if len(rows) != len(batch):  # an error, or a value of several lines
            lines.return_batch(batch)
            return
        for number, fields in enumerate(rows, lines.number - len(batch) + 1):
            try:
                if not _is_blank(fields):
                    yield Record(number, number, columns.cells(fields))
            except ValueError as error:
                line = batch[number - lines.number - 1]
                yield Record(number, number, [_text_to_keep(line)], str(error))


def _is_blank(fields: list[str]) -> bool:
    """Whether the line contains only white space."""
    return not fields or (len(fields) == 1 and not fields[0].strip())


def _json_records(lines: _Lines) -> Iterator[Record]:
    while True:
        while batch := lines.plain_batch():
            for number, line in enumerate(batch, lines.number - len(batch) + 1):
                if line.strip():
                    yield Record(number, number, [line.rstrip("\r\n")])
        lines.begin_record()
        try:
            line = next(lines)
        except StopIteration:
            return
        except _TooLong as error:
            yield Record(lines.number, lines.number, [_text_to_keep(lines.taken[0])], str(error))
            continue
        if line.strip():
            text = line if lines.problem is None else _text_to_keep(line)
            yield Record(lines.number, lines.number, [text.rstrip("\r\n")], lines.problem)


def _text_to_keep(line: str) -> str:
    """The line as it is kept, or the beginning of a very long one; undecodable bytes become escapes such as \\xe9."""
    text = line if len(line) < LONGEST_RECORD // 2 else line[:_KEPT_CHARACTERS]
    return _MARK.sub(lambda match: f"\\x{ord(match[0]) - 0xDC00:02x}", text)


def _header(path: Path, lines: _Lines, file_format: FileFormat, names: Collection[str]) -> _Columns:
    csv.field_size_limit(LONGEST_VALUE)
    lines.begin_record()
    try:
        header = next(csv.reader(lines, **file_format.dialect), [])
    except (csv.Error, _TooLong) as error:
        raise FileRefused(
            f"{path}: the header cannot be read as {file_format} ({error}). The first line must name the columns."
        ) from None
    if lines.problem:
        raise FileRefused(f"{path}: its first line cannot be read: {lines.problem}.")
    columns = _Columns(formats.known_column_names(header, names))
    if not columns.names:
        raise FileRefused(f"{path}: its header names no columns. The first line must name the columns.")
    duplicates = sorted(name for name, times in Counter(columns.names).items() if times > 1)
    if duplicates:
        # An unknown name may be data, and is not quoted.
        known = ", ".join(name for name in duplicates if name in names) or "a column"
        raise FileRefused(f"{path}: the header names {known} more than once. Rename or remove the duplicates.")
    return columns


class _TooLong(ValueError):
    """A record beyond LONGEST_RECORD."""

    def __init__(self) -> None:
        super().__init__(f"it is longer than {LONGEST_RECORD} characters")


class _TruncatedLine(str):
    """The beginning of a line that is too long."""


class _Lines:
    """The physical lines of a text. Those of the record that is being read are kept, so that they can be given back."""

    def __init__(self, text: TextIO, file_format: FileFormat, *, is_truncated: bool = False) -> None:
        self._text, self._format, self._is_truncated = text, file_format, is_truncated
        self._returned: deque[str] = deque()
        self._pieces: deque[str] = deque()  # read, and not yet handed out
        self.number = 0  # of the last line handed out
        self.begin_record()

    def begin_record(self) -> None:
        self.taken: list[str] = []
        self.problem: str | None = None  # set if a byte is not in the encoding
        self._size = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else self._next()
        self.number += 1
        self.taken.append(line)
        self._size += len(line) + _LINE_COSTS
        if self._size > LONGEST_RECORD or isinstance(line, _TruncatedLine):
            raise _TooLong
        if not line.isascii():
            self.problem = self.problem or self.undecodable(line)
        if self._format.backslash and "\\" in line:
            # A backslash that escapes nothing stands for itself: \N and \n are kept, as the writers of such files intend.
            return _LONE_BACKSLASH.sub(lambda match: match[0] if match[1] else "\\\\", line)
        return line

    def undecodable(self, line: str) -> str | None:
        """The problem with the line's bytes, if some are not in the encoding."""
        mark = _MARK.search(line)
        return mark and (
            f"it has the byte {ord(mark[0]) - 0xDC00:02x}, which is not {self._format.encoding.upper()}. "
            "If the file has a different encoding, set `encoding` (such as cp1252)"
        )

    def plain_batch(self) -> list[str]:
        """Some whole lines that need no further treatment; empty if the next lines must be read one by one."""
        if self._returned or self._pieces:
            return []
        pieces = list(map(self._text.readline, itertools.repeat(_PIECE, _BATCH)))
        text = "".join(pieces)
        is_whole = text.count("\n") == _BATCH  # a piece has at most one line break, at its end
        has_marks = not text.isascii() and _MARK.search(text)
        if not is_whole or has_marks or (self._format.backslash and "\\" in text):
            self._pieces.extend(pieces)
            return []
        self.number += _BATCH
        return pieces

    def return_batch(self, batch: list[str]) -> None:
        """Take back the lines of plain_batch, so that they are read one by one."""
        self._pieces.extend(batch)
        self.number -= len(batch)

    def _next(self) -> str:
        line = self._piece()
        if not line.endswith(("\n", "\r")):
            line = self._join_pieces(line)
        if not line or (
            self._is_truncated and not line.endswith(("\n", "\r")) and not isinstance(line, _TruncatedLine)
        ):
            raise StopIteration
        return line

    def _join_pieces(self, line: str) -> str:
        """The line that begins with that piece, or only its beginning if it is too long."""
        pieces, size = [line], len(line)
        while (more := self._piece()) and size < LONGEST_RECORD:
            pieces.append(more)
            size += len(more)
            if more.endswith(("\n", "\r")):
                return "".join(pieces)
        if size < LONGEST_RECORD:
            return "".join(pieces)
        while more and not more.endswith(("\n", "\r")):
            more = self._piece()
        return _TruncatedLine(pieces[0][:_KEPT_CHARACTERS])

    def _piece(self) -> str:
        """The next line, or the next _PIECE characters of a long one."""
        piece = self._pieces.popleft() if self._pieces else self._text.readline(_PIECE)
        if len(piece) == _PIECE and piece.endswith("\r"):
            following = self._pieces.popleft() if self._pieces else self._text.readline(_PIECE)
            if following == "\n":
                return piece + following
            self._pieces.appendleft(following)
        return piece

    def skip_to(self, number: int) -> None:
        while self.number < number:
            try:
                self._next()
            except StopIteration:
                return
            self.number += 1

    def give_back_all_but_first(self) -> str:
        first_line, *other_lines = self.taken
        self._returned.extendleft(reversed(other_lines))
        self.number -= len(other_lines)
        return first_line
