"""The verdict of a staging gate, without access to a store."""

from __future__ import annotations

import pytest

from include.warehouse.gate_verdict import CheckOutcome, Release, judge
from tests.warehouse.lab import minute

BATCH = [minute(0), minute(1), minute(2)]


def failure(check: str, *minutes, severity: str = "fail") -> CheckOutcome:
    rows = [{"minute": minute} for minute in minutes]
    named = frozenset(minutes) if minutes else None
    return CheckOutcome(check, severity, severity, max(1, len(rows)), rows, named, f"{check} is right.")


def releases(*minutes) -> dict:
    return {at: Release(number, at, "ann") for number, at in enumerate(minutes)}


def test_minutes_of_every_failing_check_are_held_and_those_of_warnings_are_not() -> None:
    result = [failure("a", minute(0)), failure("b", minute(0), minute(1)), failure("c", minute(2), severity="warn")]
    verdict = judge(result, BATCH, (), {})
    assert verdict.held == {minute(0): "a: a is right. b: b is right.", minute(1): "b: b is right."}
    assert verdict.failing_checks == {minute(0): ("a", "b"), minute(1): ("b",)}
    assert (verdict.passed, verdict.publishable) == (True, 1)


def test_a_still_open_minute_is_left_out_but_not_held() -> None:
    verdict = judge([failure("a", minute(2))], BATCH, {minute(2)}, {})
    assert (verdict.held, list(verdict.still_open), verdict.publishable) == ({}, [minute(2)], 2)


@pytest.mark.parametrize("stray", [failure("a"), failure("a", minute(0), minute(9)), failure("a", minute(0), None)])
def test_a_failure_outside_the_batch_or_without_a_minute_stops_the_whole_batch(stray: CheckOutcome) -> None:
    verdict = judge([stray, failure("b", minute(0))], BATCH, (), releases(minute(0)))
    assert (verdict.passed, verdict.held, verdict.passes, verdict.batch_wide) == (False, {}, (), (stray,))
    assert [check.outcome for check in verdict.outcomes] == ["fail", "fail"], (
        "No release is used, so no check counts as a warning."
    )


def test_a_release_covers_every_check_of_its_minute_and_no_other_minute() -> None:
    result = [failure("a", minute(0)), failure("b", minute(0), minute(1))]
    verdict = judge(result, BATCH, (), releases(minute(0)))
    assert [check.outcome for check in verdict.outcomes] == ["warn", "fail"]
    assert [(entry.minute, entry.check) for entry in verdict.passes] == [(minute(0), "a"), (minute(0), "b")]
    assert (list(verdict.held), verdict.publishable) == ([minute(1)], 2)
    assert [row.get("released_by") for row in verdict.outcomes[1].sample] == ["ann", None]


def test_nothing_passes_when_every_minute_fails() -> None:
    assert not judge([failure("a", *BATCH)], BATCH, (), {}).passed
    assert judge([failure("a", *BATCH)], BATCH, (), releases(*BATCH)).passed
