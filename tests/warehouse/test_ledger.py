"""The ledger on a real server: what is pending, and that polls and merges do not undo each other."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from include.warehouse import held, ledger, merge, status
from include.warehouse.session import rows
from tests.warehouse.lab import CLOCK, RECRUITMENT, SECOND, TEN, Lab, contribution, minute, touched_at

LONG_AGO = CLOCK - timedelta(hours=1)


def test_a_touched_minute_is_pending_until_it_is_merged(lab: Lab) -> None:
    lab.see(minute(0), minute(1), at=LONG_AGO)
    assert lab.pending() == [minute(0), minute(1)]
    lab.publish({minute(0): [contribution()]})
    assert lab.pending() == [minute(1)]


# ⚑ pending is derived, never a flag that a merge could overwrite
@pytest.mark.parametrize("at", [CLOCK + 5 * SECOND, LONG_AGO + SECOND], ids=["now", "from a node whose clock is slow"])
def test_a_touch_during_the_run_survives_its_merge(lab: Lab, at: datetime) -> None:
    lab.see(minute(0), at=LONG_AGO)
    batch_id = lab.open(minute(0))
    lab.stage(batch_id, {minute(0): [contribution()]})
    assert lab.check(batch_id).passed
    lab.see(minute(0), at=at, clock=CLOCK + 6 * SECOND)
    merge.merge(batch_id)
    assert lab.pending() == [minute(0)]
    assert lab.ledger(minute(0))["state"] == "merged"


def test_a_poll_does_not_undo_what_a_merge_wrote(lab: Lab) -> None:
    lab.see(minute(0), at=LONG_AGO)
    lab.publish({minute(0): [contribution()]})
    lab.see(minute(0), at=LONG_AGO)
    assert lab.pending() == []
    lab.see(minute(0), at=LONG_AGO + SECOND)
    row = lab.ledger(minute(0))
    assert (row["pending"], row["state"], row["raw_rows"]) == (1, "merged", 1)


def test_a_touch_within_the_settle_time_before_the_read_is_read_again(lab: Lab) -> None:
    lab.see(minute(0), at=CLOCK - 29 * SECOND)  # read at CLOCK: a row of that touch may not have been visible yet
    lab.see(minute(1), at=CLOCK - 31 * SECOND)
    lab.publish({minute(0): [contribution()], minute(1): [contribution()]})
    assert lab.pending() == [minute(0)]
    lab.publish({minute(0): [contribution()]}, run_id="run-2", clock=CLOCK + 60 * SECOND)
    assert lab.pending() == []


def test_minutes_settle_after_the_last_change_if_each_has_been_read_since(lab: Lab) -> None:
    settles_at = CLOCK - 10 * SECOND + RECRUITMENT.settle
    assert ledger.settles_at(lab.conn, RECRUITMENT) is None  # nothing is pending
    lab.see(minute(0), at=CLOCK - 20 * SECOND)
    lab.see(minute(1), at=CLOCK - 10 * SECOND)
    lab.see(minute(2), at=LONG_AGO)
    assert ledger.settles_at(lab.conn, RECRUITMENT) is None  # none was read
    lab.publish({minute(number): [contribution()] for number in range(3)})
    assert lab.pending() == [minute(0), minute(1)]
    assert ledger.settles_at(lab.conn, RECRUITMENT) == settles_at
    lab.see(minute(2), at=CLOCK - 15 * SECOND)
    assert ledger.settles_at(lab.conn, RECRUITMENT) is None  # minute 2 changed after its read


@pytest.mark.parametrize("change", ["read_at = NULL", "state = 'seen'", "split_size = 1", "state = 'held'"])
def test_a_minute_that_waits_for_more_than_time_does_not_settle(lab: Lab, change: str) -> None:
    lab.see(minute(0), at=CLOCK - 10 * SECOND)
    lab.publish({minute(0): [contribution()]})
    assert ledger.settles_at(lab.conn, RECRUITMENT) is not None
    lab.conn.cursor().execute(f"UPDATE etl.minute_ledger SET {change}")
    assert lab.pending() == [minute(0)]
    assert ledger.settles_at(lab.conn, RECRUITMENT) is None


def test_a_change_of_a_folded_hour_does_not_keep_other_minutes_from_settling(lab: Lab) -> None:
    old = minute(0) - timedelta(days=100)
    lab.see(minute(0), at=CLOCK - 10 * SECOND)
    lab.publish({minute(0): [contribution()]})
    lab.query("INSERT INTO etl.folded_hours (pipeline, hour) VALUES ('recruitment', %s)", old)
    lab.see(old, at=CLOCK - 20 * SECOND)
    assert lab.pending() == [old, minute(0)]
    assert ledger.settles_at(lab.conn, RECRUITMENT) == CLOCK - 10 * SECOND + RECRUITMENT.settle


# ⚑ a touch after the hold makes a held minute pending again
def test_a_held_minute_waits_for_the_next_touch(lab: Lab) -> None:
    lab.see(minute(0), at=LONG_AGO)
    changed = str(touched_at(LONG_AGO))
    ledger.hold(lab.conn.cursor(), "recruitment", [(minute(0), changed, "broken")], 1)
    lab.conn.commit()
    assert lab.pending() == []
    assert lab.ledger(minute(0))["reason"] == "broken"
    lab.see(minute(0), at=LONG_AGO + SECOND)
    assert lab.pending() == [minute(0)]


def test_a_touch_between_read_and_hold_counts_as_after_the_hold(lab: Lab) -> None:
    lab.see(minute(0), at=LONG_AGO)
    read = str(touched_at(LONG_AGO))
    lab.see(minute(0), at=LONG_AGO + SECOND)
    ledger.hold(lab.conn.cursor(), "recruitment", [(minute(0), read, "broken")], 1)
    lab.conn.commit()
    assert lab.pending() == [minute(0)]


def test_a_newer_merged_read_is_not_held_by_an_older_one(lab: Lab) -> None:
    lab.publish({minute(0): [contribution()]})
    attempt = lab.ledger(minute(0))["attempt"]
    ledger.hold(lab.conn.cursor(), "recruitment", [(minute(0), None, "broken")], attempt - 1)
    lab.conn.commit()
    assert lab.ledger(minute(0))["state"] == "merged"


def test_cursors_move_only_together_with_their_minutes(lab: Lab) -> None:
    with lab.refusing("INSERT", "etl.day_cursors"), pytest.raises(Exception, match="INSERT refused"):
        lab.see(minute(0))
    assert lab.query("SELECT * FROM etl.minute_ledger") == []
    lab.see(minute(0))
    assert list(ledger.read_cursors(lab.conn, RECRUITMENT)) == [TEN.date()]
    assert lab.pending() == [minute(0)]


def test_days_are_read_when_they_change_and_again_while_their_touch_is_recent() -> None:
    old, fresh, moved = (TEN.date() + timedelta(days=number) for number in range(3))
    settle = timedelta(seconds=30)
    days = {
        old: touched_at(LONG_AGO),
        # The day's row may lack a touch of the same moment from another coordinator.
        fresh: touched_at(CLOCK - 20 * SECOND),
        moved: touched_at(CLOCK),
    }
    cursors = {old: (days[old], CLOCK), fresh: (days[fresh], CLOCK), moved: (days[old], CLOCK)}
    assert ledger.days_to_read(days, cursors, settle) == [fresh, moved]
    assert ledger.days_to_read(days, {}, settle) == [old, fresh, moved]
    later = {day: (changed, CLOCK + 60 * SECOND) for day, changed in days.items()}
    assert ledger.days_to_read(days, later, settle) == []


def test_choosing_is_bounded_for_any_backlog(lab: Lab) -> None:
    small = replace(RECRUITMENT, live_minutes=2, max_minutes=3)
    lab.see(*(minute(number) for number in range(110)), at=LONG_AGO)
    result = ledger.pending_minutes(lab.conn, small, CLOCK)
    assert [pending.minute for pending in result] == [minute(0), minute(1), minute(2), minute(108), minute(109)]
    assert ledger.pending_count(lab.conn, small, limit=50) == 50


def test_pending_minutes_are_found_by_their_index(lab: Lab) -> None:
    _add_merged_minutes(lab)
    binds = {"pipeline": "recruitment", "horizon": CLOCK, "limit": 10}
    for name in ("newest_live", "oldest_pending", "suspects", "pending_count"):
        plans = rows(lab.conn.cursor(), f"EXPLAIN FORMAT=TRADITIONAL {ledger.sql(name)}", binds)
        plan = next(step for step in plans if step["table"] not in (None, "<derived2>"))
        assert plan["key"] == "pending_minutes", plans
        assert "filesort" not in (plan["Extra"] or "") or name == "suspects", plans


def _add_merged_minutes(lab: Lab) -> None:
    """Add so many merged minutes that a scan is the more expensive plan, and a few minutes that are pending."""
    lab.conn.cursor().executemany(
        "INSERT INTO etl.minute_ledger (pipeline, minute, seen_changed_at, read_changed_at, settled_before, seen_changed_time,"
        " read_at, state) VALUES ('recruitment', %s, 'same', 'same', %s, '2026-01-01', '2026-01-01', 'merged')",
        [(TEN - timedelta(minutes=number), CLOCK) for number in range(20_000)],
    )
    lab.conn.commit()
    lab.see(*(minute(number) for number in range(100)), at=LONG_AGO)
    lab.query("UPDATE etl.minute_ledger SET split_size = 2 WHERE minute > %s AND pending = 1", minute(97))
    lab.query("SELECT 1")


def test_a_poll_of_a_day_with_every_minute_touched_writes_only_new_touches(lab: Lab) -> None:
    minutes_of_day = [datetime(2026, 3, 1) + timedelta(minutes=number) for number in range(1_440)]
    lab.see(*minutes_of_day, at=LONG_AGO)
    changed = {at: touched_at(LONG_AGO) for at in minutes_of_day} | {minute(0): touched_at(CLOCK)}
    changed_count = ledger.record_poll(lab.conn, RECRUITMENT, CLOCK, {TEN.date(): touched_at(CLOCK)}, changed)
    assert changed_count == 1, "Unchanged minutes must not be written again."


def test_typical_rows_are_those_of_recent_minutes_with_rows(lab: Lab) -> None:
    assert ledger.typical_rows(lab.conn, RECRUITMENT) is None
    lab.publish({minute(0): [contribution(event_count=30)], minute(1): [contribution(event_count=10)], minute(2): []})
    assert ledger.typical_rows(lab.conn, RECRUITMENT) == 20


def test_minutes_past_lake_retention_are_closed(lab: Lab) -> None:
    forgetful = replace(RECRUITMENT, lake_retention=timedelta(hours=1, minutes=50))
    lab.see(minute(0), minute(30), at=LONG_AGO)
    assert ledger.close_expired(lab.conn, forgetful, CLOCK) == 1
    assert lab.pending() == [minute(30)]
    assert "not counted" in lab.ledger(minute(0))["reason"]
    assert ledger.close_expired(lab.conn, RECRUITMENT, CLOCK) == 0


def test_a_held_minute_past_lake_retention_is_closed_and_keeps_its_facts_and_reason(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    forgetful = replace(RECRUITMENT, lake_retention=timedelta(hours=1, minutes=50))
    changed = touched_at(LONG_AGO)
    minutes = [minute(number) for number in (0, 1, 30)]
    lab.see(*minutes, at=LONG_AGO)
    lab.publish({at: [contribution()] for at in minutes})
    seen = {at: lab.ledger(at)["seen_changed_at"] for at in minutes}
    held_minutes = [(minute(number), seen[minute(number)], f"staging_x: broken {number}") for number in (0, 30)]
    ledger.hold(lab.conn.cursor(), "recruitment", held_minutes, None, waiting=[minute(0)])
    lab.conn.commit()
    facts = lab.facts()
    day = (TEN.date(), changed, dict.fromkeys(minutes, changed))
    assert not ledger.covers_day(lab.conn, forgetful, *day)

    assert ledger.close_expired(lab.conn, RECRUITMENT, CLOCK) == 0
    assert ledger.close_expired(lab.conn, forgetful, CLOCK) == 1
    assert ledger.close_expired(lab.conn, forgetful, CLOCK) == 0
    row = lab.ledger(minute(0))
    assert (row["state"], row["waiting"], row["pending"]) == ("closed", 0, 0)
    assert row["reason"].startswith(
        "bedan.tracking keeps events for 110 minutes; this minute was not published in that time."
    )
    assert row["reason"].endswith("It was held because: staging_x: broken 0")
    assert "Held minutes of recruitment that are closed now: 1, from 2026-03-01 10:00:00" in caplog.text
    assert [lab.ledger(minute(number))["state"] for number in (1, 30)] == ["merged", "held"]
    assert status.freshness_of(lab.conn, forgetful)["held"] == 1
    with pytest.raises(
        held.ReleaseRefused, match=r"10:00 is closed: bedan.tracking .*broken 0\. Held minutes: .*10:30"
    ):
        held.release(lab.conn, forgetful, minute(0), minute(1), by="ann")

    ledger.close_expired(lab.conn, forgetful, CLOCK + timedelta(hours=1))
    assert ledger.covers_day(lab.conn, forgetful, *day)
    assert lab.facts() == facts


def test_a_minute_that_was_too_far_ahead_is_read_again_once_it_is_in_range(lab: Lab) -> None:
    """Its events were rejected only because it was too far ahead; once it is in range, they count without another touch."""
    day = RECRUITMENT.most_ahead
    ahead, now = CLOCK.replace(second=0) + day + timedelta(minutes=1), CLOCK.replace(day=2, hour=13)
    lab.see(ahead, minute(0), at=LONG_AGO)
    lab.publish({ahead: [], minute(0): [contribution()]}, rejects=[(ahead, RECRUITMENT.too_far_ahead_reason)])
    ledger.record_poll_time(lab.conn, RECRUITMENT, ahead - day - SECOND)
    assert lab.pending() == []
    ledger.record_poll_time(lab.conn, RECRUITMENT, now)  # a poll after a pause: the minute is over by now
    assert ahead < now and lab.pending() == [ahead]
    lab.publish({ahead: [contribution()]}, run_id="run-2", clock=now)
    ledger.record_poll_time(lab.conn, RECRUITMENT, now + SECOND)
    assert lab.pending() == []
