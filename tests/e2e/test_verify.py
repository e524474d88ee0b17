"""The verify DAG: it succeeds if there are no differences; otherwise it fails and is not retried."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from tests.e2e.runs import change, write
from tests.reference.rows import click

pytestmark = pytest.mark.usefixtures("schemas")

NOON = datetime(2026, 3, 1, 12, 0, 5)
AT_ONCE = {"patience": 0}


def test_verify_fails_on_a_difference_and_is_not_retried(airflow):
    write([click(NOON, 1), click(NOON, 2, bid="2.25")])
    airflow.catch_up()
    airflow.run("minutemark_verify", conf=AT_ONCE).must_succeed()
    change("UPDATE recruitment.events SET clicks = clicks + 1")
    run = airflow.run("minutemark_verify", conf=AT_ONCE)
    assert run.tasks == {"verify": "failed"}, "A task that is retried would be up_for_retry."
    assert "There are differences. The report lists them." in run.log and "recruitment.events" in run.log
    report = json.loads(airflow.xcom(run, "report"))  # what the Pipelines page shows
    assert report["pipelines"]["recruitment"]["totals"]["differences"] > 0 and not report["clean"]
