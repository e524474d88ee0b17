"""The DAGs as Airflow parses them, the demo's and those that follow topics among them."""

from __future__ import annotations

import os

import pytest

from tests.airflow_home import PROJECT


@pytest.fixture(scope="session")
def dag_bag():
    everything = {"MINUTEMARK_DEMO": "1", "MINUTEMARK_INGEST": "dag"}
    before = {name: os.environ.get(name) for name in everything}
    os.environ |= everything
    try:
        from airflow.models import DagBag

        return DagBag(str(PROJECT / "dags"))
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="session")
def dags(dag_bag):
    assert dag_bag.import_errors == {}
    return dag_bag.dags
