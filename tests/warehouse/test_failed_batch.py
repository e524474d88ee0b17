"""The decision about the minutes of a failed batch, without a store."""

from __future__ import annotations

import pytest

from include.warehouse.failed_batch import Decision, FailedBatch


def failed(**changes: object) -> FailedBatch:
    """A minute that failed twice in Spark."""
    values = {
        "run_id": "scheduled__1", "is_delta": True, "minutes": 1, "attempts": 2, "gate_ran": False, "merge_tries": 0,
        "reason": None, "is_open": False, "is_folded_hour": False,
    }  # fmt: skip
    return FailedBatch(**(values | changes))


@pytest.mark.parametrize(
    ("batch", "others_passed", "decision"),
    [
        (failed(), True, Decision.HOLD),
        (failed(), False, Decision.SPLIT),  # the platform is at fault
        (failed(attempts=0, merge_tries=2), True, Decision.HOLD),
        (failed(minutes=60, is_folded_hour=True), True, Decision.HOLD),
        (failed(minutes=2), True, Decision.SPLIT),
        (failed(is_open=True), True, Decision.SPLIT),  # its next batch has other events
        (failed(attempts=1), True, Decision.RETRY),
        (failed(gate_ran=True), True, Decision.RETRY),  # the gate has held the minutes that it names
        (failed(gate_ran=True, merge_tries=2), True, Decision.HOLD),
        (failed(is_delta=False), True, Decision.RETRY),  # minutes of a backfill are never split
    ],
)
def test_the_decision_on_the_minutes(batch: FailedBatch, others_passed: bool, decision: Decision) -> None:
    assert batch.decision(others_passed) is decision


@pytest.mark.parametrize(
    ("batch", "why"),
    [
        (failed(reason="no space left"), "fails alone in transform_delta: no space left"),
        (failed(), "fails alone in transform_delta: the log of transform_delta in run scheduled__1 says why"),
        (failed(merge_tries=2, reason="too long"), "fails alone in merge_into_warehouse: too long"),
    ],
)
def test_the_reason_names_the_step_and_the_cause(batch: FailedBatch, why: str) -> None:
    assert batch.why_held == why
