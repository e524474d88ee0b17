"""The data that the page's scripts get."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from include.page import backfill, minutes
from include.planner import RangeRefused
from include.warehouse import batches
from include.warehouse.session import server_time
from local.connections import variable
from tests.page.states import CHANGE, DATA, MINUTE, hold, minutes_ago, publish, see, text
from tests.warehouse.lab import Lab

NOW = datetime(2026, 3, 1, 10, 30, 20)
PAST = datetime(2026, 3, 1, 10, 20)
POLLED, POLLED_BEFORE = NOW, PAST + timedelta(seconds=30)
ROW = {"state": "merged", "pending": 0, "raw_rows": 5}


@pytest.mark.parametrize(
    ("minute", "row", "ended", "polled_at", "state"),
    [
        (NOW.replace(second=0), ROW, None, POLLED, "open"),  # the minute has not ended, whatever was read of it
        (PAST, ROW, None, POLLED, "merged"),
        (PAST, ROW | {"raw_rows": 0}, None, POLLED, "empty"),  # a backfill found nothing
        (PAST, {}, None, POLLED, "empty"),
        (PAST, {}, None, POLLED_BEFORE, "open"),  # the lake has not been polled since the minute ended
        (PAST, {}, None, None, "open"),
        (PAST, ROW | {"pending": 1}, None, POLLED, "pending"),
        (PAST, ROW | {"pending": 1}, {"state": "failed"}, POLLED, "failed"),
        (PAST, ROW, {"state": "failed"}, POLLED, "merged"),  # another run has merged it since
        (PAST, ROW | {"state": "held"}, {"state": "merged"}, POLLED, "held"),
        (PAST, ROW | {"state": "held", "pending": 1}, None, POLLED, "pending"),  # released, or touched
        (PAST, ROW | {"state": "closed"}, None, POLLED, "closed"),
    ],
)
def test_a_minute_is_in_one_state(minute, row, ended, polled_at, state) -> None:
    assert minutes.state_of(minute, row, ended, polled_at, NOW) == state


@pytest.fixture
def get_view(as_user, lab: Lab):
    """Gets a view of the recruitment pipeline as ada."""
    client = as_user("ada")

    def get(view: str, status: int = 200, **params) -> dict:
        answer = client.get(f"{DATA}/recruitment/{view}", params=params)
        assert answer.status_code == status, answer.text
        return answer.json()

    return get


def test_an_empty_warehouse_shows_empty_views(as_user, get_view) -> None:
    [shop, jobs] = as_user("ada").get(DATA).json()["pipelines"]
    assert (jobs["state"], jobs["lag"], jobs["day"], jobs["held"], jobs["alerts"]) == ("new", None, None, 0, [])
    result = get_view("minutes")
    assert [minute["state"] for minute in result["minutes"]] == ["open"] * 60
    assert {quarter["worst"] for quarter in result["day"]} == {None}
    assert get_view("ledger") == {"rows": [], "more": False}
    assert get_view("held")["minutes"] == get_view("rejected")["groups"] == get_view("gates")["checks"] == []


def test_the_strip_shows_the_state_of_each_minute_and_its_run(get_view, lab: Lab) -> None:
    merged, held, failed, pending = (
        minutes_ago(lab, 30),
        minutes_ago(lab, 20),
        minutes_ago(lab, 15),
        minutes_ago(lab, 10),
    )
    publish(lab, merged, "good", rows=7)
    hold(lab, held, "bad")
    see(lab, failed)
    lab.open(failed, run_id="broken")
    batches.close_abandoned(lab.conn, lab.pipeline, "recruitment_minute", "the next")
    lab.open(failed, run_id="the next")
    see(lab, pending)
    strip = {minute["minute"]: minute for minute in get_view("minutes")["minutes"]}
    assert len(strip) == 60
    shown = {
        name: (strip[text(at)]["state"], strip[text(at)]["raw_rows"], (strip[text(at)]["run"] or {}).get("run_id"))
        for name, at in {
            "merged": merged,
            "held": held,
            "failed": failed,
            "pending": pending,
            "empty": minutes_ago(lab, 40),
        }.items()
    }
    assert shown == {
        "merged": ("merged", 7, "good"),
        "held": ("held", None, "bad"),
        "failed": ("failed", None, "broken"),
        "pending": ("pending", None, None),
        "empty": ("empty", None, None),
    }
    assert "staging_events_no_negative" in strip[text(held)]["reason"]
    assert strip[max(strip)]["state"] == "open"


def test_freshness_is_shown_for_now_and_for_the_last_day(as_user, lab: Lab, get_view) -> None:
    minute = minutes_ago(lab, 2)
    publish(lab, minute, "now")
    for hours, lag in ((30, 5), (20, 600), (10, 7)):
        lab.query(
            "INSERT INTO etl.freshness (pipeline, published_at, newest_create_time) VALUES ('recruitment',"
            " CURRENT_TIMESTAMP(6) - INTERVAL %s HOUR, CURRENT_TIMESTAMP(6) - INTERVAL %s HOUR - INTERVAL %s SECOND)",
            hours, hours, lag,
        )  # fmt: skip
    jobs = as_user("vera").get(DATA).json()["pipelines"][1]
    assert 90 <= jobs["lag"] <= 160
    assert 10 * 3600 - 60 < jobs["day"]["worst"] < 10 * 3600 + 660 and jobs["day"]["covered"] == pytest.approx(86_400)
    day = get_view("minutes")["day"]
    assert len(day) == 96 and day[0]["at"] < day[-1]["at"]
    # Just before the publication of ten hours ago, the newest event was ten hours old; then it was seven seconds old.
    assert max(quarter["worst"] for quarter in day) == pytest.approx(jobs["day"]["worst"], rel=0.05)


def test_ledger_pages_follow_each_other_without_gap_or_overlap(get_view, lab: Lab) -> None:
    first = datetime(2026, 3, 1)
    cursor = lab.conn.cursor()
    cursor.executemany(
        "INSERT INTO etl.minute_ledger (pipeline, minute, state, raw_rows, ignored_by_kind) VALUES (%s, %s, %s, 1, %s)",
        [
            ("recruitment", first + number * MINUTE, "held" if number % 100 == 0 else "merged", '{"alive": 1}')
            for number in range(250)
        ],
    )
    lab.conn.commit()
    params = {"from": "2026-03-01T00:10", "to": "2026-03-01T04:00"}
    pages = [get_view("ledger", **params)]
    while pages[-1]["more"]:
        pages.append(get_view("ledger", **params, before=pages[-1]["rows"][-1]["minute"]))
    shown = [row["minute"] for page in pages for row in page["rows"]]
    assert shown == [text(first + number * MINUTE) for number in reversed(range(10, 240))]
    assert [len(page["rows"]) for page in pages] == [100, 100, 30]
    assert [row["minute"] for row in get_view("ledger", state="held")["rows"]] == [
        text(first + number * MINUTE) for number in (200, 100, 0)
    ]
    assert shown and pages[0]["rows"][0]["ignored_by_kind"] == {"alive": 1}
    assert pages[0]["rows"][0]["options"] == {}


def test_the_ledger_shows_the_options_of_a_manual_run(get_view, lab: Lab) -> None:
    publish(lab, minutes_ago(lab, 30), "manual", kind="manual", allow_shrink=True)
    assert [row["options"] for row in get_view("ledger")["rows"]] == [{"allow_shrink": True}]


def test_invalid_options_are_refused_with_a_hint(as_user, get_view) -> None:
    assert "Write it as 2026-11-22T14:05" in get_view("ledger", 400, **{"from": "yesterday"})["detail"]
    assert get_view("ledger", 400, before="yesterday")["detail"].startswith("`before` is 'yesterday'")
    assert "choose one of all, pending" in get_view("ledger", 400, state="lost")["detail"]
    assert (
        "must be before `to`"
        in get_view("backfill", 400, **{"from": "2026-03-02T00:00", "to": "2026-03-01T00:00"})["detail"]
    )
    unknown = as_user("ada").get(f"{DATA}/orders/minutes")
    assert unknown.status_code == 404 and "Unknown pipeline 'orders'" in unknown.json()["detail"]
    nothing = as_user("ada").post(f"{DATA}/recruitment/release", json={"minute": "2026-03-01T10:00"}, headers=CHANGE)
    assert nothing.status_code == 409 and "No minutes are held in recruitment now" in nothing.json()["detail"]


def test_rejected_events_are_grouped_by_reason_in_a_range(get_view, lab: Lab) -> None:
    for number, reason in enumerate(("bid is negative: -1", "bid is negative: -2", "job_id is 'x'")):
        lab.query(
            "INSERT INTO etl.rejected_events (pipeline, origin, origin_key, minute, reason, payload) "
            "VALUES ('recruitment', 'lake', %s, %s, %s, '<script>')",
            f"k{number}", datetime(2026, 3, 1, 10, number), reason,
        )  # fmt: skip
    groups = get_view("rejected")["groups"]
    assert [(group["rows"], group["reason"]) for group in groups] == [(2, "bid is negative"), (1, "job_id is …")]
    assert groups[0]["samples"][0]["payload"] == "<script>"  # as it is: the page writes it as text
    assert [group["rows"] for group in get_view("rejected", **{"from": "2026-03-01T10:01"})["groups"]] == [1, 1]
    assert get_view("rejected", to="2026-03-01T10:00")["groups"] == []


def test_checks_are_shown_with_their_purpose_and_findings(get_view, lab: Lab) -> None:
    batch_id = hold(lab, minutes_ago(lab, 5))
    result = get_view("gates")
    tally = {check["check_name"]: check for check in result["checks"]}
    assert (tally["staging_events_no_negative"]["runs"], tally["staging_events_no_negative"]["failures"]) == (1, 1)
    assert tally["staging_conservation"]["failures"] == 0 and tally["staging_conservation"]["purpose"]
    [finding] = [finding for finding in result["findings"] if finding["outcome"] == "fail"]
    assert (finding["batch_id"], finding["run"]["run_id"], finding["offending_rows"]) == (batch_id, "hold", 1)
    assert finding["sample"][0]["minute"] == str(minutes_ago(lab, 5))


def test_a_backfill_is_planned_in_whole_chunks_that_have_ended(get_view, lab: Lab) -> None:
    hour = minutes_ago(lab, 0).replace(minute=0) - timedelta(hours=3)
    publish(lab, hour + 5 * MINUTE, "one", rows=4)
    hold(lab, hour + 20 * MINUTE)
    plan = get_view("backfill", **{"from": text(hour + MINUTE), "to": text(hour + 61 * MINUTE)})
    expected = {"dag_id": "recruitment_reconcile", "from": text(hour), "to": text(hour + timedelta(hours=1)), "runs": 2}
    assert plan.items() >= (expected | {"minutes": 120, "known": 3, "raw_rows": 5, "held": 1}).items()
    plan = get_view("backfill", **{"from": text(hour), "to": text(hour + 5 * MINUTE), "chunk": "minute"})
    assert (plan["dag_id"], plan["runs"], plan["to"]) == ("recruitment_minute", 5, text(hour + 4 * MINUTE))
    ahead = minutes_ago(lab, 0).replace(minute=0) + timedelta(days=1)
    plan = get_view("backfill", **{"from": text(hour), "to": text(ahead)})
    assert plan["end_minute"] == text(minutes_ago(lab, 0).replace(minute=0))
    assert (
        "has ended yet"
        in get_view("backfill", 400, **{"from": text(ahead), "to": text(ahead + timedelta(hours=1))})["detail"]
    )
    year = {"from": "2025-01-01T00:00", "to": "2026-01-01T00:00"}
    assert "2025-01-01 00:00 to 2025-02-01 00:00" in get_view("backfill", 400, **year)["detail"]
    forever = {"from": text(hour), "to": "9999-12-31T23:59"}
    assert "a year from 1582 to 5236" in get_view("backfill", 400, **forever)["detail"]


@pytest.mark.parametrize(("chunk", "step"), [("hour", timedelta(hours=1)), ("minute", MINUTE)])
def test_the_start_that_the_refusal_of_closed_minutes_names_is_accepted(lab: Lab, chunk: str, step: timedelta) -> None:
    hour = minutes_ago(lab, 0).replace(minute=0)
    first_open = hour - timedelta(hours=4, minutes=30)  # in the middle of an hour, which is closed in part
    keeps = server_time(lab.conn.cursor()) - first_open
    pipeline = replace(lab.pipeline, lake_retention=keeps)
    with pytest.raises(RangeRefused) as refused:
        backfill.plan(lab.conn, pipeline, first_open - MINUTE, hour, chunk)
    [named] = re.findall(r"starts at (\S+ \S+) or later", str(refused.value))
    start = datetime.fromisoformat(named)
    assert first_open < start <= first_open + MINUTE + step
    assert backfill.plan(lab.conn, pipeline, start, hour, chunk)["first_minute"] == start


def test_an_unreachable_warehouse_is_reported_with_its_remedy(as_user, lab: Lab, monkeypatch) -> None:
    name = variable("warehouse_bi")
    monkeypatch.setenv(name, json.dumps(json.loads(os.environ[name]) | {"port": 1}))
    answer = as_user("ada").get(DATA)
    assert (answer.status_code, "cannot be reached" in answer.json()["detail"]) == (503, True)
    monkeypatch.delenv(name)
    answer = as_user("ada").get(DATA)
    assert (answer.status_code, "Define it in Airflow" in answer.json()["detail"]) == (503, True)


def test_a_missing_table_is_reported_with_its_remedy(as_user, lab: Lab) -> None:
    from include.warehouse.schema import apply_schema
    from include.warehouse.session import warehouse

    with warehouse("warehouse_admin") as admin:
        admin.cursor().execute("RENAME TABLE etl.looks TO etl.looks_away")
        try:
            answer = as_user("ada").get(f"{DATA}/recruitment/minutes")
        finally:
            admin.cursor().execute("RENAME TABLE etl.looks_away TO etl.looks")
    apply_schema()
    assert (answer.status_code, "minutemark_setup" in answer.json()["detail"]) == (503, True)
