"""The run's batch, for the steps after the sensor: they get its id from an XCom, which users can change."""

from __future__ import annotations

from airflow.sdk.exceptions import AirflowFailException

from include.connections import WAREHOUSE_ETL


def batch_id_of(rendered: str, pipeline: str) -> int:
    """The id that wait_for_changes returned, if it is that of a batch of this pipeline.

    Any other id fails the task at once, because a retry would find the same one. Permissions belong to a DAG: users with
    permission to change the XComs of one pipeline must not publish batches of another.
    """
    from include.warehouse import batches
    from include.warehouse.errors import BatchRefused
    from include.warehouse.session import warehouse

    if not rendered.isdecimal():  # "None" if the sensor was marked as success and so returned nothing
        raise AirflowFailException("This run opened no batch: clear wait_for_changes.")
    batch_id = int(rendered)
    try:
        with warehouse(WAREHOUSE_ETL) as conn:
            owner = batches.get(conn, batch_id).pipeline
    except BatchRefused as refused:
        raise AirflowFailException(str(refused)) from None
    if owner != pipeline:
        raise AirflowFailException(
            f"Batch {batch_id} belongs to pipeline {owner}, and this DAG processes {pipeline} only. The XCom of wait_for_changes "
            "was changed after the task returned it: clear wait_for_changes."
        )
    return batch_id
