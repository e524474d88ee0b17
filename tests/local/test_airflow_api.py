"""What the local commands report if Airflow's API refuses a request, does not answer, or has ended."""

from __future__ import annotations

import socket
import threading
from datetime import datetime
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from local import airflow_api, start
from local.airflow_api import Airflow
from local.problems import Problem
from local.process import free_port


def stack_of(port: int, folder: Path) -> start.Stack:
    """A stack whose processes were started before; its API server is on that port."""
    stack = object.__new__(start.Stack)
    stack.airflow = Airflow(port, folder / "passwords.json")
    return stack


def test_a_server_that_does_not_answer_is_reported_even_at_the_login(monkeypatch, tmp_path):
    monkeypatch.setattr(airflow_api, "TIMEOUT", 0.2)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(Problem, match=r"no answer to POST /auth/token within 0 s"),
    ):
        stack_of(server.getsockname()[1], tmp_path).start_other_dags()


def test_a_refused_request_is_reported_with_the_answer(tmp_path):
    with HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:  # refuses a POST, and so the login
        threading.Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(Problem, match=r"(?s)501 for http://127.*/auth/token.*Unsupported method.*api-server.log"):
            stack_of(server.server_port, tmp_path).start_other_dags()


def test_a_server_that_has_ended_is_reported_with_its_log(tmp_path):
    with pytest.raises(Problem, match=r"(?s)cannot be reached: .*refused.*api-server.log"):
        stack_of(free_port(), tmp_path).start_other_dags()
    waiting = stack_of(free_port(), tmp_path)
    waiting.first_runs = ["recruitment_minute"]
    with pytest.raises(Problem, match="cannot be reached"):
        start.await_first_merge(waiting, datetime(2026, 3, 1), 5)


def test_while_the_server_starts_its_health_is_an_os_error(tmp_path):
    with pytest.raises(OSError):
        Airflow(free_port(), tmp_path / "passwords.json").health()
