"""The age of the newest published event: calculated by hand, and what may change it on a real server."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from include import pipelines
from include.warehouse import freshness, merge, status
from include.warehouse.session import warehouse
from tests.warehouse.lab import RECRUITMENT, SECOND, Lab, contribution, touched_at

MINUTE = timedelta(minutes=1)
NOON = datetime(2026, 3, 1, 12, 0)
ELEVEN = NOON - timedelta(hours=1)


@pytest.fixture
def now(lab: Lab) -> datetime:
    """The server's current minute."""
    return lab.one("SELECT CURRENT_TIMESTAMP(6)").replace(second=0, microsecond=0)


def freshness_now(lab: Lab) -> dict:
    with warehouse("warehouse_bi") as conn:  # the read-only account is enough
        return next(entry for entry in status.freshness(conn) if entry["pipeline"] == "recruitment")


def history(lab: Lab) -> list[tuple]:
    return lab.query("SELECT published_at, newest_create_time FROM etl.freshness ORDER BY published_at")


def test_a_merge_a_minute_gives_a_saw_tooth() -> None:
    # At each :05 everything up to :00 is published: the lag climbs from 5 to 65 s at a constant rate.
    published = [(ELEVEN + number * MINUTE + 5 * SECOND, ELEVEN + number * MINUTE) for number in range(-1, 60)]
    lag = freshness.lag_between(published, ELEVEN, NOON)
    assert (lag.median, lag.p95, lag.worst, lag.covered) == pytest.approx(
        (5 + 0.5 * 60, 5 + 0.95 * 60, 65, 3600), abs=0.2
    )


def test_an_outage_weighs_as_long_as_it_lasted() -> None:
    published = [
        (ELEVEN - 10 * SECOND, ELEVEN - 60 * SECOND),  # in force at 11:00: 60 s old, and 20 minutes later 1,260 s
        (ELEVEN + 20 * MINUTE, ELEVEN + 20 * MINUTE - 10 * SECOND),  # from 10 s to 1,210 s
        (ELEVEN + 40 * MINUTE, ELEVEN + 40 * MINUTE - 10 * SECOND),  # again from 10 s to 1,210 s
    ]
    lag = freshness.lag_between(published, ELEVEN, NOON)
    # Two of the three rises pass 10 to 60 s, all pass 60 to 1,210 s, one passes more: 100 + 3,450 + 50 = 3,600 s.
    assert lag.median == pytest.approx(60 + (0.50 * 3_600 - 100) / 3)
    assert lag.p95 == pytest.approx(60 + (0.95 * 3_600 - 100) / 3)
    assert (lag.worst, lag.covered) == (1_260, 3_600)


def test_time_without_history_is_not_counted() -> None:
    lag = freshness.lag_between([(NOON - 100 * SECOND, NOON - 110 * SECOND)], ELEVEN, NOON)
    assert (lag.median, lag.worst, lag.covered) == (60, 110, 100)
    assert freshness.lag_between([], ELEVEN, NOON) is None
    assert freshness.lag_between([(NOON, NOON - SECOND)], ELEVEN, NOON) is None


def test_the_last_hour_includes_the_publication_that_was_in_force_at_its_start(lab: Lab) -> None:
    now = lab.one("SELECT CURRENT_TIMESTAMP(6)")
    for age in (7_200, 5_400, 1_800):  # each 10 s old when published; the first was no longer in force an hour ago
        lab.query(
            "INSERT INTO etl.freshness (pipeline, published_at, newest_create_time) VALUES ('recruitment', %s, %s)",
            now - age * SECOND, now - (age + 10) * SECOND,
        )  # fmt: skip
    entry = freshness_now(lab)
    # For half an hour it rises from 1,810 s, then for half an hour from 10 s: half of the time it was at most 1,810 s.
    assert (entry["lag"], entry["lag_median"], entry["lag_worst"]) == pytest.approx((1_810, 1_810, 3_610), abs=30)
    assert entry["lag_p95"] == pytest.approx(1_810 + 0.9 * 1_800, abs=30)
    assert entry["lag_covered"] == pytest.approx(3_600)


def test_a_merge_of_newer_events_is_remembered(lab: Lab, now) -> None:
    lab.publish({now - 3 * MINUTE: [contribution()]}, clock=now)
    lab.publish({now - 2 * MINUTE: [contribution()]}, clock=now, run_id="run-2")
    assert [newest for _, newest in history(lab)] == [now - 3 * MINUTE + 30 * SECOND, now - 2 * MINUTE + 30 * SECOND]
    entry = freshness_now(lab)
    assert entry["newest_create_time"] == now - 2 * MINUTE + 30 * SECOND
    assert 90 <= entry["lag"] < 180
    assert entry["lag_worst"] >= entry["lag"]


