"""Every endpoint of Airflow's API server and of the page, with its placeholders filled, and runs that have something to show."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from fastapi.testclient import TestClient

from tests.airflow_home import HOME, PROJECT
from tests.page.auth_manager import FORBIDDEN_DAG

MARK = "text that only users of ecommerce_minute see"
STORED = "a password in Airflow's database"
STORED_VARIABLE = "a value of a variable"
ROW = "text of an imported row"
IMPORT = "minutemark_import"
CHANGES = {"POST", "PATCH", "PUT", "DELETE"}


def _deletion(entity: str | dict) -> dict:
    return {"actions": [{"action": "delete", "entities": [entity]}]}


# A value for each placeholder: one that exists in the tour's database, if there is one.
VALUES = {
    "connection_id": "tour", "pipeline": "recruitment", "name": "page.js", "map_index": "-1", "try_number": "1",
    "task_try_number": "1", "xcom_key": "return_value", "key": "state", "version_number": "1",
    "asset_id": "1", "asset_alias_id": "1", "import_error_id": "1", "pool_name": "spark", "variable_key": "tour",
    "section": "core", "option": "fernet_key", "group_id": "x",
}  # fmt: skip
QUERIES = {
    "/ui/structure/structure_data": "dag_id={dag_id}",
    "/ui/dashboard/historical_metrics_data": "start_date=2020-01-01T00:00:00Z",
    "/ui/pending_partitioned_dag_run/{dag_id}": "partition_key=x",
    "/api/v2/backfills": "dag_id={dag_id}",
    "/minutemark/api/pipelines/{pipeline}/backfill": "from=2026-03-01T00:00Z&to=2026-03-01T01:00Z",
    "/ui/grid/ti_summaries/{dag_id}": "run_ids={dag_run_id}",
    "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/wait": "interval=0.1&result={task_id}",
    "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}/logs/{try_number}": "full_content=true",
}  # fmt: skip
# Bodies that Airflow reads before it decides on a permission, or in order to decide.
_RUN = {"dag_id": FORBIDDEN_DAG, "dag_run_id": "x"}
_TIMES = {"from_date": "2026-03-01T00:00Z", "to_date": "2026-03-01T01:00Z"}
BODIES = {
    ("PATCH", "/api/v2/connections"): _deletion("x"),
    ("PATCH", "/api/v2/pools"): _deletion("x"),
    ("PATCH", "/api/v2/variables"): _deletion("x"),
    ("PATCH", "/api/v2/dags"): {"is_paused": False},
    ("PATCH", "/api/v2/dags/{dag_id}/dagRuns"): _deletion(_RUN),
    ("PATCH", "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances"): _deletion(_RUN | {"task_id": "x"}),
    ("POST", "/api/v2/dags/{dag_id}/clearDagRuns"): {"dag_runs": [{"dag_run_id": "x"}]},
    ("POST", "/api/v2/backfills"): {"dag_id": FORBIDDEN_DAG, **_TIMES},
    ("POST", "/api/v2/backfills/dry_run"): {"dag_id": FORBIDDEN_DAG, **_TIMES},
    ("POST", "/api/v2/connections/enqueue-test"): {"connection_id": "tour", "conn_type": "mysql"},
}  # fmt: skip
# Routes that only read, and accept "~" for every DAG, run or task.
_TASKS = "/api/v2/dags/~/dagRuns/~/taskInstances"
ROUTES_FOR_ALL = (
    ("GET", "/api/v2/dags/~/dagRuns"), ("POST", "/api/v2/dags/~/dagRuns/list"), ("GET", _TASKS), ("POST", f"{_TASKS}/list"),
    ("GET", f"{_TASKS}/~/xcomEntries"),
)  # fmt: skip


def routes(api) -> list[tuple[str, str]]:
    """Method and path of each route, including those of mounted apps."""
    from plugins.pipelines_page import app as page

    result = []
    for route in api.routes:
        mounted = page.routes if route.path == "/minutemark" else getattr(route, "routes", None)
        pairs = [(route, route.path)] if mounted is None else [(child, route.path + child.path) for child in mounted]
        for endpoint, path in pairs:
            result += [(method, path) for method in (getattr(endpoint, "methods", None) or ()) if method != "HEAD"]
    return sorted(set(result))


def fill(path: str, run: dict[str, str]) -> str:
    """The path for this run, with the query that the route needs. A placeholder without a value is an error."""
    query = f"?{QUERIES[path]}" if path in QUERIES else ""
    return re.sub(r"\{(\w+)(:path)?\}", lambda match: (VALUES | run)[match[1]], path + query)


@contextlib.contextmanager
def dags() -> Iterator[list[str]]:
    """Put the project's DAGs into Airflow's database; afterwards, restore the database."""
    from airflow import settings
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session

    with contextlib.closing(sqlite3.connect(":memory:")) as kept:
        with contextlib.closing(sqlite3.connect(HOME / "airflow.db")) as database:
            database.backup(kept)
        try:
            bag = DagBag(str(PROJECT / "dags"), bundle_path=PROJECT / "dags", bundle_name="dags-folder")
            assert bag.import_errors == {}
            with create_session() as session:
                session.add(DagBundleModel(name="dags-folder"))
            sync_bag_to_db(bag, "dags-folder", None)
            yield sorted(bag.dags)
        finally:
            asyncio.run(settings.async_engine.dispose())  # Airflow would dispose of it after the logs are closed
            with contextlib.closing(sqlite3.connect(HOME / "airflow.db")) as database:
                kept.backup(database)


def store() -> None:
    """Store a connection, a variable and a pool in Airflow's database."""
    from airflow.models import Connection, Pool, Variable
    from airflow.utils.session import create_session

    with create_session() as session:
        session.add(Connection("tour", "mysql", host="db", login="etl", password=STORED))
        session.add(Variable("tour", STORED_VARIABLE))
        session.add(Pool(pool="spark", slots=1, description="", include_deferred=False))


