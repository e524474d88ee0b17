"""Operators that announce complete hours, on the real stores: when they announce, and that errors fail no run."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from include import pipelines
from include.warehouse.session import warehouse
from tests import airflow_home  # noqa: F401  (before Airflow)
from tests.plugins.test_changes import context, minutes_ago, nothing_pending, sensor, touch
from tests.warehouse.conftest import lab  # noqa: F401
from tests.warehouse.lab import Lab, contribution, minute

__all__ = ["nothing_pending"]
pytestmark = pytest.mark.usefixtures("schemas")

HOUR = datetime(2026, 3, 1, 12)
KEY = "2026-03-01T12:00:00"
COMPLETE = (
    "INSERT INTO etl.hours (pipeline, hour, version, changed_at, changed_since) VALUES ('recruitment', %s, 1, %s, %s)"
)


@pytest.fixture
def complete_hour(nothing_pending):
    """One complete hour that has not been announced."""
    with warehouse() as conn:
        cursor = conn.cursor()
        cursor.execute("DELETE FROM etl.hours")
        cursor.execute("DELETE FROM etl.looks")
        cursor.execute(COMPLETE, (HOUR, HOUR, HOUR))
        conn.commit()


def prepared_sensor(**kwargs):
    """The sensor as Airflow's worker prepares it, with the step after it."""
    from airflow.sdk import DAG, BaseOperator

    from plugins.assets import hours_asset

    with DAG("recruitment_minute", schedule=None):
        wait = sensor(outlets=[hours_asset("recruitment")], **kwargs)
        wait >> BaseOperator(task_id="transform_delta")
    return wait.prepare_for_execution()


def run_context(run_type="scheduled", **values):
    from airflow.sdk.execution_time.context import OutletEventAccessors

    return {**context(run_type, **values), "outlet_events": OutletEventAccessors()}


def emitted_keys(task, run) -> list[str]:
    """Partition keys of the events that Airflow records if the task succeeds."""
    assert list(run["outlet_events"]) == task.outlets
    return [key for asset in task.outlets for key in run["outlet_events"][asset].partition_keys]


def end_of_wait() -> dict[str, str]:
    """The trigger's event at the end of the wait."""
    return {"deadline": (datetime.now(UTC) - timedelta(seconds=1)).isoformat()}


def test_without_hours_to_announce_a_task_has_no_outlet(nothing_pending):
    touch(minutes_ago(3))
    task, run = prepared_sensor(), run_context()
    assert task.execute(run)
    assert task.outlets == [] and emitted_keys(task, run) == []


def test_a_task_with_a_batch_announces_hours_too(complete_hour):
    touch(minutes_ago(3))
    task, run = prepared_sensor(), run_context()
    assert task.execute(run)
    assert emitted_keys(task, run) == [KEY]


def test_if_nothing_changes_hours_are_announced_at_the_end_of_the_wait(complete_hour):
    from airflow.sdk.exceptions import DownstreamTasksSkipped, TaskDeferred

    task, run = prepared_sensor(), run_context()
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(run)
    assert deferred.value.trigger.wake == deferred.value.trigger.deadline
    assert emitted_keys(task, run) == []
    with pytest.raises(DownstreamTasksSkipped) as skipped:
        task.execute_complete(run, end_of_wait())
    assert skipped.value.tasks == ["transform_delta"]
    assert emitted_keys(task, run) == [KEY]


def test_a_continuous_run_announces_due_hours_without_a_wait(complete_hour):
    from airflow.sdk.exceptions import DownstreamTasksSkipped

    task, run = prepared_sensor(continuous=True), run_context()
    with pytest.raises(DownstreamTasksSkipped):
        task.execute(run)
    assert emitted_keys(task, run) == [KEY]


@pytest.mark.parametrize("run_type", ["backfill", "scheduled"])
def test_backfill_runs_and_dags_without_the_outlet_announce_nothing(complete_hour, run_type):
    touch(minutes_ago(3))
    task = prepared_sensor() if run_type == "backfill" else sensor().prepare_for_execution()
    minute = minutes_ago(3).replace(tzinfo=UTC)
    run = run_context(run_type, interval=(minute, minute + timedelta(minutes=1)))
    assert task.execute(run)
    assert emitted_keys(task, run) == []


