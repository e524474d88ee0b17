"""An Airflow for the end-to-end tests, started once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.runs import Airflow


@pytest.fixture(scope="session")
def airflow(stores: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """A worker that runs this project's DAGs on the stores of this session."""
    worker = Airflow(tmp_path_factory.mktemp("airflow"))
    yield worker
    worker.stop()
