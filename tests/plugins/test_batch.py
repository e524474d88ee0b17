"""The steps after a sensor that returned no batch, as when it was marked as success in the UI."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

from plugins.gate import QualityGate
from plugins.merge import MergeIntoWarehouse
from plugins.transform import TransformDelta


@pytest.mark.parametrize("rendered", ["None", ""])
@pytest.mark.parametrize(
    ("step", "values"), [(TransformDelta, {}), (QualityGate, {"gate": "staging"}), (MergeIntoWarehouse, {})]
)
def test_a_step_without_a_batch_fails_at_once_and_names_the_remedy(step, values, rendered):
    task = step(task_id="step", batch_id=rendered, **values)
    # Airflow retries every other exception.
    with pytest.raises(AirflowFailException, match="This run opened no batch: clear wait_for_changes"):
        task.execute({})
