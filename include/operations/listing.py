"""Rows as a person or a program reads them on standard output: a plain table, or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

FORMATS = ("table", "json")


class FormatRefused(ValueError):
    """A FORMAT= that there is not."""


def checked_format(form: str) -> str:
    """The format, or FormatRefused naming those there are."""
    if form not in FORMATS:
        raise FormatRefused(f"FORMAT={form} is unknown: choose one of {', '.join(FORMATS)}.")
    return form


def table(rows: Sequence[Mapping[str, object]], columns: Mapping[str, str]) -> list[str]:
    """One line for the titles and one for each row; `columns` is key to title. The last column is as long as it is."""
    cells = [list(columns.values())] + [[cell(row[key]) for key in columns] for row in rows]
    widths = [max(len(line[number]) for line in cells) for number in range(len(columns) - 1)]
    return [
        "  ".join([*(text.ljust(width) for text, width in zip(line, widths, strict=False)), line[-1]]).rstrip()
        for line in cells
    ]


def cell(value: object) -> str:
    """On one line; times without microseconds, and without seconds where there are none."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}" if value.second or value.microsecond else f"{value:%Y-%m-%d %H:%M}"
    return f"{value:,}" if isinstance(value, int) else " ".join(str(value).split())


def as_json(rows: Iterable[Mapping[str, object]]) -> str:
    return json.dumps(list(rows), default=str, ensure_ascii=False, indent=1)
