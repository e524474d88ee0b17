"""How the text of a file is written: its encoding, and a CSV dialect or JSON lines. Recognized, or given by the user."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from include import readings
from include.files.compressed_file import FileRefused

MARKS = "lake.marks"  # error handler: turns a byte that is not in the encoding into a lone surrogate, which no text has
_LONGEST_HEADER = 100_000  # characters that determine the delimiter; csv accepts 131,072 in a cell
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
_KINDS = {"csv": False, "jsonl": True}
_QUOTES = {"doubled": False, "backslash": True}
_BYTE_ORDER_MARKS = (  # UTF-32 before UTF-16, because its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_EXCELS_FIRST_LINE = re.compile(r"sep=([,;\t|])[\r\n]")


@dataclass(frozen=True)
class FileFormat:
    """What is known about a file's text; None means that it must be recognized."""

    encoding: str | None = None  # as Python names it
    is_json: bool | None = None  # lines, each a JSON object; else CSV
    delimiter: str | None = None
    backslash: bool | None = None  # before quotes inside quotes; else quotes are doubled

    def __str__(self) -> str:
        encoding = self.encoding.upper()
        if self.is_json:
            return f"{encoding}, JSON lines"
        name = next(name for name, character in DELIMITERS.items() if character == self.delimiter)
        quotes = ", quotes escaped by a backslash" if self.backslash else ""
        return f"{encoding}, CSV with {name}s{quotes}"

    @property
    def dialect(self) -> dict[str, Any]:
        """The options of csv.reader. Strict: a lenient reader would silently read the lines after a stray quote as one value."""
        # A doubled quote has one meaning in both dialects; a space after a delimiter is not part of a value.
        escape = "\\" if self.backslash else None
        return {"delimiter": self.delimiter, "escapechar": escape, "skipinitialspace": True, "strict": True}


def format_from_options(encoding: str = "", words: str = "") -> FileFormat:
    """The format that the options `encoding` and `format` describe. Raises FileRefused."""
    file_format = FileFormat()
    if encoding:
        try:
            file_format = replace(file_format, encoding=codecs.lookup(encoding).name)
            # Python also has encodings that are not for text, and some that cannot be read in pieces.
            io.TextIOWrapper(io.BytesIO(b"\xff\xfe\0\0.\0\0\0"), file_format.encoding, errors=MARKS).read()
        except (LookupError, UnicodeError):
            raise FileRefused(
                f"Encoding {encoding!r} is unknown, or is not a text encoding: use one such as utf-8, cp1252 or utf-16."
            ) from None
    for word in filter(None, re.split(r"[,\s]+", words.lower())):
        for values, name in ((_KINDS, "is_json"), (DELIMITERS, "delimiter"), (_QUOTES, "backslash")):
            if word in values:
                file_format = replace(file_format, **{name: values[word]})
                break
        else:
            known = ", ".join([*_KINDS, *DELIMITERS, *_QUOTES])
            raise FileRefused(f"`format` is {words!r}: use words from {known}, such as csv,semicolon,backslash.")
    if file_format.is_json is None and (file_format.delimiter or file_format.backslash is not None):
        file_format = replace(file_format, is_json=False)
    return file_format


def _mark_bytes(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(MARKS, _mark_bytes)


def with_encoding(path: Path, stated_format: FileFormat, sample: bytes) -> tuple[FileFormat, int]:
    """The format with its encoding, and how many bytes its byte order mark takes. A mark overrides the given encoding.

    Raises FileRefused.
    """
    for mark, encoding in _BYTE_ORDER_MARKS:
        if sample.startswith(mark):
            return replace(stated_format, encoding=encoding), len(mark)
    if stated_format.encoding in ("utf-16", "utf-32"):
        raise FileRefused(
            f"{path}: it has no byte order mark, which {stated_format.encoding.upper()} needs. "
            f"Set `encoding` to {stated_format.encoding}-le or {stated_format.encoding}-be."
        )
    return replace(stated_format, encoding=stated_format.encoding or "utf-8"), 0


def detect_format(
    stated_format: FileFormat, sample: str, names: Collection[str], count_broken: Callable[[FileFormat, str], int]
) -> FileFormat:
    """The format of a text that begins with `sample`; its columns are probably some of `names`.

    `count_broken` returns how many records of a sample are broken in a format.
    """
    is_json = (
        sample.lstrip(readings.WHITE_SPACE).startswith("{") if stated_format.is_json is None else stated_format.is_json
    )
    if is_json:
        return replace(stated_format, is_json=True)
    file_format = replace(stated_format, is_json=False, delimiter=stated_format.delimiter or _delimiter(sample, names))
    if file_format.backslash is None:
        with_doubled, with_backslash = replace(file_format, backslash=False), replace(file_format, backslash=True)
        is_escaped = '\\"' in sample and count_broken(with_backslash, sample) < count_broken(with_doubled, sample)
        file_format = with_backslash if is_escaped else with_doubled
    return file_format


def excel_delimiter(sample: str) -> str | None:
    """The delimiter that a first line such as `sep=;` declares for Excel; None without one."""
    match = _EXCELS_FIRST_LINE.match(sample)
    return match[1] if match else None


def _delimiter(sample: str, names: Collection[str]) -> str:
    """The delimiter that gives the header the most known columns, and then the most columns."""
    if first := excel_delimiter(sample):
        return first
    header = re.split(r"[\r\n]", sample, maxsplit=1)[0]
    known = {name.casefold() for name in names}

    def columns(delimiter: str) -> tuple[int, int]:
        first = next(csv.reader([header[:_LONGEST_HEADER]], delimiter=delimiter, skipinitialspace=True), [])
        return len(known & {text.casefold() for name in first if (text := readings.text(name))}), len(first)

    return max(DELIMITERS.values(), key=columns)


def known_column_names(header: Collection[str], names: Collection[str]) -> list[str]:
    """The header's columns: known ones by their known names, whatever their case and white space, others unchanged."""
    texts = [readings.text(name, ()) or "" for name in header]
    names_as_given = set(texts)
    by_case = {name.casefold(): name for name in names}
    matches = ((text, by_case.get(text.casefold(), text)) for text in texts)
    return [text if text in names or match in names_as_given else match for text, match in matches]
