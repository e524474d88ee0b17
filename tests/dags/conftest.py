"""The DAGs as Airflow parses them, the demo's and those of either way in from topics among them."""

from __future__ import annotations

import os
from unittest import mock

import pytest

from tests.airflow_home import PROJECT


def parsed(path: str, way_in: str):
    from airflow.models import DagBag

    with mock.patch.dict(os.environ, {"MINUTEMARK_DEMO": "1", "MINUTEMARK_INGEST": way_in}):
        return DagBag(str(PROJECT / path))


@pytest.fixture(scope="session")
def dag_bag():
    bag, by_connect = parsed("dags", "dag"), parsed("dags/dead_letters.py", "connect")
    bag.dags.update(by_connect.dags)
    bag.import_errors.update(by_connect.import_errors)
    return bag


@pytest.fixture(scope="session")
def dags(dag_bag):
    assert dag_bag.import_errors == {}
    return dag_bag.dags
