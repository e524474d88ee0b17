"""The watch on a real server: a problem is reported when it starts, once an hour, and when it is over."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta

import pytest

from include.operations.watch import line_of, watch
from include.warehouse import alerts, ledger, status
from include.warehouse.alerts import Problem
from include.warehouse.errors import WarehouseError
from include.warehouse.session import warehouse
from tests.warehouse.lab import SECOND, Lab, contribution, touched_at

MINUTE = timedelta(minutes=1)
NOON = datetime(2026, 3, 1, 12, 0)
STALE = Problem("recruitment", "stale", NOON - 200 * SECOND, "A change waits.", "Open the run.")


class Channel:
    """A channel that keeps its notices; while it `is_down`, it accepts none."""

    def __init__(self) -> None:
        self.received = []
        self.is_down = False

    def notify(self, notice) -> bool:
        if not self.is_down:
            self.received.append(notice)
        return not self.is_down

    def titles(self) -> list[str]:
        result = [notice.title.removeprefix("Minutemark · ") for notice in self.received]
        self.received.clear()
        return result


@pytest.fixture
def channel() -> Channel:
    return Channel()


def notices_at(lab: Lab, channel: Channel, now: datetime, *problems: Problem) -> list[str]:
    """Run a check that finds these problems at that time; returns the titles of the notices that it sends."""
    for alert, notice in alerts.update(lab.conn, problems, now):
        if channel.notify(notice):
            alerts.mark_notified(lab.conn, alert, now)
    return channel.titles()


def test_a_problem_is_reported_once_repeated_hourly_and_reported_when_over(lab: Lab, channel: Channel) -> None:
    assert notices_at(lab, channel, NOON, STALE) == ["Problem: recruitment is stale"]
    for minutes in range(1, 60):
        assert notices_at(lab, channel, NOON + minutes * MINUTE, STALE) == []
    assert notices_at(lab, channel, NOON + 60 * MINUTE, STALE) == ["Ongoing: recruitment is stale"]
    assert notices_at(lab, channel, NOON + 61 * MINUTE, STALE) == []
    assert notices_at(lab, channel, NOON + 62 * MINUTE) == []
    assert notices_at(lab, channel, NOON + 63 * MINUTE) == ["Resolved: recruitment is stale"]
    assert notices_at(lab, channel, NOON + 64 * MINUTE) == []
    assert lab.query("SELECT state, began_at, seen_at FROM etl.alerts") == [
        ("over", STALE.since, NOON + 61 * MINUTE),
    ]
    assert notices_at(lab, channel, NOON + 65 * MINUTE, STALE) == ["Problem: recruitment is stale"]


def test_a_problem_that_comes_and_goes_is_one_problem(lab: Lab, channel: Channel) -> None:
    notices = [
        notices_at(lab, channel, NOON + number * MINUTE, *([STALE] if number % 2 == 0 else [])) for number in range(20)
    ]
    assert sum(notices, []) == ["Problem: recruitment is stale"]


def test_a_failed_notification_is_retried(lab: Lab, channel: Channel) -> None:
    channel.is_down = True
    assert notices_at(lab, channel, NOON, STALE) == []
    channel.is_down = False
    assert notices_at(lab, channel, NOON + MINUTE, STALE) == ["Problem: recruitment is stale"]
    channel.is_down = True
    assert notices_at(lab, channel, NOON + 4 * MINUTE) == []
    channel.is_down = False
    assert notices_at(lab, channel, NOON + 5 * MINUTE) == ["Resolved: recruitment is stale"]


def test_the_end_of_an_unreported_problem_is_not_reported(lab: Lab, channel: Channel) -> None:
    channel.is_down = True
    notices_at(lab, channel, NOON, STALE)
    channel.is_down = False
    assert notices_at(lab, channel, NOON + 5 * MINUTE) == []


def test_problems_are_distinguished_by_pipeline_and_kind(lab: Lab, channel: Channel) -> None:
    held = Problem("recruitment", "held", NOON, "1 minute is held.", "Fix it.")
    other = Problem("other", "stale", NOON, "A change waits.", "Open the run.")
    notices_at(lab, channel, NOON, STALE)
    assert notices_at(lab, channel, NOON + MINUTE, STALE, held, other) == [
        "Problem: other is stale",
        "Problem: recruitment has held minutes",
    ]
    assert notices_at(lab, channel, NOON + 4 * MINUTE, STALE, held) == ["Resolved: other is stale"]


def check(channel: Channel) -> str:
    """Run a check; returns its line about recruitment."""
    [entry] = [entry for entry in watch(channel.notify) if entry["pipeline"] == "recruitment"]
    return line_of(entry)


def test_a_notice_says_what_since_when_and_what_to_do(lab: Lab, channel: Channel) -> None:
    now = lab.one("SELECT CURRENT_TIMESTAMP(6)")
    minute = now.replace(second=0, microsecond=0) - 5 * MINUTE
    ledger.record_poll_time(lab.conn, status.all_pipelines()["recruitment"], now)
    lab.see(minute, at=now - 300 * SECOND, clock=now)
    line = check(channel)
    assert line.startswith("recruitment: stale; ")
    [notice] = channel.received
    what, finding, since, remedy = notice.text.splitlines()
    assert what == "Minutemark · Problem: recruitment is stale"
    assert "not been merged for 30" in finding
    assert "the limit is 180 s. Pending minutes: 1." in finding
    assert since == f"Since {now - 300 * SECOND:%Y-%m-%d %H:%M:%S} UTC"
    assert remedy.startswith("What to do: Open the newest runs of recruitment_minute")
    with warehouse("warehouse_bi") as conn:
        assert [alert["problem"] for alert in status.open_alerts(conn)] == ["stale"]
    watch(channel.notify)
    assert len(channel.received) == 1


def test_held_minutes_failing_batches_and_a_blind_watch_are_each_reported(lab: Lab, channel: Channel) -> None:
    now = lab.one("SELECT CURRENT_TIMESTAMP(6)")
    minute = now.replace(second=0, microsecond=0) - MINUTE
    lab.query(
        "INSERT INTO etl.looks (pipeline, looked_at, lake_clock) VALUES ('recruitment', %s, %s)",
        now - 200 * SECOND,
        now,
    )
    lab.see(minute, minute - MINUTE, at=now - 60 * SECOND, clock=now)
    ledger.hold(
        lab.conn.cursor(),
        "recruitment",
        [(minute, str(touched_at(now - 60 * SECOND)), "staging_shrink: rows are missing")],
        None,
    )
    for number in range(2):
        lab.open(minute - MINUTE, run_id=f"run-{number}", clock=now)
    lab.query("UPDATE etl.batches SET state = 'failed', reason = 'java.lang.OutOfMemoryError'")
    watch(channel.notify)
    notices = {notice.problem: notice.text for notice in channel.received}
    assert set(notices) == {"blind", "held", "failing"}
    assert "bedan.tracking was last polled 200 s ago" in notices["blind"]
    assert f"The newest is {minute:%Y-%m-%d %H:%M}: staging_shrink: rows are missing" in notices["held"]
    assert (
        "The last 2 batches of recruitment were not merged. The last reason: java.lang.OutOfMemoryError"
        in notices["failing"]
    )


def test_a_silent_source_and_a_working_pipeline_are_not_reported(lab: Lab, channel: Channel) -> None:
    now = lab.one("SELECT CURRENT_TIMESTAMP(6)")
    lab.publish({now.replace(second=0, microsecond=0) - 60 * MINUTE: [contribution()]}, clock=now)
    ledger.record_poll_time(lab.conn, status.all_pipelines()["recruitment"], now)
    line = check(channel)
    assert line.startswith("recruitment: silent; ")
    assert channel.received == []


def test_a_warehouse_that_is_down_fails_the_watch(monkeypatch, channel: Channel) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_WAREHOUSE_ETL",
        '{"conn_type": "mysql", "host": "127.0.0.1", "port": 1, "login": "a", "password": "b"}',
    )
    with pytest.raises(WarehouseError, match="127.0.0.1:1.*cannot be reached"):
        watch(channel.notify)


def test_the_other_client_library_finds_and_records_the_same_problems(lab: Lab, channel: Channel, monkeypatch) -> None:
    pytest.importorskip("mysql.connector")
    now = lab.one("SELECT CURRENT_TIMESTAMP(6)")
    lab.publish({now.replace(second=0, microsecond=0) - 60 * MINUTE: [contribution()]}, clock=now)
    ledger.record_poll_time(lab.conn, status.all_pipelines()["recruitment"], now)
    lab.see(now.replace(second=0, microsecond=0) - 5 * MINUTE, at=now - 300 * SECOND, clock=now)
    connection = json.loads(os.environ["AIRFLOW_CONN_WAREHOUSE_ETL"])
    connection["extra"] = {"client": "mysql-connector-python"}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_ETL", json.dumps(connection))
    for _ in range(2):
        line = check(channel)
    assert line.startswith("recruitment: stale; lag 3")
    assert channel.titles() == ["Problem: recruitment is stale"]
