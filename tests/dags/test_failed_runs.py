"""The notice of a failed run, sent by Airflow's own code: the DAG processor calls the callback of the DAG it has parsed."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from uuid import uuid4

import pytest
import structlog

from tests.plugins.test_notifiers import Receiver

DUE = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


@pytest.fixture
def receiver(monkeypatch):
    server = Receiver(200)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AIRFLOW_CONN_MINUTEMARK_WEBHOOK", json.dumps({"conn_type": "http", "host": server.url}))
    yield server
    server.shutdown()
    server.server_close()


def process(dag_bag, dag_id: str, task_id: str | None) -> None:
    """Process the callback that the scheduler requests when a run of the DAG has failed, in that task or before any task."""
    from airflow.api_fastapi.execution_api.datamodels.taskinstance import DagRun, TaskInstance
    from airflow.callbacks.callback_requests import DagCallbackRequest, DagRunContext
    from airflow.dag_processing.processor import _execute_callbacks

    run = DagRun(
        dag_id=dag_id, run_id="scheduled__1", logical_date=DUE, data_interval_start=DUE, data_interval_end=DUE,
        run_after=DUE, start_date=DUE, end_date=DUE, run_type="scheduled", state="failed", conf={}, consumed_asset_events=[],
        partition_key=None,
    )  # fmt: skip
    failed_task = task_id and TaskInstance(
        id=uuid4(), task_id=task_id, dag_id=dag_id, run_id="scheduled__1", try_number=3, dag_version_id=uuid4()
    )
    request = DagCallbackRequest(
        filepath="dags/any.py", dag_id=dag_id, run_id="scheduled__1", bundle_name="dags-folder", bundle_version=None,
        is_failure_callback=True, msg="timed_out" if task_id is None else "task_failure",
        context_from_server=DagRunContext(dag_run=run, last_ti=failed_task),
    )  # fmt: skip
    _execute_callbacks(dag_bag, [request], structlog.get_logger())


def test_every_dag_notifies_of_its_failed_run_and_names_the_task(dag_bag, dags, receiver):
    for dag_id, dag in sorted(dags.items()):
        task_id = dag.tasks[0].task_id
        process(dag_bag, dag_id, task_id)
        _, _, body = receiver.requests.pop()
        assert body["title"] == f"Minutemark · Problem: {dag_id} failed"
        assert body["found"] == f"Run scheduled__1 failed, in task {task_id} (task_failure)."
        assert body["link"].endswith(f"/dags/{dag_id}/runs/scheduled__1/tasks/{task_id}?try_number=3")


def test_a_run_that_times_out_before_any_task_is_reported_too(dag_bag, receiver):
    process(dag_bag, "minutemark_watch", None)
    [(_, _, body)] = receiver.requests
    assert body["found"] == "Run scheduled__1 failed (timed_out)."
    assert body["link"] is None
