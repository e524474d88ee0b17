"""Reads a CSV of any size into records, whole or broken: a broken line costs that line, never the rest of the file."""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import hashlib
import io
import zipfile
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, TextIO

LONGEST_VALUE = 2 * 1024 * 1024  # characters; also where a quote that is never closed stops swallowing lines
_CHUNK = 1024 * 1024


class FileRefused(ValueError):
    """A file that cannot be imported as it is; nothing of it was written."""


class Record(NamedTuple):
    """One record, or a line that is none and the problem with it."""

    line: int  # the physical line where it begins, counted from 1
    end_line: int
    fields: list[str]  # of a broken record: the raw line alone
    problem: str | None = None
    content: str | None = None  # the id that it has by what it says, where it names none
    occurrence: int = 0  # equal records of the file before it


@dataclass(frozen=True)
class CsvFile:
    """An open CSV; `position()` is how many bytes of the (packed) file are read."""

    header: list[str]
    position: Callable[[], int]
    _lines: _Lines

    def records(self, after_line: int = 0) -> Iterator[Record]:
        """The records behind that line, once."""
        self._lines.skip_to(after_line)
        return _records(self._lines, len(self.header))


def fingerprint(path: Path, encoding: str, on_bytes: Callable[[int], object] = lambda position: None) -> str:
    """SHA-256 of the content, unpacked. Raises FileRefused where the file is absent, damaged or in another encoding."""
    decoder = _decoder(encoding)
    digest, line = hashlib.sha256(), 1
    with _opened(path) as (content, position):
        while True:
            chunk = _read(path, content)
            digest.update(chunk)
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                line += error.object[: error.start].count(b"\n")
                found = error.object[error.start : error.start + 4].hex(" ")
                raise FileRefused(
                    f"{path}: line {line} is not {encoding} (bytes {found}). Give its encoding (ENCODING=cp1252, …), "
                    f"or convert it: iconv -f <its encoding> -t utf-8 {path.name} > converted.csv"
                ) from None
            if not chunk:
                return digest.hexdigest()
            line += chunk.count(b"\n")
            on_bytes(position())


@contextlib.contextmanager
def csv_records(path: Path, encoding: str) -> Iterator[CsvFile]:
    """The file, open, behind its header."""
    with _opened(path) as (content, position):
        text = io.TextIOWrapper(content, encoding=_codec(encoding), newline="")
        lines = _Lines(text)
        yield CsvFile(_header(path, lines), position, lines)


def _records(lines: _Lines, width: int) -> Iterator[Record]:
    # strict: a stray quote is an error here, where a lenient reader would silently swallow the following lines
    reader = csv.reader(lines, strict=True)
    csv.field_size_limit(LONGEST_VALUE)
    while True:
        lines.taken.clear()
        begun = lines.number + 1
        try:
            fields = next(reader)
            problem = None if len(fields) == width else f"it has {len(fields)} fields, the header has {width}"
        except StopIteration:
            return
        except csv.Error as error:
            fields, problem = None, str(error)
        if fields == []:  # a blank line
            continue
        if problem is None:
            yield Record(begun, lines.number, fields)
        else:
            # Only its first line is given up: the others may be whole records that a stray quote swallowed.
            yield Record(begun, begun, [lines.give_back_all_but_first()], problem)


def _header(path: Path, lines: _Lines) -> list[str]:
    csv.field_size_limit(LONGEST_VALUE)
    try:
        header = [name.strip() for name in next(csv.reader(lines, strict=True), [])]
    except csv.Error as error:
        raise FileRefused(
            f"{path}: the header cannot be read ({error}). The first line must name the columns."
        ) from None
    if not any(header):
        raise FileRefused(f"{path}: it is empty, or its first line is. The first line must name the columns.")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise FileRefused(f"{path}: the header names {', '.join(twice)} more than once. Rename or remove the others.")
    return header


class _Lines:
    """The physical lines of a text, with those of the record being read at hand, to give them back."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._returned: deque[str] = deque()
        self.taken: list[str] = []
        self.number = 0  # of the last line handed out

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else next(self._text)
        self.number += 1
        self.taken.append(line)
        return line

    def skip_to(self, number: int) -> None:
        while self.number < number and next(self._text, None) is not None:
            self.number += 1

    def give_back_all_but_first(self) -> str:
        first, *others = self.taken
        self._returned.extendleft(reversed(others))
        self.number -= len(others)
        return first


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, Callable[[], int]]]:
    """The unpacked content, and how far in the packed file the reader is."""
    if not path.exists():
        raise FileRefused(f"{path}: there is no such file (looked in {path.absolute().parent}).")
    if not path.is_file():
        raise FileRefused(f"{path}: this is not a file. Name one CSV file (.csv, .csv.gz or .zip).")
    try:
        raw = path.open("rb")
    except OSError as error:
        raise FileRefused(f"{path}: it cannot be opened ({error.strerror}).") from error
    with contextlib.ExitStack() as stack:
        stack.enter_context(raw)
        if path.suffix == ".gz":
            yield stack.enter_context(gzip.GzipFile(fileobj=raw)), raw.tell
        elif path.suffix == ".zip":
            yield stack.enter_context(_only_member(path, raw, stack)), raw.tell
        else:
            yield raw, raw.tell


def _only_member(path: Path, raw: BinaryIO, stack: contextlib.ExitStack) -> BinaryIO:
    try:
        archive = stack.enter_context(zipfile.ZipFile(raw))
    except zipfile.BadZipFile as error:
        raise FileRefused(f"{path}: it is not a zip archive ({error}).") from error
    members = [member for member in archive.namelist() if not member.endswith("/")]
    if len(members) != 1:
        raise FileRefused(f"{path}: it holds {len(members)} files. Pack one CSV file, or unpack it and import each.")
    return archive.open(members[0])


def _read(path: Path, content: BinaryIO) -> bytes:
    try:
        return content.read(_CHUNK)
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise FileRefused(
            f"{path}: it cannot be unpacked ({error}). Fetch it again: it looks cut off or damaged."
        ) from error


def _codec(encoding: str) -> str:
    """utf-8 with or without a byte order mark."""
    return "utf-8-sig" if encoding.lower().replace("_", "-") in {"utf-8", "utf8"} else encoding


def _decoder(encoding: str) -> codecs.IncrementalDecoder:
    try:
        return codecs.getincrementaldecoder(_codec(encoding))()
    except LookupError:
        raise FileRefused(
            f"There is no encoding {encoding!r}: use one that Python knows, such as utf-8, cp1252 or utf-16."
        ) from None
