"""The verdict of a staging gate, without a store."""

from __future__ import annotations

import pytest

from include.warehouse.gate_verdict import CheckOutcome, Release, judge
from tests.warehouse.lab import minute

BATCH = [minute(0), minute(1), minute(2)]


def failing(check: str, *minutes, severity: str = "fail") -> CheckOutcome:
    rows = [{"minute": minute} for minute in minutes]
    named = frozenset(minutes) if minutes else None
    return CheckOutcome(check, severity, severity, max(1, len(rows)), rows, named, f"{check} is right.")


def released(*minutes) -> dict:
    return {one: Release(number, one, "ann") for number, one in enumerate(minutes)}


def test_minutes_of_every_failing_check_are_held_and_those_of_warnings_are_not() -> None:
    result = [failing("a", minute(0)), failing("b", minute(0), minute(1)), failing("c", minute(2), severity="warn")]
    verdict = judge(result, BATCH, (), {})
    assert verdict.held == {minute(0): "a: a is right. b: b is right.", minute(1): "b: b is right."}
    assert verdict.failing_checks == {minute(0): ("a", "b"), minute(1): ("b",)}
    assert (verdict.passed, verdict.publishable) == (True, 1)


def test_a_still_open_minute_is_left_out_but_not_held() -> None:
    verdict = judge([failing("a", minute(2))], BATCH, {minute(2)}, {})
    assert (verdict.held, list(verdict.still_open), verdict.publishable) == ({}, [minute(2)], 2)


@pytest.mark.parametrize("stray", [failing("a"), failing("a", minute(0), minute(9)), failing("a", minute(0), None)])
def test_a_failure_outside_the_batch_or_without_a_minute_stops_the_whole_batch(stray: CheckOutcome) -> None:
    verdict = judge([stray, failing("b", minute(0))], BATCH, (), released(minute(0)))
    assert (verdict.passed, verdict.held, verdict.passes, verdict.batch_wide) == (False, {}, (), (stray,))
    assert [one.outcome for one in verdict.outcomes] == ["fail", "fail"], (
        "No release is used, so none is shown as used."
    )


def test_a_release_covers_every_check_of_its_minute_and_no_other_minute() -> None:
    result = [failing("a", minute(0)), failing("b", minute(0), minute(1))]
    verdict = judge(result, BATCH, (), released(minute(0)))
    assert [one.outcome for one in verdict.outcomes] == ["warn", "fail"]
    assert [(one.minute, one.check) for one in verdict.passes] == [(minute(0), "a"), (minute(0), "b")]
    assert (list(verdict.held), verdict.publishable) == ([minute(1)], 2)
    assert [row.get("released_by") for row in verdict.outcomes[1].sample] == ["ann", None]


def test_nothing_passes_when_every_minute_fails() -> None:
    assert not judge([failing("a", *BATCH)], BATCH, (), {}).passed
    assert judge([failing("a", *BATCH)], BATCH, (), released(*BATCH)).passed
