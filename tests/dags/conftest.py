"""The DAGs as Airflow parses them, the demo's among them."""

from __future__ import annotations

import os

import pytest

from tests.airflow_home import PROJECT


@pytest.fixture(scope="session")
def dag_bag():
    before = os.environ.get("MINUTEMARK_DEMO")
    os.environ["MINUTEMARK_DEMO"] = "1"
    try:
        from airflow.models import DagBag

        return DagBag(str(PROJECT / "dags"))
    finally:
        os.environ.pop("MINUTEMARK_DEMO") if before is None else os.environ.update(MINUTEMARK_DEMO=before)


@pytest.fixture(scope="session")
def dags(dag_bag):
    assert dag_bag.import_errors == {}
    return dag_bag.dags
