"""A tour of Kafka Connect's REST interface without its login shows no configuration or password, and changes nothing."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request

import pytest

from include import pipelines
from include.kafka import connect
from include.kafka.connect import LOGIN_SETTING, URL_SETTING, Connect, ConnectError, restart_failed
from include.kafka.ingest_mode import CONNECT, SETTING
from tests.airflow_home import PROJECT
from tests.docker import sink

NAME = "tourist"
PLUGIN = sink.CLASS
# A source connector could write each variable that the worker exposes to connectors to its topic, and a validation would
# return the variable's value.
CONFIG = {"connector.class": PLUGIN, "topics": "t", "tasks.max": "1", "name": NAME, "x": "${env:LAKE_WRITER_PASSWORD}"}
READS = (
    "/", "/health", "/connectors", "/connectors?expand=info", "/connectors?expand=status",
    f"/connectors/{NAME}", f"/connectors/{NAME}/config", f"/connectors/{NAME}/status", f"/connectors/{NAME}/tasks",
    f"/connectors/{NAME}/tasks/0/status", f"/connectors/{NAME}/topics", f"/connectors/{NAME}/offsets",
    "/connector-plugins", f"/connector-plugins/{PLUGIN}/config", "/admin/loggers", "/admin/loggers/root",
)  # fmt: skip
WRITES = (
    ("OPTIONS", "/connectors", None),
    ("HEAD", "/connectors", None),
    ("POST", "/connectors", {"name": NAME, "config": CONFIG}),
    ("PUT", f"/connectors/{NAME}/config", CONFIG),
    ("PATCH", f"/connectors/{NAME}/config", CONFIG),
    ("PUT", f"/connector-plugins/{PLUGIN}/config/validate", CONFIG),
    ("POST", f"/connectors/{NAME}/restart", None),
    ("POST", f"/connectors/{NAME}/tasks/0/restart", None),
    ("PUT", f"/connectors/{NAME}/pause", None),
    ("PUT", f"/connectors/{NAME}/stop", None),
    ("PUT", f"/connectors/{NAME}/resume", None),
    ("PUT", f"/connectors/{NAME}/topics/reset", None),
    ("PATCH", f"/connectors/{NAME}/offsets", {"offsets": []}),
    ("DELETE", f"/connectors/{NAME}/offsets", None),
    ("DELETE", f"/connectors/{NAME}", None),
    ("PUT", "/admin/loggers/root", {"level": "TRACE"}),
)


def basic(login: str) -> str:
    return f"Basic {base64.b64encode(login.encode()).decode()}"


@pytest.fixture(params=["none", "empty", "no password", "wrong", "unknown", "another scheme"])
def credentials(request, connect_worker):
    """An Authorization header that is not the worker's."""
    account, _, password = connect_worker.login.partition(":")
    return {
        "none": None,
        "empty": "",
        "no password": basic(f"{account}:"),
        "wrong": basic(f"{account}:not-the-password"),
        "unknown": basic(f"root:{password}"),
        "another scheme": f"Bearer {password}",
    }[request.param]


@pytest.fixture
def send(connect_worker):
    """Send a request; return the status and text of its answer."""

    def request(method: str, path: str, credentials: str | None, body: object = None) -> tuple[int, str]:
        headers = {"Content-Type": "application/json"}
        if credentials is not None:
            headers["Authorization"] = credentials
        data = None if body is None else json.dumps(body).encode()
        sent = urllib.request.Request(connect_worker.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(sent, timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    return request


def test_every_request_needs_the_login(connect_worker, send, credentials):
    requests = [*(("GET", path, None) for path in READS), *WRITES]
    answers = {(method, path): send(method, path, credentials, body) for method, path, body in requests}
    assert {request: status for request, (status, _) in answers.items() if status != 401} == {}
    texts = [text for _, text in answers.values()]
    assert not [secret for secret in connect_worker.secrets if secret in "".join(texts)]
    assert NAME not in connect_worker.rest.names()


def test_with_the_login_the_same_requests_are_answered(connect_worker, send):
    """Without this test, the tour would also pass with a worker that refuses everything."""
    paths = [path for path in READS if NAME not in path and PLUGIN not in path]
    assert {send("GET", path, basic(connect_worker.login))[0] for path in paths} == {200}


def test_requests_between_workers_need_the_key_that_the_workers_share(send):
    """Connect accepts these two without a login: it verifies their signature instead."""
    tasks = send("POST", f"/connectors/{NAME}/tasks", None, [CONFIG])
    fence = send("PUT", f"/connectors/{NAME}/fence", None, {})
    assert {tasks[0], fence[0]} <= {400, 403}, (tasks, fence)


@pytest.mark.parametrize(("login", "problem"), [("", "is not set"), ("minutemark:wrong", "is refused")])
def test_a_refused_login_is_explained_and_not_shown(connect_worker, monkeypatch, capsys, login, problem):
    monkeypatch.setenv(SETTING, CONNECT)
    monkeypatch.setenv(LOGIN_SETTING, login)
    message = f"Kafka Connect at {connect_worker.url} requires a login, and {LOGIN_SETTING} {problem} (status 401)."
    with pytest.raises(ConnectError, match="logins.properties"):
        Connect(connect_worker.url, login).names()
    assert connect.main([connect_worker.url, str(PROJECT / "docker" / "connect" / "lake-sink.json")]) == 2
    shown = capsys.readouterr()
    watched = restart_failed(pipelines.get("recruitment"), {URL_SETTING: connect_worker.url, LOGIN_SETTING: login})
    for text in (shown.err, watched):
        assert text.startswith(message) and "wrong" not in text
