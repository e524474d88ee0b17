"""The page as Airflow's API server serves it, on a real warehouse server, with a user of every role."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import airflow_home  # noqa: F401  (before Airflow)
from tests.page.auth_manager import RITA
from tests.page.states import USERS, reject_and_hold, text
from tests.warehouse.conftest import lab  # noqa: F401
from tests.warehouse.lab import Lab

SETTINGS = {
    "AIRFLOW__CORE__AUTH_MANAGER": "tests.page.auth_manager.DagPermissions",
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(
        f"{name}:{role}" for name, role in (USERS | {RITA: "user"}).items()
    ),
    "AIRFLOW__API_AUTH__JWT_SECRET": "a secret that the tokens of these tests are signed with, no other",
}


@pytest.fixture(scope="session")
def api() -> Iterator:
    """Airflow's complete app: its auth manager, its middlewares, its API, and this project's plugin."""
    before = {name: os.environ.get(name) for name in SETTINGS}
    os.environ.update(SETTINGS)
    from airflow.api_fastapi.app import create_app, purge_cached_app
    from airflow.utils.db import initdb

    initdb()
    purge_cached_app()
    yield create_app(apps="core")
    purge_cached_app()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="session")
def as_user(api) -> Callable:
    """Makes a client like a browser, logged in as the user of this name, or not logged in if the name is None."""
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
    from fastapi.testclient import TestClient

    passwords = json.loads(Path(SimpleAuthManager.get_generated_password_file()).read_text())

    def client(name: str | None) -> TestClient:
        test_client = TestClient(api, "http://localhost", raise_server_exceptions=False)
        if name is not None:
            answer = test_client.post("/auth/token", json={"username": name, "password": passwords[name]})
            test_client.cookies.set("_token", answer.json()["access_token"])
        return test_client

    return client


@pytest.fixture
def held(lab: Lab) -> dict:  # noqa: F811  (a fixture by its name)
    """A held minute, and a rejected event of the minute before it; returns the body of a request to release the held minute."""
    return {"minute": text(reject_and_hold(lab)), "why": "on purpose"}
