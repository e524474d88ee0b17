"""The check of pools: which states of tasks show that a pool exists."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from include.operations.preflight import PreflightFailed, wait_for_pools


class TaskInstance:
    """Answers like Airflow's task instance. tests/e2e/test_preflight.py uses Airflow's own."""

    dag_id, run_id = "minutemark_preflight", "manual"

    def __init__(self, own: str | None, others: int) -> None:
        self._own, self._others = own, others

    def get_task_states(self, **_: object) -> dict[str, dict[str, str | None]]:
        return {self.run_id: {"try_pool_spark": self._own}}

    def get_ti_count(self, *, states: list[str], **_: object) -> int:
        return self._others if states == ["queued", "running"] else 0


@pytest.mark.parametrize(
    ("own", "others", "is_found"),
    [
        ("success", 0, True),
        ("queued", 0, True),  # it has a slot
        ("scheduled", 1, True),  # a transform has the slot that it waits for
        ("scheduled", 0, False),
        (None, 0, False),
    ],
)
def test_a_pool_is_missing_if_no_task_gets_a_slot_in_it(own: str | None, others: int, is_found: bool) -> None:
    users = {"spark": [("recruitment_minute", "transform_delta")]}
    expected = (
        nullcontext() if is_found else pytest.raises(PreflightFailed, match="airflow pools set spark 1 minutemark")
    )
    with expected:
        wait_for_pools(TaskInstance(own, others), {"try_pool_spark": "spark"}, users, patience=0)
