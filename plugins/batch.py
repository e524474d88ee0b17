"""The id of the run's batch, as a template renders it for the steps after the sensor."""

from __future__ import annotations

from airflow.sdk.exceptions import AirflowFailException


def batch_id_of(rendered: str) -> int:
    """The id that wait_for_changes returned. Without one, the task fails at once: a retry would find none either."""
    if not rendered.isdecimal():  # "None" where the sensor was marked as success, so that it returned nothing
        raise AirflowFailException("This run opened no batch: clear wait_for_changes.")
    return int(rendered)
