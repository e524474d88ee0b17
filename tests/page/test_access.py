"""Access to the page: Airflow's permissions apply, and other sites cannot change anything."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.airflow_home import PROJECT, bare_environment
from tests.page.states import CHANGE, DATA, SECRET, USERS, drift, minutes_ago
from tests.warehouse.lab import Lab

RELEASE = f"{DATA}/recruitment/release"
HEAVY_MODULES = ("plugins.pipelines_page", "pipelines_page", "include.page", "include.pipelines", "MySQLdb")


def releases(lab: Lab) -> list[tuple]:
    return lab.query("SELECT released_by, reason FROM etl.releases")


def test_every_route_refuses_anonymous_requests(as_user) -> None:
    from plugins.pipelines_page import app

    anonymous, seen = as_user(None), 0
    for route in app.routes:
        path = route.path.replace("{pipeline}", "recruitment").replace("{name}", "page.js")
        for method in route.methods:
            answer = anonymous.request(method, f"/minutemark{path}", headers=CHANGE)
            assert answer.status_code == 401, f"{method} {path} answers {answer.status_code}"
            seen += 1
    assert seen >= 10


def test_a_token_that_airflow_did_not_sign_is_refused(as_user) -> None:
    client = as_user(None)
    client.cookies.set("_token", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEiLCJyb2xlIjoiYWRtaW4ifQ.")
    assert client.get(DATA).status_code in (401, 403)


@pytest.mark.parametrize("name", USERS)
def test_users_with_permission_to_see_the_runs_see_the_pipelines(as_user, lab: Lab, name: str) -> None:
    result = as_user(name).get(DATA).json()
    assert (result["user"], [pipeline["pipeline"] for pipeline in result["pipelines"]]) == (
        name,
        ["ecommerce", "recruitment"],
    )
    assert {pipeline["may_edit"] for pipeline in result["pipelines"]} == {USERS[name] != "viewer"}


@pytest.mark.parametrize("name", USERS)
def test_users_with_permission_to_trigger_the_verification_get_its_form(as_user, lab: Lab, name: str) -> None:
    client = as_user(name)
    answer = client.post("/api/v2/dags/minutemark_verify/dagRuns", json={"logical_date": None})
    assert client.get(DATA).json()["may_verify"] == (answer.status_code != 403)


def test_only_users_with_permission_to_edit_the_dag_can_release_a_minute_and_the_record_names_them(
    as_user, lab: Lab, held: dict
) -> None:
    refused = as_user("vera").post(RELEASE, json=held, headers=CHANGE)
    assert (refused.status_code, releases(lab)) == (403, [])
    done = as_user("ulf").post(RELEASE, json=held, headers=CHANGE)
    assert done.status_code == 200 and done.json()["message"].startswith("Released by ulf: ")
    assert releases(lab) == [("ulf", "on purpose")]


def test_a_release_is_in_airflows_audit_log(as_user, lab: Lab, held: dict) -> None:
    assert as_user("otto").post(RELEASE, json=held, headers=CHANGE).status_code == 200
    entries = as_user("ada").get("/api/v2/eventLogs", params={"event": "minutemark_release", "owner": "otto"}).json()
    assert held["minute"] in entries["event_logs"][0]["extra"]


def test_only_users_with_permission_to_edit_the_dag_accept_drift_and_the_record_names_them(as_user, lab: Lab) -> None:
    drift(lab, minutes_ago(lab, 5))
    path, body = f"{DATA}/recruitment/accept", {"field": "job_id", "kind": "disappeared", "why": "on purpose"}
    shown = {row["field"]: row["status"] for row in as_user("vera").get(f"{DATA}/recruitment/drift").json()["drifts"]}
    assert shown == {"job_id": "open", "jobId": "reported"}
    assert as_user("vera").post(path, json=body, headers=CHANGE).status_code == 403
    assert as_user("ulf").post(path, json=body, headers={"Content-Type": "application/json"}).status_code == 403
    assert lab.query("SELECT accepted_by FROM etl.drifts WHERE accepted_by IS NOT NULL") == []
    assert as_user("ulf").post(path, json=body | {"drift_id": 10**9}, headers=CHANGE).status_code == 409, (
        "No drift has this id."
    )
    done = as_user("ulf").post(path, json=body, headers=CHANGE)
    assert done.status_code == 200 and done.json()["minutes"] == 1
    assert lab.query("SELECT field, accepted_by, reason FROM etl.drifts WHERE kind = 'disappeared'") == [
        ("job_id", "ulf", "on purpose")
    ]
    again = as_user("ulf").post(path, json=body, headers=CHANGE)
    assert again.status_code == 409 and "waits to be accepted" in again.json()["detail"]
    entries = as_user("ada").get("/api/v2/eventLogs", params={"event": "minutemark_accept", "owner": "ulf"}).json()
    assert "job_id" in entries["event_logs"][0]["extra"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        CHANGE | {"Content-Type": "text/plain"},
        CHANGE | {"Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.example"},
        CHANGE | {"Sec-Fetch-Site": "same-site"},
        CHANGE | {"Origin": "https://elsewhere.example"},
        CHANGE | {"Origin": "null"},  # from a sandboxed frame or a file
    ],
    ids=["no header", "no json", "cross-site", "same-site", "another origin", "no origin"],
)
def test_another_site_cannot_make_a_users_browser_release_a_minute(
    as_user, lab: Lab, held: dict, headers: dict
) -> None:
    answer = as_user("ada").post(RELEASE, json=held, headers={"Content-Type": "application/json", **headers})
    assert (answer.status_code, releases(lab)) == (403, [])


def test_the_page_itself_may_release(as_user, lab: Lab, held: dict) -> None:
    own = CHANGE | {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}
    assert as_user("ada").post(RELEASE, json=held, headers=own).status_code == 200


def test_samples_require_permission_to_read_connections(as_user, lab: Lab, held: dict) -> None:
    for name, sees in (("vera", False), ("ulf", False), ("otto", True), ("ada", True)):
        client = as_user(name)
        answers = {view: client.get(f"{DATA}/recruitment/{view}") for view in ("held", "rejected", "gates")}
        assert {answer.status_code for answer in answers.values()} == {200}
        assert (SECRET.replace('"', '\\"') in answers["rejected"].text) == sees
        [minute] = answers["held"].json()["minutes"]
        assert [bool(check["sample"]) for check in minute["checks"]] == [sees]
        assert any(finding["sample"] for finding in answers["gates"].json()["findings"]) == sees


def test_airflow_itself_refuses_a_viewers_backfill(as_user) -> None:
    request = {"dag_id": "recruitment_reconcile", "from_date": "2026-03-01T00:00Z", "to_date": "2026-03-01T01:00Z"}
    assert as_user("vera").post("/api/v2/backfills", json=request).status_code == 403
    assert as_user("ulf").post("/api/v2/backfills", json=request).status_code == 404  # no DAG is parsed here


def test_no_code_from_another_host_and_no_inline_code_may_run(as_user) -> None:
    client = as_user("vera")
    page = client.get("/minutemark/pipelines")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
    assert client.get(DATA).headers["Cache-Control"] == "no-store"
    assert "<script>" not in page.text and "style=" not in page.text and "http" not in page.text
    assert client.get("/minutemark/static/page.html").status_code == 404
    assert client.get("/minutemark/static/..%2f__init__.py").status_code == 404


def test_the_page_is_a_top_level_entry_of_airflows_menu(as_user) -> None:
    plugins = as_user("ada").get("/api/v2/plugins").json()["plugins"]
    [view] = [view for plugin in plugins for view in plugin["external_views"] if view["url_route"] == "pipelines"]
    assert (view["name"], view["nav_top_level"], view["destination"]) == ("Pipelines", True, "nav")
    for link in (view["href"], view["icon"], view["icon_dark_mode"]):
        assert as_user("vera").get(f"/{link}").status_code == 200


def test_loading_the_plugin_imports_nothing_of_the_page() -> None:
    code = (
        "import sys\n"
        "from airflow import plugins_manager\n"
        "assert plugins_manager.get_fastapi_plugins()[0][0]['url_prefix'] == '/minutemark'\n"
        "assert not plugins_manager.get_import_errors()\n"
        f"print('IMPORTED', *(name for name in {HEAVY_MODULES} if name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=bare_environment(), cwd=PROJECT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "IMPORTED"), done.stdout + done.stderr
