"""Reprocessing with the real transform: the fates of rows that an import had rejected."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest

from include.operations import reprocess
from include.warehouse.rejected import Selection
from include.warehouse.session import warehouse
from tests.e2e.comparison import must_equal_reference
from tests.e2e.runs import RECRUITMENT, count, write
from tests.reference.rows import click

pytestmark = pytest.mark.usefixtures("schemas")

NOON = datetime(2026, 3, 1, 12, 0, 5)
EXISTING = [click(NOON + timedelta(milliseconds=number), 1) for number in range(20)]
COUNTED, IGNORED, REJECTED = FIXED = [
    click(NOON, 2),
    click(NOON, 3, custom_track="alive"),
    click(NOON, 4, ts="?"),
]


def test_rows_of_an_import_become_events_and_each_fate_is_reported(airflow):
    write(EXISTING)
    airflow.catch_up()
    with warehouse() as conn:
        conn.cursor().executemany(
            "INSERT INTO etl.rejected_events (pipeline, origin, origin_key, reason, payload) "
            "VALUES ('recruitment', 'import', %s, 'create_time is fixed', %s)",
            [(f"sha:{line}", json.dumps(row)) for line, row in enumerate(FIXED)],
        )
        conn.commit()
    started = reprocess.begin(RECRUITMENT, Selection())
    airflow.run().must_succeed()
    assert reprocess.follow(started) == "3 rows of 1 minutes were processed: 1 counted, 1 ignored, 1 still rejected."
    must_equal_reference(EXISTING + FIXED, {})
    assert count("etl.rejected_events WHERE origin = 'import'") == 0


def test_the_dag_reprocesses_rejected_events(airflow):
    before = count("etl.minute_ledger WHERE pending = 1")
    airflow.run("minutemark_replay", conf={"reason": "ts is not a time", "wait": False}).must_succeed()
    assert count("etl.minute_ledger WHERE pending = 1") >= max(before, 1)
    airflow.catch_up()
    must_equal_reference(EXISTING + FIXED, {})
    assert count("etl.rejected_events") == 1
