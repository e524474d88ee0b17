"""The decision about the minutes of a failed batch, without access to a store."""

from __future__ import annotations

import pytest

from include.warehouse.failed_batch import Decision, FailedBatch


def failed_batch(**changes: object) -> FailedBatch:
    """A batch with one minute that failed twice in Spark; `changes` replace its values."""
    values = {
        "run_id": "scheduled__1", "is_delta": True, "minutes": 1, "attempts": 2, "gate_ran": False, "merge_tries": 0,
        "reason": None, "is_open": False, "is_folded_hour": False,
    }  # fmt: skip
    return FailedBatch(**(values | changes))


@pytest.mark.parametrize(
    ("batch", "others_passed", "decision"),
    [
        (failed_batch(), True, Decision.HOLD),
        (failed_batch(), False, Decision.SPLIT),  # the platform is at fault
        (failed_batch(attempts=0, merge_tries=2), True, Decision.HOLD),
        (failed_batch(minutes=60, is_folded_hour=True), True, Decision.HOLD),
        (failed_batch(minutes=2), True, Decision.SPLIT),
        (failed_batch(is_open=True), True, Decision.SPLIT),  # its next batch has other events
        (failed_batch(attempts=1), True, Decision.RETRY),
        (failed_batch(gate_ran=True), True, Decision.RETRY),  # the gate has held the minutes that it names
        (failed_batch(gate_ran=True, merge_tries=2), True, Decision.HOLD),
        (failed_batch(is_delta=False), True, Decision.RETRY),  # minutes of a backfill are never split
    ],
)
def test_the_decision_on_the_minutes(batch: FailedBatch, others_passed: bool, decision: Decision) -> None:
    assert batch.decision(others_passed) is decision


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        (failed_batch(reason="no space left"), "fails alone in transform_delta: no space left"),
        (failed_batch(), "fails alone in transform_delta: the log of transform_delta in run scheduled__1 says why"),
        (failed_batch(merge_tries=2, reason="too long"), "fails alone in merge_into_warehouse: too long"),
    ],
)
def test_the_reason_names_the_step_and_the_cause(batch: FailedBatch, reason: str) -> None:
    assert batch.why_held == reason