def run_of(client: TestClient, dag_id: str, task_id: str, conf: dict, *, log: str, xcom: object) -> dict[str, str]:
    """Trigger a run as this user, with a log, an XCom and rendered fields of one task, and add a backfill.

    Returns the values of the placeholders for this run.
    """
    from airflow.configuration import conf as settings
    from airflow.models.backfill import Backfill
    from airflow.models.dagrun import DagRun
    from airflow.models.log import Log
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.models.xcom import XComModel
    from airflow.utils.log.file_task_handler import FileTaskHandler
    from airflow.utils.session import create_session
    from airflow.utils.state import State
    from sqlalchemy import func, select

    trigger = {"logical_date": datetime.now(UTC).isoformat(), "conf": conf}
    answer = client.post(f"/api/v2/dags/{dag_id}/dagRuns", json=trigger)
    assert answer.status_code == 200, answer.text
    keys = {"dag_id": dag_id, "run_id": answer.json()["dag_run_id"], "task_id": task_id}
    logs = Path(settings.get("logging", "base_log_folder"))
    with create_session() as session:
        event = session.scalar(select(func.max(Log.id)))
        run = session.scalars(select(DagRun).where(DagRun.run_id == keys["run_id"])).one()
        task = run.get_task_instance(task_id, session=session)
        run.state = task.state = State.SUCCESS
        task.try_number, task.start_date, task.end_date = 1, run.run_after, run.run_after
        session.add(RenderedTaskInstanceFields(task, render_templates=False, rendered_fields={"field": xcom}))
        backfill = Backfill(dag_id=dag_id, from_date=run.run_after, to_date=run.run_after, dag_run_conf=conf)
        session.add(backfill)
        session.flush()
        XComModel.set("return_value", xcom, **keys, session=session)
        file = logs / FileTaskHandler(str(logs))._render_filename(task, 1, session=session)
        values = {"backfill_id": str(backfill.id), "event_log_id": str(event)}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(log)
    token = client.get(f"/api/v2/dags/{dag_id}").json()["file_token"]
    return keys | values | {"dag_run_id": keys["run_id"], "file_token": token}
