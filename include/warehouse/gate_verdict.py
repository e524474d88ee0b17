"""Decides the verdict of a staging gate, without access to a store: which minutes fail, pass, or pass as released."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from include.warehouse.lengths import LONGEST_REASON


@dataclass(frozen=True)
class CheckOutcome:
    """What one check found."""

    check: str
    severity: str
    outcome: str  # pass, warn or fail; with severity fail, warn means that only released minutes break the rule
    offending_rows: int
    sample: list[dict]
    # The minutes that the check names (a faulty check may have other values); None if it names no minutes.
    minutes: frozenset[Any] | None
    purpose: str
    reasons: Mapping[datetime, str] = MappingProxyType({})  # by minute, if the purpose does not say enough

    def __str__(self) -> str:
        first = f"; first: {as_json(self.sample[0])}" if self.sample else ""
        return f"{self.outcome:4} {self.check}, offending rows: {self.offending_rows}{first}"


class Release(NamedTuple):
    """A user's release of a held minute, not yet used."""

    release_id: int
    minute: datetime
    released_by: str


class Pass(NamedTuple):
    """A failing check that counts as a warning for one minute."""

    minute: datetime
    check: str
    release: Release


@dataclass(frozen=True)
class Verdict:
    """The outcome of a gate for the minutes of a batch. Reasons are texts for users."""

    outcomes: tuple[CheckOutcome, ...]
    batch_wide: tuple[CheckOutcome, ...]  # failures that no minute of the batch can be held for
    failing_checks: Mapping[datetime, tuple[str, ...]]  # by minute: names, except those that a release lets pass
    held: Mapping[datetime, str]
    still_open: Mapping[datetime, str]  # left out of this batch, but not held
    waiting: Mapping[datetime, str]  # not published before all rows of their hour are read
    passes: tuple[Pass, ...]
    publishable: int  # minutes

    @property
    def passed(self) -> bool:
        return not self.batch_wide and (self.publishable > 0 or bool(self.waiting and not self.held))

    @property
    def failed(self) -> list[CheckOutcome]:
        return [outcome for outcome in self.outcomes if outcome.outcome == "fail"]


def judge(
    outcomes: Iterable[CheckOutcome],
    minutes: Collection[datetime],
    still_open: Collection[datetime],
    released: Mapping[datetime, Release],
    undecided: Mapping[datetime, str] = MappingProxyType({}),
    undecided_by: str = "",
) -> Verdict:
    """The verdict on a batch of `minutes`. If a failure names no minutes, or minutes outside the batch, the whole batch fails.

    The check `undecided_by` cannot judge the minutes of `undecided` yet. They wait, each with its reason,
    unless they fail another check or a release publishes them.
    """
    original, minutes = tuple(outcomes), frozenset(minutes)
    outcomes = list(original)
    batch_wide, reasons, names, passes = [], {}, {}, []
    for number, outcome in enumerate(outcomes):
        if outcome.outcome != "fail":
            continue
        if not outcome.minutes or not outcome.minutes <= minutes:
            batch_wide.append(outcome)
            continue
        released_minutes = sorted(outcome.minutes & released.keys())
        passes += [Pass(minute, outcome.check, released[minute]) for minute in released_minutes]
        failing = sorted(outcome.minutes - released.keys())
        for minute in failing:
            names.setdefault(minute, []).append(outcome.check)
            reasons.setdefault(minute, []).append(f"{outcome.check}: {outcome.reasons.get(minute, outcome.purpose)}")
        if released_minutes:
            outcomes[number] = _with_releases(outcome, released, "fail" if failing else "warn")
    if batch_wide:  # the whole batch fails, not individual minutes, and no release is used
        return Verdict(original, tuple(batch_wide), {}, {}, {}, {}, (), 0)
    passes += [Pass(minute, undecided_by, released[minute]) for minute in sorted(undecided.keys() & released.keys())]
    reason_by_minute = {minute: " ".join(parts)[:LONGEST_REASON] for minute, parts in reasons.items()}
    waiting = {
        minute: reason
        for minute, reason in undecided.items()
        if minute not in reason_by_minute and minute not in released
    }
    left_out = waiting | reason_by_minute
    return Verdict(
        outcomes=tuple(outcomes),
        batch_wide=(),
        failing_checks={minute: tuple(parts) for minute, parts in names.items()},
        held={minute: reason for minute, reason in reason_by_minute.items() if minute not in still_open},
        still_open={minute: reason for minute, reason in left_out.items() if minute in still_open},
        waiting={minute: reason for minute, reason in waiting.items() if minute not in still_open},
        passes=tuple(passes),
        publishable=len(minutes) - len(left_out),
    )


def _with_releases(outcome: CheckOutcome, released: Mapping[datetime, Release], result: str) -> CheckOutcome:
    sample = [
        row | {"released_by": released[row["minute"]].released_by} if row["minute"] in released else row
        for row in outcome.sample
    ]
    return replace(outcome, outcome=result, sample=sample)


def as_json(value) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)
