"""Decides, without access to a store, which minutes of a batch drift: they deviate from the fields of the day before.

A minute is compared with the minutes of the 24 hours before it: with their stored counts, or, for minutes of the same batch,
with the counts that were just read. Later minutes are not compared with minutes whose drift is not accepted.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from include.durations import DAY
from include.pipelines import Pipeline
from include.pipelines.declaration import HOLD

DISAPPEARED, UNREADABLE, IGNORED, APPEARED = "disappeared", "unreadable", "ignored", "appeared"
IGNORED_ROWS = "ignored_rows"  # the `field` of a drift of the share of ignored rows
MIN_ROWS = 100  # a minute with fewer rows is not compared
HISTORY_ROWS, HISTORY_MINUTES = 500, 3  # with less history, a field is compared only with its drift on record
USUAL_SHARE = 0.05  # share of rows above which a field is a regular one
# By chance, a field that 5 % of the rows have is absent from one in 170 minutes of 100 rows, and from fewer than one in
# 20,000 minutes in which ten rows should have it.
EXPECTED_ROWS = 10
EXPECTED_KEPT = 20  # rows that are not ignored
# Many fields come in bursts. A field drifts if the run of rows without it is longer than GAP_FACTOR times the longest such
# run of the day before.
GAP_FACTOR = 2
MANY_UNREADABLE = 0.20
MIN_VALUES = 20
MIN_RETURN_ROWS = 5  # rows that have the field again


@dataclass(frozen=True)
class MinuteFields:
    """The counts of a minute's rows and fields."""

    minute: datetime
    rows: int
    ignored: int
    present: Mapping[str, int]
    unreadable: Mapping[str, int]
    unknown: Mapping[str, int]

    @classmethod
    def read(cls, minute: datetime, rows: int, ignored: int, field_counts: str) -> MinuteFields:
        """The counts from a row of the ledger or of staging; see include/spark/contract.py."""
        counts = json.loads(field_counts)
        return cls(minute, rows, ignored, counts["present"], counts["unreadable"], counts["unknown"])


@dataclass(frozen=True)
class DriftFinding:
    """One minute that drifts in one field."""

    minute: datetime
    kind: str
    field: str
    rows: int  # that show it
    usual: float | None  # the share over the day before
    text: str  # what was found, as a sentence


class Return(NamedTuple):
    """A minute in which a field is again as it was before a drift."""

    minute: datetime
    kind: str
    field: str


@dataclass(frozen=True)
class Drift:
    """A drift on record. It covers the minutes from a day before its first minute until the field returned."""

    kind: str
    field: str
    first_minute: datetime
    last_minute: datetime  # that showed it
    usual: float | None
    drift_id: int | None = None  # None: not stored yet
    accepted_by: str | None = None
    ended_minute: datetime | None = None

    def covers(self, minute: datetime) -> bool:
        return self.first_minute - DAY <= minute and (self.ended_minute is None or minute < self.ended_minute)


class Records:
    """The drifts on record, as the minutes of a batch change them."""

    def __init__(self, drifts: Iterable[Drift]) -> None:
        self.drifts = list(drifts)

    def covering(self, finding: DriftFinding) -> Drift | None:
        drifts_of_field = (
            candidate for candidate in self.drifts if (candidate.kind, candidate.field) == (finding.kind, finding.field)
        )
        return next((drift for drift in drifts_of_field if drift.covers(finding.minute)), None)

    def note(self, finding: DriftFinding) -> None:
        """Extend the drift that covers the finding's minute to that minute, or start a new drift."""
        drift = self.covering(finding)
        if drift is None:
            self.drifts.append(Drift(finding.kind, finding.field, finding.minute, finding.minute, finding.usual))
        else:
            first, last = min(drift.first_minute, finding.minute), max(drift.last_minute, finding.minute)
            self._put(drift, replace(drift, first_minute=first, last_minute=last))

    def end(self, returned: Return) -> None:
        """End the drifts whose field returned after all minutes that showed them: minutes are not read in order."""
        for drift in list(self.drifts):
            if (drift.kind, drift.field) == (returned.kind, returned.field) and _may_end(drift, returned.minute):
                self._put(drift, replace(drift, ended_minute=returned.minute))

    def _put(self, old: Drift, new: Drift) -> None:
        self.drifts[self.drifts.index(old)] = new


