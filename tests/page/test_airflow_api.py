"""The local stack's client for Airflow's API, tested on the API itself."""

from __future__ import annotations

import sys
from urllib.error import HTTPError

from bench import minutes
from include.pipelines import all_pipelines
from local import start
from local.airflow_api import Airflow
from tests.page import tour


class _InProcess(Airflow):
    """Sends requests to the tests' app instead of a port."""

    def __init__(self, client) -> None:
        super().__init__(port=0)
        self._client = client

    def _send(self, method: str, path: str, body=None) -> dict:
        response = self._client.request(method, path, json=body)
        if response.is_error:
            raise HTTPError(path, response.status_code, response.text, None, None)
        return response.json()


def test_all_dags_are_listed_even_if_a_page_of_the_api_has_fewer(as_user, monkeypatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__MAXIMUM_PAGE_LIMIT", "5")
    with tour.dags() as dag_ids:
        assert len(dag_ids) > 10
        assert sorted(_InProcess(as_user("ada")).dags()) == dag_ids


def test_a_minute_dag_that_a_user_has_paused_gets_no_first_run(as_user, monkeypatch, tmp_path) -> None:
    """Its run would stay queued, and `make run` would wait for it."""
    monkeypatch.setattr(start, "_UNPAUSED", tmp_path / "unpaused")
    start._UNPAUSED.write_text("recruitment_minute\n")  # an earlier start unpaused it, and a user has paused it since
    stack = object.__new__(start.Stack)
    stack.airflow = _InProcess(as_user("ada"))
    with tour.dags():
        stack.start_pipelines()
        runs = {name: len(stack.airflow.runs(f"{name}_minute")) for name in all_pipelines()}
    assert runs == {"recruitment": 0, "ecommerce": 1}
    assert stack.first_runs == ["ecommerce_minute"]


def test_the_latency_of_a_dag_that_does_not_exist_is_refused_with_the_dags_to_name(
    as_user, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(minutes, "Airflow", lambda _: _InProcess(as_user("ada")))
    monkeypatch.setattr(sys, "argv", ["minutes", "--dag", "shop_minute"])
    assert minutes.main() == 2
    assert "it has no DAG shop_minute" in capsys.readouterr().err