def backfill(lab: Lab, now: datetime) -> None:
    """Backfill two old minutes, then one of them again, then a much older one."""
    for run_id, minutes in (("b-1", [300, 301]), ("b-2", [300]), ("b-3", [5_000])):
        rows = {now - number * MINUTE: [contribution(), contribution(8)] for number in minutes}
        lab.publish(rows, clock=now, kind="backfill", is_delta=False, run_id=run_id)


def empty_minutes(lab: Lab, now: datetime) -> None:
    lab.publish({now - MINUTE: [], now: []}, clock=now, run_id="empty")


def year_2099(lab: Lab, now: datetime) -> None:
    lab.publish({datetime(2099, 1, 1): [contribution()]}, clock=now, run_id="2099")


def held_minute(lab: Lab, now: datetime) -> None:
    """The newest minute is read with fewer rows than before, and with a newer create_time; an old minute passes."""
    newest, old = now - 2 * MINUTE, now - 400 * MINUTE
    batch_id = lab.open(newest, old, run_id="shrunk", clock=now)
    lab.stage(
        batch_id,
        {newest: [contribution()], old: [contribution()]},
        counts={newest: {"newest_create_time": newest + 59 * SECOND}},
    )
    assert lab.check(batch_id).held == (newest,)
    merge.merge(batch_id)
    assert lab.ledger(newest)["state"] == "held"


def failed_batch(lab: Lab, now: datetime) -> None:
    lab.stage(lab.open(now - MINUTE, run_id="failed", clock=now), {now - MINUTE: [contribution()]})


@pytest.mark.parametrize("disturb", [backfill, empty_minutes, year_2099, held_minute, failed_batch])
def test_only_a_merge_of_newer_events_changes_the_history(lab: Lab, now, disturb) -> None:
    lab.publish({now - 300 * MINUTE: [contribution()], now - 2 * MINUTE: [contribution(), contribution(8)]}, clock=now)
    before = history(lab)
    disturb(lab, now)
    assert history(lab) == before
    assert freshness_now(lab)["newest_create_time"] == now - 2 * MINUTE + 30 * SECOND


def test_a_clock_that_is_ahead_makes_nothing_newer_than_its_publication(lab: Lab, now) -> None:
    lab.publish({now + 4 * MINUTE: [contribution()]}, clock=now)  # within future_tolerance
    [(published_at, newest)] = history(lab)
    assert newest == published_at
    assert freshness_now(lab)["lag"] >= 0


def test_a_backfill_starts_no_history_in_a_warehouse_that_has_none(lab: Lab, now) -> None:
    lab.publish({now - 2 * MINUTE: [contribution()]}, clock=now)
    lab.query("DELETE FROM etl.freshness")
    assert freshness_now(lab)["newest_create_time"] == now - 2 * MINUTE + 30 * SECOND
    assert freshness_now(lab)["lag_p95"] is None
    backfill(lab, now)
    assert history(lab) == []


def test_a_merge_that_is_undone_leaves_no_history(lab: Lab, now) -> None:
    batch_id = lab.open(now - MINUTE, clock=now)
    lab.stage(batch_id, {now - MINUTE: [contribution()]})
    assert lab.check(batch_id).passed
    with lab.refusing("DELETE", "etl.staged_counts"), pytest.raises(Exception, match="DELETE refused"):
        merge.merge(batch_id)  # its last step: the history is written by then
    assert history(lab) == []


def test_the_history_is_bounded_but_keeps_the_publication_that_was_in_force(lab: Lab, now) -> None:
    for days in (30, 20, 10, 3):
        lab.query(
            "INSERT INTO etl.freshness (pipeline, published_at, newest_create_time) VALUES ('recruitment', %s, %s)",
            now - timedelta(days=days), now - timedelta(days=days),
        )  # fmt: skip
    lab.publish({now - 2 * MINUTE: [contribution()]}, clock=now)
    kept = [(now - published_at).days for published_at, _ in history(lab)]
    assert kept[:2] == [10, 3]  # the one of ten days ago was in force when the week began
    assert len(kept) == 3
    lab.publish({now - 500 * MINUTE: [contribution()]}, clock=now, run_id="run-2")
    assert len(history(lab)) == 3


# The state of a pipeline


def poll(lab: Lab, seconds_ago: int = 0) -> None:
    lab.query(
        "INSERT INTO etl.looks (pipeline, looked_at, lake_clock) VALUES ('recruitment', CURRENT_TIMESTAMP(6) - INTERVAL %s "
        "SECOND, CURRENT_TIMESTAMP(6)) ON DUPLICATE KEY UPDATE looked_at = VALUES(looked_at)",
        seconds_ago,
    )


def merge_an_hour_ago(lab: Lab, now: datetime) -> None:
    lab.see(now - 60 * MINUTE, at=now - 60 * MINUTE, clock=now)
    lab.publish({now - 60 * MINUTE: [contribution()]}, clock=now)


def touch_ago(lab: Lab, minute: datetime, seconds_ago: int) -> None:
    at = lab.one("SELECT CURRENT_TIMESTAMP(6)") - seconds_ago * SECOND
    lab.see(minute, at=at, clock=at)


