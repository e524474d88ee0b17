"""A tour of everything that Airflow's API server answers, without a login and as each role: no password, and no row but for those
roles that may read the connection whose account reads them."""

from __future__ import annotations

import json
import os

import pytest

from tests.page.world import CHANGE, SECRET, USERS
from tests.warehouse.lab import Lab

# Without a login: health and version for probes, and the login itself.
PUBLIC = {"/api/v2/monitor/health", "/api/v2/version", "/api/v2/auth/login", "/api/v2/auth/logout"}
SHELL = {"/{rest_of_path:path}", "/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect"}  # no data in these
SEES_ROWS = ("op", "admin")


def endpoints(api) -> list[str]:
    """Every GET route of Airflow's API and of the page, with the names of this project in its place holders."""
    from fastapi.routing import APIRoute

    from plugins.pipelines_page import app

    names = {
        "{dag_id}": "minutemark_import", "{dag_run_id}": "x", "{task_id}": "import_rows", "{connection_id}": "warehouse_etl",
        "{pipeline}": "recruitment", "{name}": "page.js",
    }  # fmt: skip
    found = [route.path for route in api.routes if isinstance(route, APIRoute) and "GET" in route.methods]
    found += [f"/minutemark{route.path}" for route in app.routes if "GET" in route.methods]
    for place, name in names.items():
        found = [path.replace(place, name) for path in found]
    return sorted({path for path in found if "{" not in path} | {"/api/v2/connections/kafka_default"})


def passwords() -> list[str]:
    return [
        json.loads(value)["password"]
        for name, value in os.environ.items()
        if name.startswith("AIRFLOW_CONN_") and value.startswith("{") and json.loads(value).get("password")
    ]


@pytest.fixture
def stored(as_user) -> list[str]:
    """Connections in Airflow's own database, where its API finds them; their passwords."""
    broker = json.dumps({"bootstrap.servers": "k:9092", "sasl.username": "minutemark", "sasl.password": "kafka-secret"})
    bodies = [
        {"connection_id": "kafka_default", "conn_type": "kafka", "extra": broker},
        {"connection_id": "warehouse_etl", "conn_type": "mysql", "login": "etl", "password": "etl-secret"},
    ]
    for body in bodies:
        assert as_user("ada").post("/api/v2/connections", json=body, headers=CHANGE).status_code == 201
    assert "minutemark" in as_user("ada").get("/api/v2/connections/kafka_default").text
    yield ["kafka-secret", "etl-secret"]
    for body in bodies:
        as_user("ada").delete(f"/api/v2/connections/{body['connection_id']}", headers=CHANGE)


def test_without_a_login_nothing_answers_but_health_version_and_the_login(api, as_user, held) -> None:
    anonymous = as_user(None)
    paths = [path for path in endpoints(api) if path not in PUBLIC | SHELL]
    assert len(paths) > 40
    answered = {path: anonymous.get(path, headers=CHANGE, follow_redirects=False) for path in paths}
    assert {
        path: answer.status_code for path, answer in answered.items() if answer.status_code not in (401, 403, 404)
    } == {}


@pytest.mark.parametrize("name", USERS)
def test_no_role_gets_a_password_and_rows_are_for_those_who_may_read_the_connection(
    api,
    as_user,
    lab: Lab,
    held,
    stored: list[str],
    name: str,
) -> None:
    client = as_user(name)
    secrets = [*passwords(), *stored]
    assert passwords(), "The warehouse of these tests has accounts with passwords."
    with_rows = set()
    for path in set(endpoints(api)) - {"/api/v2/auth/logout"}:
        text = client.get(path).text
        assert not [password for password in secrets if password in text], f"{path} shows a password to {name}."
        if SECRET.replace('"', '\\"') in text or SECRET in text:
            with_rows.add(path)
    expected = {"/minutemark/api/pipelines/recruitment/rejected"} if USERS[name] in SEES_ROWS else set()
    assert with_rows == expected