@dataclass(frozen=True)
class DriftFindings:
    """The findings of a batch, oldest first, including accepted drift."""

    drifting: tuple[DriftFinding, ...] = ()
    returned: tuple[Return, ...] = ()
    new_fields: tuple[DriftFinding, ...] = ()  # undeclared fields that hold no minutes and are not on record yet


class _Window:
    """Sums over the minutes of the last day."""

    def __init__(self) -> None:
        self._minutes: deque[MinuteFields] = deque()
        self.rows = self.ignored = 0
        self.present: Counter[str] = Counter()
        self.unreadable: Counter[str] = Counter()

    def add(self, fields: MinuteFields) -> None:
        self._minutes.append(fields)
        self._count(fields, 1)

    def move_to(self, minute: datetime) -> None:
        while self._minutes and self._minutes[0].minute < minute - DAY:
            self._count(self._minutes.popleft(), -1)

    def _count(self, fields: MinuteFields, sign: int) -> None:
        self.rows += sign * fields.rows
        self.ignored += sign * fields.ignored
        for total, counts in ((self.present, fields.present), (self.unreadable, fields.unreadable)):
            for name, count in counts.items():
                total[name] += sign * count

    def gaps(self, name: str, drifts: Iterable[Drift]) -> tuple[int, int]:
        """The longest run of rows without the field that ended with its return, and the rows since it was last present.

        Both are counted in whole minutes. Minutes within a recorded disappearance of the field do not count.
        """
        disappearances = [drift for drift in drifts if (drift.kind, drift.field) == (DISAPPEARED, name)]
        longest = current = 0
        for fields in self._minutes:
            if fields.present.get(name):
                longest, current = max(longest, current), 0
            elif not any(drift.first_minute <= fields.minute <= drift.last_minute for drift in disappearances):
                current += fields.rows
        return longest, current

    def kept_per_minute(self) -> float | None:
        """Rows of an average minute that were not ignored."""
        return (self.rows - self.ignored) / len(self._minutes) if self._minutes else None

    def share(self, part: int, total: int) -> float | None:
        """The share over the day; None if the day has too few rows or minutes, or `total` is too small."""
        is_enough = self.rows >= HISTORY_ROWS and len(self._minutes) >= HISTORY_MINUTES and total >= MIN_ROWS
        return part / total if is_enough else None


def find(
    pipeline: Pipeline, batch: Iterable[MinuteFields], history: Iterable[MinuteFields], known: Sequence[Drift]
) -> DriftFindings:
    """The drift in the minutes of a batch, compared with other minutes (`history`) and with drift on record (`known`)."""
    in_batch = {fields.minute: fields for fields in batch}
    others = (fields for fields in history if fields.minute not in in_batch)
    window, records = _Window(), Records(known)
    drifting: list[DriftFinding] = []
    returned: list[Return] = []
    new_fields: dict[str, DriftFinding] = {}
    for fields in sorted((*in_batch.values(), *others), key=lambda entry: entry.minute):
        window.move_to(fields.minute)
        if fields.minute in in_batch:
            current = [drift for drift in records.drifts if drift.covers(fields.minute)]
            drifts_found = list(_findings_of(pipeline, fields, window, current, records.drifts))
            for drift in current:
                if _may_end(drift, fields.minute) and _is_back(drift, fields):
                    returned.append(Return(fields.minute, drift.kind, drift.field))
                    records.end(returned[-1])
            for finding in drifts_found:
                records.note(finding)
            drifting += drifts_found
            if pipeline.unknown_fields != HOLD:
                for finding in _appeared(fields):
                    new_fields.setdefault(finding.field, finding)
            accepted = {(drift.kind, drift.field) for drift in current if drift.accepted_by}
            if any((finding.kind, finding.field) not in accepted for finding in drifts_found):
                continue
        window.add(fields)
    on_record = {drift.field for drift in known if drift.kind == APPEARED}
    appeared = tuple(finding for name, finding in new_fields.items() if name not in on_record)
    return DriftFindings(tuple(drifting), tuple(returned), appeared)


