"""What Airflow's API server refuses before its own checks: other hosts, frames, operations without permission on the pipeline."""

from __future__ import annotations

import json
import re
import sys
import uuid

import pytest

import include
from include import pipelines
from plugins.access import RUNS, TRIGGER, forms, route_of
from tests.page.auth_manager import RITA
from tests.page.tour import CHANGES, routes

PAGES = (
    "/", "/auth/login", "/api/v2/version", "/minutemark/pipelines", "/static/x.js", "/docs", "/no/such/page",
)  # fmt: skip
FOREIGN_HOSTS = ("evil.example:8080", "127.0.0.1.evil.example", "evil.example@localhost", "", "[", "0.0.0.0")


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_a_request_for_another_host_is_refused_everywhere(as_user, path: str, host: str) -> None:
    answer = as_user("ada").get(path, headers={"Host": host})
    assert answer.status_code == 421 and "MINUTEMARK_HOSTS" in answer.json()["detail"]


@pytest.mark.parametrize(
    "host", ["localhost:8080", "127.0.0.1:8080", "project.localhost:6563", "[::1]:8080", "LOCALHOST"]
)
def test_this_machines_names_are_known(as_user, host: str) -> None:
    assert as_user("ada").get("/api/v2/version", headers={"Host": host}).status_code == 200


def test_a_health_probe_needs_no_known_host(as_user) -> None:
    assert as_user(None).get("/api/v2/monitor/health", headers={"Host": "10.1.2.3:8080"}).status_code == 200


def test_added_and_configured_hosts_are_known(monkeypatch) -> None:
    from plugins import access

    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.org/team")
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", "http://api-server:8080/execution/")
    monkeypatch.setenv(access.HOSTS, "10.1.2.3, *.inside.example")
    assert {"airflow.example.org", "api-server", "10.1.2.3", "*.inside.example", "localhost"} <= set(access.hosts())


@pytest.mark.parametrize("path", PAGES)
def test_no_other_site_frames_a_page(as_user, path: str) -> None:
    headers = as_user("ada").get(path).headers
    assert "frame-ancestors 'self'" in headers["Content-Security-Policy"]
    assert headers["X-Frame-Options"] == "SAMEORIGIN"


