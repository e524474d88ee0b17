"""An Airflow for the end-to-end tests, started once for each warehouse server."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.e2e.runs import Airflow


@pytest.fixture(scope="session")
def _workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Airflow]]:
    """A worker for each warehouse server, started when it is first needed: importing Airflow takes seconds."""
    workers: dict[str, Airflow] = {}

    def worker(server: str) -> Airflow:
        if server not in workers:
            workers[server] = Airflow(tmp_path_factory.mktemp("airflow"))
        return workers[server]

    yield worker
    for started in workers.values():
        started.stop()


@pytest.fixture(scope="module")
def airflow(stores: dict[str, str], _workers: Callable[[str], Airflow]) -> Airflow:
    """A worker that runs this project's DAGs on the stores of this module."""
    return _workers(stores["AIRFLOW_CONN_WAREHOUSE_ETL"])