def _findings_of(
    pipeline: Pipeline, fields: MinuteFields, window: _Window, current: Sequence[Drift], on_record: Sequence[Drift]
) -> Iterator[DriftFinding]:
    usual = {(drift.kind, drift.field): drift.usual for drift in current}
    if pipeline.unknown_fields == HOLD:
        yield from _appeared(fields)
    if fields.rows < MIN_ROWS:
        return
    for name in pipeline.fields:
        share = _larger(window.share(window.present[name], window.rows), usual.get((DISAPPEARED, name)))
        is_absent = (
            not fields.present.get(name) and share and share > USUAL_SHARE and share * fields.rows >= EXPECTED_ROWS
        )
        if is_absent and _is_long_gap(fields, *window.gaps(name, on_record)):
            text = f"{name} is in none of {fields.rows:,} rows; over the previous day, {_percent(share)} of the rows had it."
            if names := ", ".join(list(fields.unknown)[:3]):
                text += f" Undeclared fields: {names}."
            yield DriftFinding(fields.minute, DISAPPEARED, name, fields.rows, share, text)
    for name in dict.fromkeys((*pipeline.numbers, *pipeline.times)):
        values, wrong = fields.present.get(name, 0), fields.unreadable.get(name, 0)
        share = _smaller(window.share(window.unreadable[name], window.present[name]), usual.get((UNREADABLE, name)))
        if values >= MIN_VALUES and wrong > MANY_UNREADABLE * values and share is not None and share <= USUAL_SHARE:
            kind = "times" if name in pipeline.times else "numbers"
            text = f"{wrong:,} of {values:,} values of {name} are not {kind}; over the previous day, {_percent(share)} were not."
            yield DriftFinding(fields.minute, UNREADABLE, name, wrong, share, text)
    share = _smaller(window.share(window.ignored, window.rows), usual.get((IGNORED, IGNORED_ROWS)))
    expected = fields.rows * (1 - share) if share is not None else 0
    # A burst of ignored rows in addition to as many other rows as usual is not drift.
    fewest = min(expected, window.kept_per_minute() or expected)
    if share is not None and expected >= EXPECTED_KEPT and (fields.rows - fields.ignored) * 4 < fewest:
        text = f"{fields.ignored:,} of {fields.rows:,} rows are ignored; over the previous day, {_percent(share)} were."
        yield DriftFinding(fields.minute, IGNORED, IGNORED_ROWS, fields.ignored, share, text)


def _is_long_gap(fields: MinuteFields, longest: int, current: int) -> bool:
    """Whether the field has been absent for far more consecutive rows than at any time of the previous day."""
    return current + fields.rows > GAP_FACTOR * longest


def _appeared(fields: MinuteFields) -> Iterator[DriftFinding]:
    for name, rows in fields.unknown.items():
        yield DriftFinding(
            fields.minute, APPEARED, name, rows, None, f"{name} is not declared, and {rows:,} rows have it."
        )


def _may_end(drift: Drift, minute: datetime) -> bool:
    return drift.ended_minute is None and minute > drift.last_minute


def _is_back(drift: Drift, fields: MinuteFields) -> bool:
    """Whether the field is in this minute as it was before the drift."""
    present, wrong = fields.present.get(drift.field, 0), fields.unreadable.get(drift.field, 0)
    if drift.kind == DISAPPEARED:
        return present >= MIN_RETURN_ROWS and present > USUAL_SHARE * fields.rows
    if drift.kind == UNREADABLE:
        return present >= MIN_VALUES and wrong <= USUAL_SHARE * present
    if drift.kind == IGNORED and drift.usual is not None:
        return fields.rows >= MIN_ROWS and (fields.rows - fields.ignored) * 2 >= fields.rows * (1 - drift.usual)
    return False  # the record of an undeclared field has no end


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def _larger(*shares: float | None) -> float | None:
    return max((share for share in shares if share is not None), default=None)


def _smaller(*shares: float | None) -> float | None:
    return min((share for share in shares if share is not None), default=None)
