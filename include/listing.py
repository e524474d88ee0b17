"""Formats results for people and for programs: as a table of groups, as tab-separated values, or as JSON."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any


@dataclass(frozen=True)
class Listing:
    """Rows for programs, and the groups of them that people read; str() is their table."""

    rows: Sequence[Mapping[str, object]]
    groups: Sequence[Mapping[str, object]]
    columns: Mapping[str, str]  # of the table: a group's key to the column's title
    empty: str  # the text if there are no rows
    details: Callable[[Mapping], Iterable[str]]  # lines below a group's row

    def __str__(self) -> str:
        if not self.groups:
            return self.empty
        titles, *lines = table(self.groups, self.columns)
        text = [titles]
        for line, group in zip(lines, self.groups, strict=True):
            text += [line, *(f"    {detail}" for detail in self.details(group))]
        return "\n".join(text)

    def in_format(self, name: str) -> str:
        """The text as `table`, or as `tsv`: a line for each group, with unrounded values as in JSON."""
        if name == "table":
            return str(self)
        return tsv(list(self.columns), ([group[key] for key in self.columns] for group in self.groups))

    def as_data(self) -> Sequence[Mapping[str, object]]:
        return self.rows


@dataclass(frozen=True)
class Rows:
    """Rows as a statement returned them; str() is their table."""

    names: Sequence[str]
    rows: Sequence[Sequence[object]]

    def __str__(self) -> str:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        grid = Table(*self.names, show_lines=False)
        for row in self.rows:
            grid.add_row(*(Text("NULL" if value is None else str(value)) for value in row))
        # In a pipe, the width does not depend on a terminal.
        console = Console(width=None if sys.stdout.isatty() else max(80, 24 * len(self.names)))
        with console.capture() as text:
            console.print(grid)
        return f"{text.get()}{len(self.rows)} row{'' if len(self.rows) == 1 else 's'}"

    def in_format(self, name: str) -> str:
        """The text as `table`, or as `tsv`: a line for each row."""
        return str(self) if name == "table" else tsv(self.names, self.rows)

    def as_data(self) -> Sequence[Mapping[str, object]]:
        names: list[str] = []
        for name in self.names:
            numbered = (f"{name}_{number}" for number in itertools.count(2))  # of equal names: minute, minute_2
            names.append(next(new for new in numbered if new not in {*names, *self.names}) if name in names else name)
        return [dict(zip(names, row, strict=True)) for row in self.rows]


def table(rows: Sequence[Mapping[str, object]], columns: Mapping[str, str]) -> list[str]:
    """One line for the titles and one for each row; `columns` is key to title. The last column is not padded."""
    cells = [list(columns.values())] + [[cell(row[key]) for key in columns] for row in rows]
    widths = [max(len(line[number]) for line in cells) for number in range(len(columns) - 1)]
    return [
        "  ".join([*(text.ljust(width) for text, width in zip(line, widths, strict=False)), line[-1]]).rstrip()
        for line in cells
    ]


def cell(value: object) -> str:
    """The value on one line; times without microseconds, and whole minutes without seconds."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}" if value.second or value.microsecond else f"{value:%Y-%m-%d %H:%M}"
    return f"{value:,}" if isinstance(value, int) else " ".join(str(value).split())


def tsv(names: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Tab-separated values, as MySQL's LOAD DATA reads them: NULL is \\N."""
    return "\n".join("\t".join(line) for line in [list(names), *([_escape(value) for value in row] for row in rows)])


def _escape(value: object) -> str:
    if value is None:
        return "\\N"
    return str(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


def as_json(result: object) -> str:
    """Any result of a command. Decimals are strings, so that they stay exact; times are as str() writes them."""
    return json.dumps(result, default=_to_plain_data, ensure_ascii=False, indent=1)


def _to_plain_data(value: Any) -> object:
    if hasattr(value, "as_data"):
        return value.as_data()
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, set | frozenset):
        return sorted(value)
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def without_numbers(text: str | None) -> str | None:
    """The text with N for each number, so that texts that differ only in numbers form one group."""
    return text and re.sub(r"\d[\d,.]*\d|\d", "N", text)


def common_text(texts: Sequence[str | None]) -> str | None:
    """The text of a group: the common text if all are equal, else the first one with N for each number."""
    return texts[0] if len(set(texts)) == 1 else without_numbers(texts[0])


def span(minutes: Iterable[date]) -> dict[str, object]:
    """First and last of a group's minutes, and how many there are."""
    group = list(minutes)
    return {"minutes": len(group), "first_minute": min(group), "last_minute": max(group)}
