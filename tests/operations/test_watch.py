"""The watch on a real server: a problem is notified when it starts, every hour, and when it is over; never twice."""

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


class People:
    """A channel; a `deaf` one takes nothing."""

    def __init__(self) -> None:
        self.heard = []
        self.deaf = False

    def notify(self, notice) -> bool:
        if not self.deaf:
            self.heard.append(notice)
        return not self.deaf

    def titles(self) -> list[str]:
        result = [notice.title.removeprefix("Minutemark · ") for notice in self.heard]
        self.heard.clear()
        return result


@pytest.fixture
def people() -> People:
    return People()


def at(lab: Lab, people: People, now: datetime, *problems: Problem) -> list[str]:
    """One check at that time, which finds these problems; returns the notices sent."""
    for alert, notice in alerts.update(lab.conn, problems, now):
        if people.notify(notice):
            alerts.mark_notified(lab.conn, alert, now)
    return people.titles()


def test_a_problem_is_notified_once_repeated_hourly_and_notified_when_over(lab: Lab, people: People) -> None:
    assert at(lab, people, NOON, STALE) == ["Problem: recruitment is stale"]
    for minutes in range(1, 60):
        assert at(lab, people, NOON + minutes * MINUTE, STALE) == []
    assert at(lab, people, NOON + 60 * MINUTE, STALE) == ["Ongoing: recruitment is stale"]
    assert at(lab, people, NOON + 61 * MINUTE, STALE) == []
    assert at(lab, people, NOON + 62 * MINUTE) == []
    assert at(lab, people, NOON + 63 * MINUTE) == ["Resolved: recruitment is stale"]
    assert at(lab, people, NOON + 64 * MINUTE) == []
    assert lab.query("SELECT state, began_at, seen_at FROM etl.alerts") == [
        ("over", STALE.since, NOON + 61 * MINUTE),
    ]
    assert at(lab, people, NOON + 65 * MINUTE, STALE) == ["Problem: recruitment is stale"]


def test_a_problem_that_comes_and_goes_is_one_problem(lab: Lab, people: People) -> None:
    notices = [at(lab, people, NOON + number * MINUTE, *([STALE] if number % 2 == 0 else [])) for number in range(20)]
    assert sum(notices, []) == ["Problem: recruitment is stale"]


def test_a_failed_notification_is_retried(lab: Lab, people: People) -> None:
    people.deaf = True
    assert at(lab, people, NOON, STALE) == []
    people.deaf = False
    assert at(lab, people, NOON + MINUTE, STALE) == ["Problem: recruitment is stale"]
    people.deaf = True
    assert at(lab, people, NOON + 4 * MINUTE) == []
    people.deaf = False
    assert at(lab, people, NOON + 5 * MINUTE) == ["Resolved: recruitment is stale"]


def test_the_end_of_an_unnotified_problem_is_not_notified(lab: Lab, people: People) -> None:
    people.deaf = True
    at(lab, people, NOON, STALE)
    people.deaf = False
    assert at(lab, people, NOON + 5 * MINUTE) == []


def test_problems_are_distinguished_by_pipeline_and_kind(lab: Lab, people: People) -> None:
    held = Problem("recruitment", "held", NOON, "1 minute is held.", "Fix it.")
    other = Problem("other", "stale", NOON, "A change waits.", "Open the run.")
    at(lab, people, NOON, STALE)
    assert at(lab, people, NOON + MINUTE, STALE, held, other) == [
        "Problem: other is stale",
        "Problem: recruitment has held minutes",
    ]
    assert at(lab, people, NOON + 4 * MINUTE, STALE, held) == ["Resolved: other is stale"]


def notices_of_recruitment(people: People) -> str:
    """What a watch says of the one pipeline that a test is about."""
    [found] = [one for one in watch(people.notify) if one["pipeline"] == "recruitment"]
    return line_of(found)


