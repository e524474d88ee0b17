"""Housekeeping between runs of the chain: late events are counted as if nothing had been removed."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from include.housekeeping import steps
from tests.e2e.comparison import must_conserve_rows, must_equal_reference
from tests.e2e.runs import as_if_settled, change, count, query, write
from tests.reference.rows import click, page_view

pytestmark = pytest.mark.usefixtures("schemas")

NOON = datetime(2026, 3, 1, 12, 0, 5)  # so long ago that its hour is due to be folded
MINUTE = timedelta(minutes=1)
FIRST = [
    click(NOON, 1),
    click(NOON + MINUTE, 2, bid="2.25"),
    page_view(NOON + 2 * MINUTE, 3),
    click(NOON + 2 * MINUTE, 4, bid="-1"),
    click(NOON + 60 * MINUTE, 5, bid="3"),  # the same fact, from the next hour
    click(NOON + 61 * MINUTE, 6, custom_track="alive"),
    click(NOON + 62 * MINUTE, 7),
]
LATE = [click(NOON + MINUTE, 20, bid="8"), click(NOON + 40 * MINUTE, 21)]


def run_housekeeping() -> dict[str, int]:
    """Run every step as if a year later, when everything is past its retention."""
    for table, column in {
        "etl.batches": "opened_at", "etl.attempts": "started_at", "etl.check_results": "checked_at",
        "etl.rejected_events": "rejected_at", "etl.minute_ledger": "merged_at",
    }.items():  # fmt: skip
        change(f"UPDATE {table} SET {column} = {column} - INTERVAL 1 YEAR")
    return {result.what: result.count for step in steps.STEPS for result in steps.run_step(step, {})}


def test_late_events_of_a_folded_hour_are_counted_with_the_rest_of_the_hour(airflow):
    write(FIRST)
    airflow.catch_up()
    facts = query("SELECT * FROM recruitment.events ORDER BY 1, 2, 3, 4, 5, 6")
    done = run_housekeeping()
    assert (done["hours of contributions folded"], done["payloads of rejected events emptied"]) == (2, 1)
    assert query("SELECT * FROM recruitment.events ORDER BY 1, 2, 3, 4, 5, 6") == facts
    as_if_settled()
    write(LATE)
    airflow.run().must_succeed()
    assert query("SELECT hour FROM etl.folded_hours") == [(NOON.replace(second=0) + timedelta(hours=1),)]
    assert count("etl.batch_minutes WHERE batch_id = (SELECT MAX(batch_id) FROM etl.batches)") == 60
    assert query("SELECT payload <> '' FROM etl.rejected_events") == [(1,)], "Its minute was read again."
    must_conserve_rows()
    change("DELETE FROM etl.minute_ledger WHERE raw_rows = 0")  # empty minutes of the hour, which the reference lacks
    must_equal_reference([*FIRST, *LATE], {})
