"""A tour of every endpoint of Airflow's API server, without a login and as each role, with runs that have something to show.

No answer has a password. Only roles with permission to read the connection warehouse_etl see rows, and no role changes
anything without permission.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from include.warehouse.session import warehouse
from tests.page import tour
from tests.page.auth_manager import FORBIDDEN_DAG, RITA
from tests.page.states import CHANGE, SECRET, USERS, reject_and_hold
from tests.page.tour import CHANGES, MARK, ROW, STORED, STORED_VARIABLE, fill
from tests.warehouse.lab import Lab

SHELL = {
    "/{rest_of_path:path}", "/auth/{rest_of_path:path}", "/api/{_:path}", "/api/v1/{_:path}", "/health", "/docs", "/redoc",
    "/openapi.json", "/docs/oauth2-redirect", "/auth/docs", "/auth/redoc", "/auth/openapi.json", "/auth/docs/oauth2-redirect",
}  # no data in these  # fmt: skip
# Without a login: health and version for probes, and the login itself.
LOGIN = {"/api/v2/auth/login", "/api/v2/auth/logout", "/auth/token", "/auth/token/login", "/auth/token/cli"}
PUBLIC = {"/api/v2/monitor/health", "/api/v2/version"} | LOGIN
RUN = "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}"
TASK = f"{RUN}/taskInstances/{{task_id}}"
LOG = f"{TASK}/logs/{{try_number}}"
REJECTED = "/minutemark/api/pipelines/{pipeline}/rejected"
# Where Airflow shows a run's conf, its log, its XComs and its rendered fields to users with permission on the DAG.
SHOWS_RUN = {
    RUN, f"{RUN}/taskInstances", f"{RUN}/wait", TASK, f"{TASK}/{{map_index}}", LOG, f"{TASK}/xcomEntries/{{xcom_key:path}}",
    "/api/v2/dags/{dag_id}/dagRuns", "/api/v2/eventLogs", "/api/v2/eventLogs/{event_log_id}", "/api/v2/backfills",
    "/api/v2/backfills/{backfill_id}", "/ui/backfills", "/api/v2/dags/~/dagRuns", "/api/v2/dags/~/dagRuns/list",
    "/api/v2/dags/~/dagRuns/~/taskInstances", "/api/v2/dags/~/dagRuns/~/taskInstances/list",
}  # fmt: skip
SHOWS_VARIABLES = {"/api/v2/variables", "/api/v2/variables/{variable_key:path}"}


# What the tour's database does not contain, such as asset events, and settings that Airflow shows to no user.
NOTHING_THERE = re.compile(
    "asset|state-store|hitlDetails|listMapped|partitioned|importErrors|externalLogUrl|enqueue-test|/config|/teams"
)
# Changes that affect only the user who makes them, so every role may make them.
OWN_CHANGES = {"/api/v2/dags/{dag_id}/favorite", "/api/v2/dags/{dag_id}/unfavorite", "/ui/auth/token"}
UNCHANGED = (
    "/api/v2/dags/{dag_id}", RUN, TASK, f"{TASK}/xcomEntries/{{xcom_key:path}}", "/api/v2/backfills/{backfill_id}",
    "/api/v2/connections", "/api/v2/variables", "/api/v2/pools",
)  # fmt: skip


@pytest.fixture(scope="module")
def runs(api, as_user: Callable, warehouse_schema: None, tmp_path_factory) -> Iterator[dict]:
    """A run of the shop's minute DAG and an import of a file with one rejected row."""
    from dags.operations import import_rows

    folder: Path = tmp_path_factory.mktemp("data")
    row = f"{ROW},a,1,1,1"
    (folder / "job.csv").write_text(
        "id,title,status,group_id,campaign_id,company_id,created_date,last_modified_date\n"
        f"1,{row},2020-01-01,2020-01-01\n,{row},2020-01-01,2020-01-01\n2,{row},soon,2020-01-01\n"
    )
    conf = {"pipeline": "recruitment", "table": "job", "file": "job.csv", "from": None, "max_rejected": 50}
    log = io.StringIO()
    with pytest.MonkeyPatch.context() as environment, contextlib.redirect_stdout(log), warehouse() as conn:
        environment.setenv("MINUTEMARK_IMPORT_ROOT", str(folder))
        reject_and_hold(Lab(conn))
        import_rows.function(params=conf | {"encoding": None, "format": None})
    with tour.dags() as dag_ids:
        tour.store()
        ada = as_user("ada")
        yield {
            "dags": dag_ids,
            "forbidden": tour.run_of(ada, FORBIDDEN_DAG, "transform_delta", {"note": MARK}, log=MARK, xcom=MARK),
            "import": tour.run_of(ada, tour.IMPORT, "import_rows", conf, log=log.getvalue(), xcom=None),
        }