def test_a_notice_says_what_since_when_and_what_to_do(lab: Lab, people: People) -> None:
    now = lab.one("SELECT CURRENT_TIMESTAMP(6)")
    minute = now.replace(second=0, microsecond=0) - 5 * MINUTE
    ledger.record_poll_time(lab.conn, status.all_pipelines()["recruitment"], now)
    lab.see(minute, at=now - 300 * SECOND, clock=now)
    line = notices_of_recruitment(people)
    assert line.startswith("recruitment: stale; ")
    [notice] = people.heard
    what, found, since, remedy = notice.text.splitlines()
    assert what == "Minutemark · Problem: recruitment is stale"
    assert "not been merged for 30" in found
    assert "the limit is 180 s. Pending minutes: 1." in found
    assert since == f"Since {now - 300 * SECOND:%Y-%m-%d %H:%M:%S} UTC"
    assert remedy.startswith("What to do: Open the newest runs of recruitment_minute")
    with warehouse("warehouse_bi") as conn:
        assert [alert["problem"] for alert in status.open_alerts(conn)] == ["stale"]
    watch(people.notify)
    assert len(people.heard) == 1


def test_held_minutes_failing_batches_and_a_blind_watch_are_each_notified(lab: Lab, people: People) -> None:
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
        [(minute, str(touched_at(now - 60 * SECOND)), "staging_shrink: rows lack")],
        None,
    )
    for number in range(2):
        lab.open(minute - MINUTE, run_id=f"run-{number}", clock=now)
    lab.query("UPDATE etl.batches SET state = 'failed', reason = 'java.lang.OutOfMemoryError'")
    watch(people.notify)
    notices = {notice.problem: notice.text for notice in people.heard}
    assert set(notices) == {"blind", "held", "failing"}
    assert "bedan.tracking was last polled 200 s ago" in notices["blind"]
    assert f"The newest is {minute:%Y-%m-%d %H:%M}: staging_shrink: rows lack" in notices["held"]
    assert (
        "The last 2 batches of recruitment were not merged. The last reason: java.lang.OutOfMemoryError"
        in notices["failing"]
    )


def test_a_silent_source_and_a_working_pipeline_are_not_notified(lab: Lab, people: People) -> None:
    now = lab.one("SELECT CURRENT_TIMESTAMP(6)")
    lab.publish({now.replace(second=0, microsecond=0) - 60 * MINUTE: [contribution()]}, clock=now)
    ledger.record_poll_time(lab.conn, status.all_pipelines()["recruitment"], now)
    line = notices_of_recruitment(people)
    assert line.startswith("recruitment: silent; ")
    assert people.heard == []


def test_a_warehouse_that_is_away_fails_the_watch(monkeypatch, people: People) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_WAREHOUSE_ETL",
        '{"conn_type": "mysql", "host": "127.0.0.1", "port": 1, "login": "a", "password": "b"}',
    )
    with pytest.raises(WarehouseError, match="127.0.0.1:1.*cannot be reached"):
        watch(people.notify)


def test_the_other_client_library_finds_and_remembers_the_same(lab: Lab, people: People, monkeypatch) -> None:
    pytest.importorskip("mysql.connector")
    now = lab.one("SELECT CURRENT_TIMESTAMP(6)")
    lab.publish({now.replace(second=0, microsecond=0) - 60 * MINUTE: [contribution()]}, clock=now)
    ledger.record_poll_time(lab.conn, status.all_pipelines()["recruitment"], now)
    lab.see(now.replace(second=0, microsecond=0) - 5 * MINUTE, at=now - 300 * SECOND, clock=now)
    described = json.loads(os.environ["AIRFLOW_CONN_WAREHOUSE_ETL"])
    described["extra"] = {"client": "mysql-connector-python"}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_ETL", json.dumps(described))
    for _ in range(2):
        line = notices_of_recruitment(people)
    assert line.startswith("recruitment: stale; lag 3")
    assert people.titles() == ["Problem: recruitment is stale"]
