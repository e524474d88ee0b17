"""The preflight DAG's check of pools, with Airflow's own records of the tasks."""

from __future__ import annotations


def test_a_pool_whose_only_slot_a_transform_holds_is_not_reported_as_missing(airflow) -> None:
    minute = airflow.run(skip=[".*"]).must_succeed()
    airflow.set_state(minute, "transform_delta", "running")
    try:
        preflight = airflow.run("minutemark_preflight", skip=["check_connections"])
    finally:
        airflow.set_state(minute, "transform_delta", "success")
    assert preflight.tasks["check_pools"] == "success", preflight.log