def passwords() -> list[str]:
    known = [
        json.loads(value) for name, value in os.environ.items() if name.startswith("AIRFLOW_CONN_") and value[0] == "{"
    ]
    return [STORED, *(connection["password"] for connection in known if connection.get("password"))]


def texts(client, paths, run: dict[str, str]) -> dict[str, str]:
    return {path: client.get(fill(path, run)).text for path in paths}


def statuses(client, routes, run: dict[str, str]) -> dict[tuple[str, str], int]:
    """The status of each route for that run; bodies are complete, so that the permission decides and not a missing field."""
    return {
        (method, path): client.request(
            method, fill(path, run), headers=CHANGE, json=tour.BODIES.get((method, path), {}), follow_redirects=False
        ).status_code
        for method, path in routes
    }


def test_without_a_login_nothing_answers_but_health_version_and_the_login(api, as_user, runs) -> None:
    routes = [*tour.ROUTES_FOR_ALL, *(route for route in tour.routes(api) if route[1] not in PUBLIC | SHELL)]
    answered = statuses(as_user(None), routes, runs["forbidden"])
    assert len(answered) > 150
    dag_routes = [("GET", "/api/v2/dags/{dag_id}/details"), ("POST", "/api/v2/dags/{dag_id}/dagRuns")]
    for dag_id in runs["dags"]:
        answered |= {
            (dag_id, *route): status
            for route, status in statuses(as_user(None), dag_routes, {"dag_id": dag_id}).items()
        }
    assert {route: status for route, status in answered.items() if status not in (401, 403)} == {}


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # of Airflow's own answer with a log
@pytest.mark.parametrize("name", [*USERS, RITA])
def test_no_role_gets_a_password_and_rows_require_permission_to_read_the_connection(
    api, as_user, runs, name: str
) -> None:
    client, secrets = as_user(name), passwords()
    assert len(secrets) > 1, "The warehouse of these tests has accounts with passwords."
    answered = {}
    shown = {text: set() for text in (SECRET, ROW, MARK, STORED_VARIABLE)}
    routes = [
        *tour.ROUTES_FOR_ALL,
        *(route for route in tour.routes(api) if route[0] == "GET" and route[1] not in SHELL | LOGIN),
    ]
    for method, path in routes:
        answer = client.request(method, fill(path, runs["forbidden"]), json={} if method == "POST" else None)
        answered[path] = answer.status_code
        assert not [secret for secret in secrets if secret in answer.text], f"{path} shows a password to {name}."
        for text, paths in shown.items():
            if text in answer.text.replace('\\"', '"'):
                paths.add(path)
    sees_rows = USERS.get(name) in ("op", "admin")
    assert shown[SECRET] == shown[ROW] == ({REJECTED} if sees_rows else set())
    assert shown[STORED_VARIABLE] == (SHOWS_VARIABLES if sees_rows else set())
    assert shown[MARK] == (SHOWS_RUN if name != RITA else set()), (
        "Every endpoint that shows a run was reached, and rita sees none of them."
    )
    if name == "ada":
        unanswered = {path for path, status in answered.items() if status >= 400 and not NOTHING_THERE.search(path)}
        assert unanswered == set(), "Give their placeholders a value in tests/page/tour.py."
    log = client.get(fill(LOG, runs["import"])).text
    assert "job.csv" in log and "1 rejected" in log and ROW not in log


@pytest.mark.parametrize("name", ["vera", "ulf", RITA])
def test_no_role_changes_what_it_has_no_permission_for(api, as_user, runs, name: str) -> None:
    """A viewer changes nothing, a user only DAGs, and rita nothing of the DAG that she has no permission on."""

    def is_forbidden(path: str) -> bool:
        is_about_dags = (
            "/dags" in path or "/backfills" in path or path.startswith(("/minutemark", "/api/v2/parseDagFile"))
        )
        return name == "vera" or is_about_dags == (name == RITA) and not path.startswith("/minutemark")

    before = texts(as_user("ada"), UNCHANGED, runs["forbidden"])
    routes = [route for route in tour.routes(api) if route[0] in CHANGES and is_forbidden(route[1])]
    routes = [route for route in routes if route[1] not in LOGIN | OWN_CHANGES and not route[1].endswith("/list")]
    assert len(routes) > 15
    answered = statuses(as_user(name), routes, runs["forbidden"])
    others = {route for route, status in answered.items() if status != 403}
    # Airflow hides the backfills of a forbidden DAG, and pauses only the DAGs that are not forbidden.
    hidden = {("PUT", f"/api/v2/backfills/{{backfill_id}}/{change}") for change in ("cancel", "pause", "unpause")}
    assert others <= (hidden | {("PATCH", "/api/v2/dags")} if name == RITA else set())
    assert texts(as_user("ada"), UNCHANGED, runs["forbidden"]) == before
