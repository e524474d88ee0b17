"""The DAGs, including optional ones, as Airflow parses them with either schedule.

All files are parsed for the ingest mode dag, and dags/dead_letters.py for connect too.
"""

from __future__ import annotations

import pytest

from tests.airflow_home import PROJECT


def parse_dags(path: str, ingest_mode: str, schedule: str):
    from airflow.models import DagBag

    settings = {
        "MINUTEMARK_DEMO": "1",
        "MINUTEMARK_EXAMPLES": "1",
        "MINUTEMARK_INGEST": ingest_mode,
        "MINUTEMARK_BIGQUERY": "project.lakehouse",
        "MINUTEMARK_LAKEHOUSE": "file:///lakehouse",
        "MINUTEMARK_SCHEDULE": schedule,
    }
    with pytest.MonkeyPatch.context() as environment:
        for name, value in settings.items():
            environment.setenv(name, value)
        return DagBag(str(PROJECT / path))


@pytest.fixture(scope="session", params=["minute", "continuous"])
def schedule(request) -> str:
    return request.param


@pytest.fixture(scope="session")
def dag_bag(schedule):
    bag = parse_dags("dags", "dag", schedule)
    connect_bag = parse_dags("dags/dead_letters.py", "connect", schedule)
    bag.dags.update(connect_bag.dags)
    bag.import_errors.update(connect_bag.import_errors)
    return bag


@pytest.fixture(scope="session")
def dags(dag_bag):
    assert dag_bag.import_errors == {}
    return dag_bag.dags
