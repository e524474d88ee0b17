"""Which hours are complete, when they are announced, and what a killed task leaves."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest

from include.warehouse import hours, ledger, merge
from tests.warehouse.lab import CLOCK, RECRUITMENT, TEN, Lab, contribution, minute
from tests.warehouse.shop import Shop, operation

ELEVEN = TEN + timedelta(hours=1)
SECOND = timedelta(seconds=1)
SETTLED = ELEVEN + RECRUITMENT.settle


def poll(lab: Lab, clock: datetime) -> None:
    ledger.record_poll_time(lab.conn, RECRUITMENT, clock)


def publish(lab: Lab, *numbers: int, jobs: int = 1, clock: datetime = CLOCK, **values) -> int:
    minutes = [minute(number) for number in numbers]
    lab.see(*minutes)
    return lab.publish({at: [contribution(job + 1) for job in range(jobs)] for at in minutes}, clock=clock, **values)


def offer_hours(lab: Lab) -> list[hours.Hour]:
    """Offer due hours as a task does, and confirm them as recorded by Airflow."""
    due = hours.offer(lab.conn, RECRUITMENT)
    hours.confirm(
        lab.conn, RECRUITMENT, hours.offers(lab.conn, RECRUITMENT), {(hour.start, hour.version) for hour in due}
    )
    return due


def age_changes(lab: Lab) -> None:
    lab.query("UPDATE etl.hours SET changed_at = changed_at - INTERVAL 2 MINUTE")


def test_an_hour_is_complete_when_its_end_and_the_settle_time_have_passed(lab):
    publish(lab, 0, 59)
    poll(lab, SETTLED - SECOND)
    assert not hours.is_any_due(lab.conn, RECRUITMENT)
    poll(lab, SETTLED)
    assert hours.is_any_due(lab.conn, RECRUITMENT)
    [hour] = offer_hours(lab)
    assert (hour.start, hour.correction, hour.raw_rows, hour.counted_rows, hour.held_minutes) == (TEN, False, 2, 2, ())
    assert offer_hours(lab) == []
    assert not hours.is_any_due(lab.conn, RECRUITMENT)


def test_a_pending_minute_keeps_its_hour_open(lab):
    publish(lab, 0)
    lab.see(minute(30))
    poll(lab, SETTLED)
    assert offer_hours(lab) == []
    publish(lab, 30)
    assert [hour.raw_rows for hour in offer_hours(lab)] == [2]


def test_counts_add_up_the_fates_of_all_rows(lab):
    publish(lab, 0, jobs=3, ignored=2, rejects=[(minute(0), "bad")])
    poll(lab, SETTLED)
    [hour] = offer_hours(lab)
    assert (hour.raw_rows, hour.counted_rows, hour.ignored_rows, hour.rejected_rows) == (6, 3, 2, 1)


def test_a_held_minute_is_named_and_its_release_is_a_correction(lab):
    publish(lab, 0)
    batch_id = publish(lab, 5)
    lab.query(
        "UPDATE etl.minute_ledger SET state = 'held', held_changed_at = seen_changed_at WHERE minute = %s", minute(5)
    )
    poll(lab, SETTLED)
    assert [hour.held_minutes for hour in offer_hours(lab)] == [(minute(5),)]
    assert publish(lab, 5) > batch_id
    age_changes(lab)
    assert [(hour.correction, hour.held_minutes) for hour in offer_hours(lab)] == [(True, ())]


def test_a_minute_that_waits_for_its_hour_keeps_it_open(lab):
    publish(lab, 0)
    lab.query(
        "UPDATE etl.minute_ledger SET state = 'held', waiting = 1, held_changed_at = seen_changed_at WHERE minute = %s",
        minute(0),
    )
    poll(lab, SETTLED)
    assert offer_hours(lab) == []


def test_a_change_after_the_announcement_is_one_correction_when_merges_have_paused(lab):
    publish(lab, 0)
    poll(lab, SETTLED)
    assert len(offer_hours(lab)) == 1
    for number in range(3):
        publish(lab, number, run_id=f"late-{number}")
        assert offer_hours(lab) == []
    age_changes(lab)
    assert [(hour.start, hour.correction, hour.raw_rows) for hour in offer_hours(lab)] == [(TEN, True, 3)]
    assert offer_hours(lab) == []


def test_merges_without_a_pause_delay_a_correction_by_an_hour_at_most(lab):
    publish(lab, 0)
    poll(lab, SETTLED)
    offer_hours(lab)
    publish(lab, 1)
    lab.query("UPDATE etl.hours SET changed_since = changed_since - INTERVAL 1 HOUR")
    publish(lab, 2)
    assert [hour.correction for hour in offer_hours(lab)] == [True]


def test_an_hour_of_the_past_is_announced_when_merges_have_paused(lab):
    publish(lab, 0)
    poll(lab, SETTLED + timedelta(hours=1))
    assert offer_hours(lab) == []
    age_changes(lab)
    assert [hour.start for hour in offer_hours(lab)] == [TEN]


def test_hours_without_rows_are_announced_as_the_clock_reaches_their_end(lab):
    poll(lab, TEN - SECOND)
    poll(lab, ELEVEN)
    poll(lab, ELEVEN + timedelta(hours=2, minutes=1))
    assert [(hour.start, hour.raw_rows, hour.correction) for hour in offer_hours(lab)] == [
        (ELEVEN + timedelta(hours=1), 0, False),
        (ELEVEN, 0, False),
        (TEN, 0, False),
    ]
    assert offer_hours(lab) == []


def test_a_merge_that_completes_a_day_announces_each_of_its_hours(lab):
    batch = [TEN - timedelta(days=1) + timedelta(hours=number) for number in range(24)]
    lab.see(*batch)
    lab.publish({at: [contribution()] for at in batch})
    poll(lab, CLOCK)
    age_changes(lab)
    assert sorted(hour.start for hour in offer_hours(lab)) == batch
    assert offer_hours(lab) == []


def test_the_newest_hours_go_first_and_a_task_takes_a_day_of_them(lab):
    batch = [TEN - timedelta(days=1, hours=1) + timedelta(hours=number) for number in range(25)]
    lab.see(*batch)
    lab.publish({at: [contribution()] for at in batch})
    poll(lab, CLOCK)
    age_changes(lab)
    assert [hour.start for hour in offer_hours(lab)] == batch[:0:-1]
    assert [hour.start for hour in offer_hours(lab)] == batch[:1]


def test_an_offer_that_airflow_has_not_recorded_is_made_again(lab):
    publish(lab, 0)
    poll(lab, SETTLED)
    first = hours.offer(lab.conn, RECRUITMENT)  # and then its task is killed
    assert hours.is_any_due(lab.conn, RECRUITMENT)
    assert hours.offer(lab.conn, RECRUITMENT) == []  # not before Airflow was queried for the first offer
    [offer] = hours.offers(lab.conn, RECRUITMENT)
    hours.confirm(lab.conn, RECRUITMENT, [offer], set())
    assert hours.offer(lab.conn, RECRUITMENT) == first


@pytest.mark.parametrize("was_recorded", [True, False])
def test_a_merge_between_the_offer_and_the_query_of_airflow_is_announced_too(lab, was_recorded):
    publish(lab, 0)
    poll(lab, SETTLED)
    [first] = hours.offer(lab.conn, RECRUITMENT)
    publish(lab, 1)
    recorded = {(first.start, first.version)} if was_recorded else set()
    hours.confirm(lab.conn, RECRUITMENT, hours.offers(lab.conn, RECRUITMENT), recorded)
    age_changes(lab)
    [second] = offer_hours(lab)
    assert (second.correction, second.raw_rows) == (was_recorded, 2)
    assert second.version > first.version


def test_a_merge_that_is_run_again_changes_no_hour(lab):
    batch_id = publish(lab, 0)
    before = lab.query("SELECT * FROM etl.hours")
    merge.merge(batch_id)
    assert lab.query("SELECT * FROM etl.hours") == before


def test_a_batch_raises_the_version_of_each_of_its_hours_once(lab):
    publish(lab, 0, 1, 2, 60, 61)
    assert lab.query("SELECT hour, version FROM etl.hours ORDER BY hour") == [(TEN, 1), (ELEVEN, 1)]


def test_figures_are_sums_of_each_hour_of_the_facts_as_the_bi_account_reads_them(lab):
    publish(lab, 0, 1, jobs=2)
    figures = hours.figures(RECRUITMENT, ["2026-03-01T10:00:00+00:00", "2026-03-01T11:00:00+00:00"])
    assert [(row["hour"], row["clicks"]) for row in figures["recruitment.events"]] == [(TEN, 4)]
    assert hours.figures(RECRUITMENT, []) == {}


def test_an_event_lists_the_hours_of_the_facts_that_late_events_add_to(lab):
    lab.see(TEN)
    lab.publish({TEN: [contribution(hours=8), contribution(hours=9), contribution(hours=10)]})
    poll(lab, SETTLED)
    [hour] = offer_hours(lab)
    content = hour.as_json()
    assert content["fact_hours"] == [f"2026-03-01T{number:02}:00:00+00:00" for number in (8, 9, 10)]
    assert content["fact_hours_count"] == 3
    [sums] = hours.figures(RECRUITMENT, content["fact_hours"]).values()
    assert [(row["hour"].hour, row["clicks"]) for row in sums] == [(8, 1), (9, 1), (10, 1)]


def test_an_hour_of_the_shop_lists_the_hours_of_its_key(lab):
    shop = Shop(lab.conn)
    shop.see(TEN)
    shop.publish({TEN: [operation(event_time=minute(-90)), operation("cart")]})
    ledger.record_poll_time(shop.conn, shop.pipeline, ELEVEN + shop.pipeline.settle)
    [hour] = hours.offer(shop.conn, shop.pipeline)
    assert hour.fact_hours == (TEN - timedelta(hours=2), TEN)


def test_a_correction_also_lists_hours_that_lost_their_rows(lab):
    lab.see(TEN)
    lab.publish({TEN: [contribution(hours=8)]})
    poll(lab, SETTLED)
    offer_hours(lab)
    lab.publish({TEN: [contribution(hours=9)]}, run_id="again")
    age_changes(lab)
    [hour] = offer_hours(lab)
    assert hour.fact_hours == (TEN - timedelta(hours=2), TEN - timedelta(hours=1))
    [sums] = hours.figures(RECRUITMENT, hour.as_json()["fact_hours"]).values()
    assert [row["hour"].hour for row in sums] == [9]


def test_an_event_lists_the_newest_hours_of_the_facts_and_counts_all(lab):
    lab.see(TEN)
    days = [date(2026, 2, 27), date(2026, 2, 28), date(2026, 3, 1)]
    lab.publish({TEN: [contribution(dates=day, hours=number) for day in days for number in range(24)]})
    poll(lab, SETTLED)
    content = offer_hours(lab)[0].as_json()
    assert content["fact_hours_count"] == 72
    assert (content["fact_hours"][0], content["fact_hours"][-1]) == (
        "2026-02-28T00:00:00+00:00",
        "2026-03-01T23:00:00+00:00",
    )


def merge_batch(lab: Lab, kind: str = "minute", **values) -> int:
    """Merge a batch of ten o'clock without running check_warehouse, like a run that ends too early."""
    lab.see(TEN)
    batch_id = lab.open(TEN, kind=kind, **values)
    lab.stage(batch_id, {TEN: [contribution()]})
    assert lab.check(batch_id).passed
    merge.merge(batch_id)
    return batch_id


