"""The events of the demo's history through the whole chain: each counts once, and each decision has a campaign.

Nothing is sent if the warehouse already has past events of another sender.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.e2e.runs import change, query

pytestmark = pytest.mark.usefixtures("schemas")

DEMO = {"MINUTEMARK_DEMO": "1"}
ROWS = (
    "SELECT SUM(raw_rows), SUM(counted_rows), SUM(rejected_rows) FROM etl.minute_ledger WHERE pipeline = 'recruitment'"
)


def test_the_past_is_counted_and_every_decision_is_there(airflow):
    airflow.run("recruitment_demo_past", environment=DEMO).must_succeed()
    airflow.run().must_succeed()
    [(rows, counted, rejected)] = query(ROWS)
    assert rows > 40_000 and counted > rows / 4 and 0 < rejected < rows / 50
    [(held,)] = query("SELECT COUNT(*) FROM etl.minute_ledger WHERE state <> 'merged'")
    assert held == 0
    decisions = dict(query("SELECT name, decision FROM recruitment.board_decisions WHERE kind = 'campaign'"))
    assert (decisions["campaign 902"], decisions["campaign 903"], decisions["campaign 906"]) == (
        "raise",
        "stop",
        "stop",
    )
    assert decisions["campaign 907"] == "watch"  # too few applications
    publishers = dict(query("SELECT name, decision FROM recruitment.board_decisions WHERE kind = 'publisher'"))
    assert set(publishers.values()) == {"raise", "watch", "stop"}
    # The newest full hour may be the previous one: the past events end five minutes before now.
    [(hours,)] = query(
        "SELECT COUNT(DISTINCT hour) FROM recruitment.events WHERE hour >= UTC_TIMESTAMP() - INTERVAL 25 HOUR"
    )
    assert hours >= 24


def test_past_events_that_are_sent_again_count_once(airflow):
    [(newest,)] = query("SELECT MAX(minute) FROM etl.minute_ledger")
    first = query(f"{ROWS} AND minute <= %(newest)s", newest=newest)
    airflow.run("recruitment_demo_past", environment=DEMO).must_succeed()
    airflow.run().must_succeed()
    assert query(f"{ROWS} AND minute <= %(newest)s", newest=newest) == first


def test_nothing_is_sent_if_past_events_exist_already(airflow):
    [(minute,)] = query("SELECT MAX(minute) FROM etl.minute_ledger WHERE minute < UTC_TIMESTAMP() - INTERVAL 2 HOUR")
    change(
        "INSERT INTO etl.minute_ledger (pipeline, minute, seen_changed_at, raw_rows, state) "
        f"VALUES ('recruitment', '{minute + timedelta(minutes=1)}', 'x', 1, 'merged')"
    )
    run = airflow.run("recruitment_demo_past", environment=DEMO)
    assert run.tasks["send_past"] == "skipped"
