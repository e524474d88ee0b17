"""A batch that fails the gate before the merge: none of it is published, and it is not lost."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from tests.e2e.comparison import must_equal_reference
from tests.e2e.runs import published, query, text, write
from tests.reference.rows import click

pytestmark = pytest.mark.usefixtures("schemas")

NOON = datetime(2026, 3, 1, 12, 0, 5)
GOOD = [click(NOON + timedelta(milliseconds=number), 1) for number in range(80)]
BROKEN = [click(NOON + timedelta(milliseconds=number), 2, ts="?") for number in range(25)]  # 24 % of 105 rows
MORE = [click(NOON + timedelta(milliseconds=number), 3) for number in range(100)]  # then 12 %


def test_a_batch_that_fails_its_gate_publishes_nothing_and_says_why(airflow):
    before = published()
    write(GOOD + BROKEN)
    run = airflow.run()
    assert (run.state, run.tasks["check_staging"]) == ("failed", "failed")
    assert run.tasks["merge_into_warehouse"] == "upstream_failed"
    assert published()["recruitment.events"] == published()["recruitment.events_by_minute"] == []
    assert published()["etl.rejected_events"] == before["etl.rejected_events"]
    [(outcome, offending)] = query(
        "SELECT outcome, offending_rows FROM etl.check_results WHERE gate = 'staging' AND outcome = 'fail'"
    )
    assert (outcome, offending > 0) == ("fail", True)


def test_clearing_the_failed_gate_fails_again(airflow):
    [(run_id,)] = query("SELECT run_id FROM etl.batches")
    run = airflow.run(run_id=run_id, clear=["check_staging", "merge_into_warehouse", "check_warehouse"])
    assert run.tasks["check_staging"] == "failed"
    assert published()["recruitment.events"] == []


def test_releasing_what_is_held_publishes_it_once_with_a_warning(airflow):
    minute = text(NOON.replace(second=0))
    airflow.run("minutemark_release", conf={"pipeline": "recruitment", "minute": minute, "why": "meant"}).must_succeed()
    airflow.run().must_succeed()
    must_equal_reference(GOOD + BROKEN, {})
    assert query("SELECT released_by, reason, used_by_batch IS NOT NULL FROM etl.releases") == [
        ("dag_test", "meant", 1)
    ]
    [(outcome,)] = query(
        "SELECT outcome FROM etl.check_results WHERE check_name = 'staging_rejected_share' "
        "ORDER BY check_result_id DESC LIMIT 1"
    )
    assert outcome == "warn"


def test_a_released_minute_needs_no_further_release_once_it_passes(airflow):
    write(MORE)
    minute = NOON.replace(second=0)
    airflow.run(conf={"from": text(minute), "to": text(minute + timedelta(minutes=1))}).must_succeed()
    must_equal_reference(GOOD + BROKEN + MORE, {})