@pytest.mark.parametrize("kind", ["minute", "reconcile", "backfill"])
def test_an_hour_is_complete_when_the_gate_after_its_merge_has_passed(lab, kind):
    batch_id = merge_batch(lab, kind)
    poll(lab, SETTLED)
    assert not hours.is_any_due(lab.conn, RECRUITMENT)
    assert lab.check(batch_id, "warehouse").passed
    assert [hour.start for hour in offer_hours(lab)] == [TEN]


def test_an_hour_whose_gate_fails_is_announced_when_its_minutes_are_merged_again(lab):
    batch_id = merge_batch(lab, "reconcile")
    poll(lab, SETTLED)
    lab.query("UPDATE recruitment.events SET clicks = clicks + 1")
    assert not lab.check(batch_id, "warehouse").passed
    assert offer_hours(lab) == []
    lab.query("UPDATE etl.minute_ledger SET state = 'held', held_changed_at = seen_changed_at")
    assert offer_hours(lab) == []
    publish(lab, 0, run_id="again")
    assert [(hour.start, hour.version, hour.correction) for hour in offer_hours(lab)] == [(TEN, 2, False)]


def test_a_merge_whose_run_ended_before_its_gate_is_listed_as_unchecked(lab):
    batch_id = merge_batch(lab)
    poll(lab, SETTLED)
    lab.query("UPDATE etl.batches SET unchecked_since = unchecked_since - INTERVAL 5 MINUTE")
    assert hours.is_any_due(lab.conn, RECRUITMENT)
    assert hours.unchecked(lab.conn, RECRUITMENT) == [batch_id]
    assert lab.check(batch_id, "warehouse").passed
    assert hours.unchecked(lab.conn, RECRUITMENT) == []


def test_a_lake_whose_clock_is_ahead_completes_no_hour_too_early(lab, caplog):
    now = lab.one("SELECT CURRENT_TIMESTAMP(6)")
    poll(lab, now - timedelta(hours=3))
    poll(lab, now + timedelta(days=1))
    assert f"more than {RECRUITMENT.future_tolerance} ahead of the warehouse's" in caplog.text
    due = [hour.start for hour in offer_hours(lab)]
    assert due and max(due) + timedelta(hours=1) <= now + RECRUITMENT.future_tolerance
    poll(lab, lab.one("SELECT CURRENT_TIMESTAMP(6)"))
    rows = [hour for (hour,) in lab.query("SELECT hour FROM etl.hours ORDER BY hour")]
    assert rows == [rows[0] + number * timedelta(hours=1) for number in range(len(rows))]
    assert rows[-1] <= now + RECRUITMENT.future_tolerance