def test_before_the_first_poll_a_pipeline_is_new(lab: Lab, now) -> None:
    assert freshness_now(lab)["state"] == "new"


def test_a_silent_source_is_not_stale(lab: Lab, now) -> None:
    merge_an_hour_ago(lab, now)
    poll(lab)
    entry = freshness_now(lab)
    assert (entry["state"], entry["delay"], entry["waiting_since"], entry["pending"]) == ("silent", 0, None, 0)
    assert entry["lag"] > 3_500


def test_a_pipeline_that_has_just_merged_is_fresh(lab: Lab, now) -> None:
    poll(lab)
    lab.publish({now - MINUTE: [contribution()]}, clock=now)
    assert freshness_now(lab)["state"] == "fresh"


@pytest.mark.parametrize(("seconds_ago", "state"), [(170, "fresh"), (190, "stale")])
def test_a_change_that_waits_beyond_the_limit_is_stale(lab: Lab, now, seconds_ago, state) -> None:
    merge_an_hour_ago(lab, now)
    poll(lab)
    touch_ago(lab, now - 4 * MINUTE, seconds_ago)
    entry = freshness_now(lab)
    assert entry["state"] == state
    assert entry["delay"] == pytest.approx(seconds_ago, abs=5)
    assert (entry["waiting_since"] is not None) is (state == "stale")


def test_a_newer_touch_of_another_minute_does_not_hide_the_older_change(lab: Lab, now) -> None:
    poll(lab)
    touch_ago(lab, now - 5 * MINUTE, 300)
    touch_ago(lab, now, 1)
    assert freshness_now(lab)["state"] == "stale"


def test_the_limit_is_the_pipelines_own(lab: Lab, now, monkeypatch) -> None:
    impatient = replace(RECRUITMENT, delay_limit=timedelta(seconds=60))
    monkeypatch.setitem(pipelines.all_pipelines(), RECRUITMENT.name, impatient)
    poll(lab)
    touch_ago(lab, now - 2 * MINUTE, 70)
    assert freshness_now(lab)["state"] == "stale"


def test_an_imported_backlog_is_stale_only_while_nothing_is_merged(lab: Lab, now) -> None:
    poll(lab)
    for days in (30, 31, 32):
        touch_ago(lab, now - timedelta(days=days), 600)
    assert freshness_now(lab)["state"] == "stale"
    lab.publish({now - timedelta(days=32): [contribution()]}, clock=now)
    entry = freshness_now(lab)
    assert (entry["waiting_since"], entry["pending"], entry["delay"]) == (None, 2, 0)
    assert entry["state"] == "silent"


def test_a_lake_without_polls_is_blind_even_if_all_else_is_well(lab: Lab, now) -> None:
    lab.publish({now - MINUTE: [contribution()]}, clock=now)
    poll(lab, seconds_ago=170)
    assert freshness_now(lab)["state"] == "fresh"
    poll(lab, seconds_ago=190)
    entry = freshness_now(lab)
    assert entry["state"] == "blind"
    assert entry["look_age"] == pytest.approx(190, abs=5)


def test_a_pipeline_with_newer_held_minutes_is_held_and_not_silent(lab: Lab, now) -> None:
    merge_an_hour_ago(lab, now)
    poll(lab)
    from include.warehouse import ledger

    lab.see(now - 10 * MINUTE, at=now - 10 * MINUTE, clock=now)
    ledger.hold(
        lab.conn.cursor(), "recruitment", [(now - 10 * MINUTE, str(touched_at(now - 10 * MINUTE)), "broken")], None
    )
    lab.conn.commit()
    entry = freshness_now(lab)
    assert (entry["state"], entry["held"]) == ("held", 1)


def test_minutes_that_the_warehouse_gate_makes_pending_count_as_waiting_since_their_merge(lab: Lab, now) -> None:
    merge_an_hour_ago(lab, now)
    poll(lab)
    lab.query("UPDATE etl.minute_ledger SET read_changed_at = NULL, read_at = NULL, settled_before = NULL")
    entry = freshness_now(lab)
    assert (entry["state"], entry["pending"]) == ("fresh", 1)


def test_batches_that_fail_in_a_row_are_counted_until_one_merges(lab: Lab, now) -> None:
    poll(lab)
    touch_ago(lab, now - MINUTE, 60)
    for number in range(3):
        lab.open(now - MINUTE, run_id=f"run-{number}", clock=now)
    lab.query("UPDATE etl.batches SET state = 'failed', reason = CONCAT('No driver ', batch_id)")
    entry = freshness_now(lab)
    assert entry["failures"] == 3
    assert entry["failure"].startswith("No driver")
    assert entry["failing_since"] == lab.one("SELECT MIN(opened_at) FROM etl.batches")
    lab.publish({now - MINUTE: [contribution()]}, clock=now, run_id="run-4")
    assert freshness_now(lab)["failures"] == 0
