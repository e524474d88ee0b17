"""Scans a file of events before it is used, and finds its damage, its times and its kinds of event.

A sample is chosen from this result: a share of every kind, the same rows every time, in memory that does not grow with the
file.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from include import readings
from include.files.compressed_file import Damage
from include.files.file_format import FileFormat
from include.files.readers import check_header, names_of
from include.files.record_files import Fingerprint, Record, RecordFile, fingerprint, open_records
from include.lake.admission import NotAdmitted, time_in
from include.lake.keys import NotATimeUUID, parse, time_of
from include.lake.payload import Fields, NotAnObject
from include.pipelines import Pipeline
from include.progress_log import Bar

Kind = str | None  # None: a line that is not a record
NO_KIND = ""  # the event names no kind, or one beyond the first _MAX_KINDS
_MAX_KINDS = 1_000  # kinds that are counted separately: a column of ids would fill the memory
_LONGEST_KIND = 100  # characters; kinds with the same beginning of this length count as one, for the same reason
_ROWS_PER_CHECK = 5_000


@dataclass
class Survey:
    """What a file holds. `first` and `last` are its earliest and latest readable time, in UTC, wherever they are in the file."""

    lines: int = 0
    first: datetime | None = None
    last: datetime | None = None
    kinds: Counter[Kind] = field(default_factory=Counter)  # rows

    def __str__(self) -> str:
        kinds = ", ".join(f"{rows:,} {self._name(kind)}" for kind, rows in self.kinds.most_common(10))
        others = f" and {len(self.kinds) - 10} more kinds" if len(self.kinds) > 10 else ""
        return f"{self.kinds.total():,} rows from {self.first} to {self.last} UTC: {kinds}{others}."

    def _name(self, kind: Kind) -> str:
        if kind is None:
            return "unreadable"
        no_kind = "without a kind" if len(self.kinds) < _MAX_KINDS else "without a kind or of other kinds"
        return kind[:60] or no_kind


class RecordPreview:
    """The time and the kind of a record, without validating the rest. Without a `header`, records are JSON lines."""

    def __init__(self, header: list[str] | None, pipeline: Pipeline) -> None:
        self._null_words = pipeline.null_words
        self._event_time = pipeline.event_time or ""
        names = ("create_time", self._event_time, pipeline.kind_column or "")
        self._json, self._line = (Fields(name for name in names if name) if header is None else None), None
        self._names = names
        self._places = [header.index(name) if header and name in header else None for name in names]
        self._last_text, self._last_time = "", None  # neighboring rows often have the same text

    def kind(self, record: Record) -> Kind:
        if record.problem:
            return None
        kind = readings.text(self._cell(record, 2), self._null_words) or NO_KIND
        return kind[:_LONGEST_KIND]

    def time(self, record: Record) -> datetime | None:
        """When the event happened, as admission reads it; None without a time, or with a year outside 1970 to 2100."""
        if record.problem:
            return None
        text = readings.text(self._cell(record, 0), self._null_words) or ""
        is_event_time = not text and bool(self._event_time)
        if is_event_time:
            text = self._cell(record, 1) or ""
        if text != self._last_text:
            self._last_text, self._last_time = text, self._read(text, is_event_time)
        return self._last_time

    def _cell(self, record: Record, number: int) -> str | None:
        if self._json is None:
            place = self._places[number]
            return None if place is None else record.fields[place]
        if self._line is not record:
            self._line, self._values = record, {}
            with contextlib.suppress(NotAnObject):
                self._values, _ = self._json.read(record.fields[0])
        return self._values.get(self._names[number])

    def _read(self, text: str, is_event_time: bool) -> datetime | None:
        try:
            time = time_in(self._event_time, text) if is_event_time else time_of(parse(text))
        except (NotAdmitted, NotATimeUUID):
            return None
        return time if time.year in readings.YEARS else None


def preview_of(file: RecordFile, pipeline: Pipeline) -> RecordPreview:
    """The preview for the records of the file."""
    return RecordPreview(None if file.format.is_json else file.header, pipeline)


def survey(path: Path, stated_format: FileFormat, pipeline: Pipeline, damage: Damage | None = None) -> Survey:
    """One pass over the whole file. Raises FileRefused if it cannot hold the pipeline's events."""
    result = Survey()
    kinds = result.kinds
    with (
        open_records(path, names_of(pipeline), stated_format, damage) as file,
        Bar(f"scanning {path.name}", path.stat().st_size) as bar,
    ):
        check_header(path, file.header, pipeline)
        preview = preview_of(file, pipeline)
        for number, record in enumerate(file.records()):
            kind = preview.kind(record)
            if kind in kinds or len(kinds) < _MAX_KINDS:
                kinds[kind] += 1
            else:
                kinds[NO_KIND] += 1
            time = preview.time(record)
            if time is not None:
                if result.first is None or result.last is None:
                    result.first = result.last = time
                elif time > result.last:
                    result.last = time
                elif time < result.first:
                    result.first = time
            result.lines = record.end_line
            if number % _ROWS_PER_CHECK == 0:
                bar.at(file.position())
    return result


class Sample:
    """A choice among the rows of a file, in their order: each kind gets its share of `size`, and at least one row.

    Selection sampling (Knuth, The Art of Computer Programming, 3.4.2, algorithm S) for each kind. The same `seed` chooses
    the same rows. Raises ValueError for a size that is smaller than the number of kinds.
    """

    def __init__(self, kinds: Mapping[Kind, int], size: int, seed: str) -> None:
        self._remaining_rows = dict(kinds)
        self._required_rows = shares(kinds, size)
        self._random = random.Random(seed)

    def takes(self, kind: Kind) -> bool:
        """Whether the next row, of that kind, is chosen."""
        if kind not in self._remaining_rows:
            kind = NO_KIND  # as the survey counted it
        remaining, required = self._remaining_rows[kind], self._required_rows[kind]
        is_taken = self._random.random() * remaining < required
        self._remaining_rows[kind] = remaining - 1
        self._required_rows[kind] = required - is_taken
        return is_taken


def shares(kinds: Mapping[Kind, int], size: int) -> dict[Kind, int]:
    """How many rows of each kind make a sample of that size: in proportion, at least one, by largest remainders."""
    total = sum(kinds.values())
    if size >= total:
        return dict(kinds)
    if size < len(kinds):
        raise ValueError(f"there are {len(kinds)} kinds of row, and each has at least one row in a sample")
    exact_shares = {kind: size * rows / total for kind, rows in kinds.items()}
    rows_of = {kind: max(1, int(share)) for kind, share in exact_shares.items()}
    kinds_by_need = sorted(kinds, key=lambda kind: (rows_of[kind] - exact_shares[kind], str(kind)))
    while sum(rows_of.values()) < size:
        for kind in kinds_by_need[: size - sum(rows_of.values())]:
            rows_of[kind] += rows_of[kind] < kinds[kind]
    for _ in range(sum(rows_of.values()) - size):  # the frequent kinds give up what the rare ones have in excess
        reducible = (kind for kind in rows_of if rows_of[kind] > 1)
        rows_of[max(reducible, key=lambda kind: (rows_of[kind] - exact_shares[kind], rows_of[kind]))] -= 1
    return rows_of


def checked_fingerprint(path: Path) -> Fingerprint:
    """The file's digest and damage; shows progress. Raises FileRefused."""
    size = 0
    with contextlib.suppress(OSError):  # fingerprint() refuses the file
        size = path.stat().st_size
    with Bar(f"checking {path.name}", size) as bar:
        return fingerprint(path, bar.at)