@pytest.fixture
def run_of(api):
    """Stores a run of an operation's DAG, as if `owner` had triggered it; returns the run's id."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    def make(dag_id: str, owner: str, conf: dict) -> str:
        run_id = f"manual__{uuid.uuid4()}"
        with create_session() as session:
            run = DagRun(dag_id=dag_id, run_id=run_id, run_type=DagRunType.MANUAL, conf=conf)
            run.triggering_user_name, run.triggered_by = owner, DagRunTriggeredByType.REST_API
            session.add(run)
        return run_id

    return make


def trigger(client, dag_id: str, conf: dict | None):
    return client.post(f"/api/v2/dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": conf})


@pytest.mark.parametrize("dag_id", sorted(forms().dag_ids))
def test_an_operation_requires_the_permission_of_the_page(as_user, dag_id: str) -> None:
    rita = as_user(RITA)
    refused = trigger(rita, dag_id, {"pipeline": "ecommerce"})
    need = "see the runs of" if dag_id in forms().read_only else "edit"
    assert refused.status_code == 403
    assert f"{dag_id} on pipeline ecommerce requires permission to {need} ecommerce_minute" in refused.json()["detail"]
    for conf in (None, {}, {"pipeline": None}, {"pipeline": "ecommerc"}, {"pipeline": ["recruitment"]}):
        assert trigger(rita, dag_id, conf).status_code == 403, "Without a known pipeline, a run concerns all of them."
    # No DAG is parsed here: Airflow answers a permitted request with 404.
    assert trigger(rita, dag_id, {"pipeline": "recruitment"}).status_code == (403 if dag_id in forms().for_all else 404)
    assert trigger(as_user("ulf"), dag_id, {}).status_code == 404


def test_an_import_requires_permission_on_the_pipeline_whose_table_it_copies(as_user, run_of) -> None:
    def copy(source: str) -> dict:
        return {"pipeline": "recruitment", "from": source}

    rita, shop = as_user(RITA), pipelines.get("ecommerce")
    for source in (shop.lake_table, f"{shop.keyspace}.operations_before"):
        refused = trigger(rita, "minutemark_import", copy(source))
        assert refused.status_code == 403 and "edit ecommerce_minute" in refused.json()["detail"]
        assert trigger(as_user("ulf"), "minutemark_import", copy(source)).status_code == 404
        run_id = run_of("minutemark_import", "ada", copy(source))
        cleared = rita.post(f"/api/v2/dags/minutemark_import/dagRuns/{run_id}/clear", json={"dry_run": False})
        assert cleared.status_code == 403 and "edit ecommerce_minute" in cleared.json()["detail"]
    own = (f"{pipelines.get('recruitment').keyspace}.tracking_before", "my_keyspace.tracking")
    assert {trigger(rita, "minutemark_import", copy(source)).status_code for source in own} == {404}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "minutemark_release/dagRuns%0A"),
        ("POST", "minutemark_release/dagRuns%0a/"),
        ("POST", "minutemark_release%2FdagRuns"),
        ("POST", "minutemark%5Frelease/dagRuns"),
        ("POST", "~/../minutemark_release/dagRuns"),
        ("POST", "minutemark_release/dagRuns/"),
        ("POST", "minutemark_release//dagRuns"),
        ("POST", "minutemark_release/dagruns"),
        ("POST", "minutemark_release/dagRuns?x=/list"),
        ("POST", "minutemark_release/dagRuns#/list"),
        ("DELETE", "minutemark_release/dagRuns/list"),
        ("DELETE", "minutemark_release/dagRuns/dry_run%0A"),
        ("DELETE", "minutemark_release/dagRuns/{run}/taskInstances/release_minutes/xcomEntries/list"),
        ("PUT", "minutemark_release/dagRuns/{run}/taskInstances/release_minutes/state-store/dry_run"),
        ("PATCH", "minutemark_release/dagRuns/{run}/taskInstances/dry_run"),
    ],
)
def test_no_spelling_of_a_path_avoids_the_permission(as_user, run_of, method: str, path: str) -> None:
    run_id = run_of("minutemark_release", "ada", {"pipeline": "ecommerce"})
    own = run_of("minutemark_release", RITA, {"pipeline": "recruitment"})
    body = {"logical_date": None, "conf": {"pipeline": "ecommerce"}, "dag_run_id": own}
    answer = as_user(RITA).request(method, f"/api/v2/dags/{path.format(run=run_id)}", json=body)
    # Airflow looks for the DAG or the run only if the request is permitted, and names what is missing.
    assert answer.status_code in (403, 404, 405) and "`minutemark_release`" not in answer.text, answer.text
    assert answer.status_code == 403 or "'minutemark_release" not in answer.text, answer.text


@pytest.mark.parametrize("prefix", ["", "/team"])
def test_a_route_is_found_below_the_path_of_base_url_too(api, prefix: str) -> None:
    path = f"{prefix}/api/v2/dags/minutemark_release/dagRuns"
    for root in {prefix, "/team"}:  # a proxy leaves the prefix in the path, or removes it
        route = route_of({"type": "http", "method": "POST", "path": path, "root_path": root, "app": api})
        assert route == ("POST", TRIGGER, {"dag_id": "minutemark_release"})


def test_every_route_that_changes_a_run_is_checked(api) -> None:
    changing = {path for method, path in routes(api) if method in CHANGES and path.startswith("/api/v2/")}
    others = {path for path in changing if not RUNS.fullmatch(path) and re.search("dags|backfill|asset", path)}
    # These change the DAG itself, the user's favorites, assets, which no operation uses, and backfills, which were
    # permitted when they were created.
    assert others == {
        "/api/v2/dags", "/api/v2/dags/{dag_id}", "/api/v2/dags/{dag_id}/favorite", "/api/v2/dags/{dag_id}/unfavorite",
        "/api/v2/dags/{dag_id}/assets/queuedEvents", "/api/v2/dags/{dag_id}/assets/{asset_id}/queuedEvents",
        "/api/v2/assets/events", "/api/v2/assets/{asset_id}/materialize", "/api/v2/assets/{asset_id}/queuedEvents",
        "/api/v2/assets/{asset_id}/state-store", "/api/v2/assets/{asset_id}/state-store/{key:path}",
        "/api/v2/backfills/dry_run", "/api/v2/backfills/{backfill_id}/cancel", "/api/v2/backfills/{backfill_id}/pause",
        "/api/v2/backfills/{backfill_id}/unpause",
    }  # fmt: skip


def test_neither_a_viewer_nor_an_anonymous_user_triggers_anything(as_user) -> None:
    for dag_id in forms().dag_ids:
        assert trigger(as_user("vera"), dag_id, {"pipeline": "recruitment"}).status_code == 403
        assert trigger(as_user(None), dag_id, {"pipeline": "recruitment"}).status_code == 401


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("{dag}/dagRuns/{run}/clear", {"dry_run": False}),
        ("{dag}/dagRuns/{run}", {"state": "queued"}),
        ("{dag}/clearTaskInstances", {"dry_run": False, "dag_run_id": "{run}"}),
        ("{dag}/clearDagRuns", {"dry_run": False, "dag_runs": [{"dag_run_id": "{run}"}]}),
        ("~/clearDagRuns", {"dry_run": False, "dag_runs": [{"dag_run_id": "{run}", "dag_id": "{dag}"}]}),
        ("{dag}/dagRuns/{run}/taskInstances/import_rows/xcomEntries", {"key": "report", "value": "x"}),
    ],
)
def test_a_run_that_was_triggered_for_another_pipeline_cannot_be_repeated(
    as_user, run_of, path: str, body: dict
) -> None:
    dag_id = "minutemark_import"
    run_id = run_of(dag_id, "ada", {"pipeline": "ecommerce", "file": "x.csv"})
    method = "PATCH" if path.endswith("{run}") else "POST"
    request_body = json.loads(json.dumps(body).replace("{run}", run_id).replace("{dag}", dag_id))
    answer = as_user(RITA).request(method, f"/api/v2/dags/{path.format(dag=dag_id, run=run_id)}", json=request_body)
    assert answer.status_code == 403 and "ecommerce_minute" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        (
            "POST",
            "minutemark_import/clearTaskInstances",
            {"dag_run_id": "{run}", "dry_run": False, "include_past": True},
        ),
        (
            "POST",
            "minutemark_import/clearTaskInstances",
            {"dag_run_id": "{run}", "dry_run": False, "include_future": True},
        ),
        (
            "PATCH",
            "recruitment_minute/dagRuns",
            {"actions": [{"action": "delete", "entities": [{"dag_id": "minutemark_import", "dag_run_id": "any"}]}]},
        ),
        (
            "PATCH",
            "minutemark_import/dagRuns/{run}/taskInstances",
            {"actions": [{"action": "delete", "entities": [{"task_id": "import_rows", "dag_run_id": "another"}]}]},
        ),
    ],
)
def test_permission_for_one_dags_runs_gives_no_access_to_others(
    as_user, run_of, method: str, path: str, body: dict
) -> None:
    run_id = run_of("minutemark_import", RITA, {"pipeline": "recruitment", "file": "x.csv"})
    request_body = json.loads(json.dumps(body).replace("{run}", run_id))
    answer = as_user(RITA).request(method, f"/api/v2/dags/{path.format(run=run_id)}", json=request_body)
    assert answer.status_code == 403 and "ecommerce_minute" in answer.json()["detail"]


def test_a_release_cannot_be_repeated_in_another_users_name(as_user, run_of) -> None:
    run_id = run_of("minutemark_release", "ada", {"pipeline": "recruitment"})
    path = f"/api/v2/dags/minutemark_release/dagRuns/{run_id}/clear"
    refused = as_user("ulf").post(path, json={"dry_run": False})
    assert refused.status_code == 403 and "Trigger a run of your own" in refused.json()["detail"]
    assert as_user("ada").post(path, json={"dry_run": False}).status_code == 404


def test_other_dags_are_left_to_airflows_own_permissions(as_user) -> None:
    assert trigger(as_user(RITA), "recruitment_minute", {}).status_code == 404
    listed = as_user(RITA).post("/api/v2/dags/~/dagRuns/list", json={"dag_ids": ["minutemark_import"]})
    assert listed.status_code == 200


def test_an_error_in_a_declaration_does_not_block_other_dags(as_user, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "include.commands", None)  # as if it could not be imported
    monkeypatch.delattr(include, "commands")
    forms.cache_clear()
    assert trigger(as_user(RITA), "recruitment_minute", {}).status_code == 404
    assert trigger(as_user("ada"), "minutemark_import", {"pipeline": "recruitment"}).status_code == 500