def test_an_error_of_airflow_fails_no_task_and_loses_no_hour(complete_hour):
    """Outside a worker, Airflow cannot be queried for recorded events."""
    from airflow.sdk.exceptions import AirflowSkipException

    with warehouse() as conn:
        conn.cursor().execute("UPDATE etl.hours SET offered_version = 1, offered_at = UTC_TIMESTAMP(6)")
        conn.commit()
    task, run = prepared_sensor(), run_context()
    with pytest.raises(AirflowSkipException):
        task.execute_complete(run, end_of_wait())
    touch(minutes_ago(3))
    assert task.execute(run)
    assert emitted_keys(task, run) == []
    with warehouse() as conn:
        cursor = conn.cursor()
        cursor.execute("SELECT offered_version, announced_version, to_announce FROM etl.hours WHERE hour = %s", (HOUR,))
        assert cursor.fetchall() == ((1, None, 2),)


def test_an_event_that_cannot_be_created_fails_no_task(complete_hour):
    touch(minutes_ago(3))
    task, run = prepared_sensor(), {**run_context(), "outlet_events": {}}
    assert task.execute(run)
    assert task.outlets == []


def test_a_warehouse_that_stops_answering_fails_no_task(complete_hour, monkeypatch):
    task, run = prepared_sensor(), run_context()
    variable = "AIRFLOW_CONN_WAREHOUSE_ETL"
    monkeypatch.setenv(variable, json.dumps(json.loads(os.environ[variable]) | {"port": 1}))
    assert task.announce_hours(run, pipelines.get("recruitment")) == []
    assert task.outlets == []


def test_the_report_of_a_gate_is_logged_even_if_its_batch_cannot_be_announced(lab: Lab, capsys):  # noqa: F811
    from plugins.assets import batches_asset
    from plugins.gate import QualityGate

    batch_id = lab.publish({minute(0): [contribution()]})
    gate = QualityGate(
        task_id="check_warehouse",
        pipeline="recruitment",
        gate="warehouse",
        batch_id=str(batch_id),
        outlets=[batches_asset("recruitment")],
    ).prepare_for_execution()
    with pytest.raises(KeyError, match="outlet_events"):
        gate.execute({**context(), "ti": SimpleNamespace(try_number=1)})
    assert f"Gate warehouse passed for batch {batch_id}" in capsys.readouterr().out


def test_a_merge_whose_run_has_ended_before_its_gate_is_checked_first(complete_hour):
    """The next run checks it. The hour is announced because the check passes."""
    with warehouse() as conn:
        cursor = conn.cursor()
        cursor.execute(
            "INSERT INTO etl.batches "
            "(pipeline, kind, dag_id, run_id, lake_clock, options, state, merged_attempt, unchecked_since) VALUES "
            "('recruitment', 'minute', 'recruitment_minute', 'killed', %s, '{}', 'merged', 7, "
            "CURRENT_TIMESTAMP(6) - INTERVAL 5 MINUTE)",
            (HOUR,),
        )
        batch_id = cursor.lastrowid
        cursor.execute(
            "INSERT INTO etl.minute_ledger (pipeline, minute, state, read_at, batch_id, attempt) "
            "VALUES ('recruitment', %s, 'merged', %s, %s, 7)",
            (HOUR, HOUR, batch_id),
        )
        conn.commit()
    touch(minutes_ago(3))
    task, run = prepared_sensor(), run_context()
    assert task.execute(run)
    assert emitted_keys(task, run) == [KEY]
    with warehouse() as conn:
        cursor = conn.cursor()
        cursor.execute("SELECT unchecked_since FROM etl.batches WHERE batch_id = %s", (batch_id,))
        assert cursor.fetchall() == ((None,),)
        cursor.execute("SELECT COUNT(*) FROM etl.check_results WHERE batch_id = %s AND gate = 'warehouse'", (batch_id,))
        assert cursor.fetchone()[0] > 0
