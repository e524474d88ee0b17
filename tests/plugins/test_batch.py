"""Steps after the sensor refuse to run if their XCom names no batch, or a batch of another pipeline."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

from include import pipelines
from plugins.minute_dag import chain_dag
from tests.warehouse.conftest import lab  # noqa: F401
from tests.warehouse.lab import Lab, contribution, minute

SHOP = chain_dag(pipelines.get("ecommerce"), "minute", schedule=None, doc="", priority=1)
STEPS = ["transform_delta", "check_staging", "merge_into_warehouse", "check_warehouse"]


def run(step: str, rendered: str) -> None:
    """Run that step of ecommerce_minute, with this text as the id of its batch."""
    task = SHOP.get_task(step)
    task.batch_id = rendered
    task.execute({})


@pytest.mark.parametrize("rendered", ["None", ""])
@pytest.mark.parametrize("step", STEPS)
def test_a_step_without_a_batch_fails_at_once_and_names_the_remedy(step: str, rendered: str) -> None:
    # Airflow retries every other exception.
    with pytest.raises(AirflowFailException, match="This run opened no batch: clear wait_for_changes"):
        run(step, rendered)


def test_no_step_processes_a_batch_of_another_pipeline(lab: Lab) -> None:  # noqa: F811
    batch_id = lab.open(minute(0))
    lab.stage(batch_id, {minute(0): [contribution()]})
    for step in STEPS:
        with pytest.raises(
            AirflowFailException, match=f"Batch {batch_id} belongs to pipeline recruitment.*ecommerce only"
        ):
            run(step, str(batch_id))
    assert lab.query("SELECT state, checked_attempt, merge_tries FROM etl.batches") == [("open", None, 0)]
    assert lab.one("SELECT COUNT(*) FROM etl.attempts") == 1, "The staged attempt is the only one."
    assert lab.check(batch_id).passed
    with pytest.raises(AirflowFailException, match="belongs to pipeline recruitment"):
        run("merge_into_warehouse", str(batch_id))
    assert lab.facts() == {}
