"""Old days of the change log, on both real stores: which ones are deleted, and what a late touch of one does."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from include import planner
from include.housekeeping import change_log_days
from include.lake import change_log
from include.lake.schema import CHANGE_LOG
from include.lake.session import lake
from include.warehouse import batches, ledger, merge
from include.warehouse.batches import RunInfo
from tests.warehouse.lab import RECRUITMENT, Lab, contribution, touched_at

MINUTE = timedelta(minutes=1)
AGE = timedelta(days=30)
TABLE = RECRUITMENT.lake_table


@pytest.fixture
def old(reader) -> datetime:
    """A minute of a day long past; the change log is empty."""
    with lake("lake_admin") as admin:  # truncated: deletions of the last test would hide back-dated touches
        for table in CHANGE_LOG:
            admin.execute(f"TRUNCATE {table}")
    return (change_log.clock(reader) - timedelta(days=40)).replace(hour=10, minute=0, second=0, microsecond=0)


def touch_long_ago(*minutes: datetime) -> None:
    """Touch minutes with write timestamps soon after them, not with the current time."""
    for minute in minutes:
        touch_at(minute + timedelta(minutes=2), minute)


def touch_at(written: datetime, *minutes: datetime) -> None:
    """Touch minutes with the time `written`, for the touch and for its write timestamp."""
    with lake("lake_admin") as admin:
        for minute in minutes:
            stamp = (written - datetime(1970, 1, 1)) // timedelta(microseconds=1)
            admin.execute(
                "INSERT INTO minutemark.minute_changes (lake_table, day, minute, changed_at) "
                "VALUES (%s, %s, %s, %s) USING TIMESTAMP %s",
                (TABLE, minute.date(), minute, touched_at(written), stamp),
            )
            admin.execute(
                "INSERT INTO minutemark.changed_days (lake_table, day, changed_at) VALUES (%s, %s, %s) USING TIMESTAMP %s",
                (TABLE, minute.date(), touched_at(written), stamp),
            )


def process(lab: Lab, reader, run_id: str = "run-1", *, clicks: int = 1) -> list[datetime]:
    """Do what the next run of the minute DAG does; return the minutes that it merged."""
    polled = planner.poll(RECRUITMENT, reader, lab.conn)
    run = RunInfo("recruitment_minute", run_id, polled.clock)
    batch_id = planner.open_delta(RECRUITMENT, reader, lab.conn, run, polled=polled)
    if batch_id is None:
        return []
    minutes = [planned.minute for planned in batches.get(lab.conn, batch_id).minutes]
    lab.stage(batch_id, {minute: [contribution(clicks=clicks, event_count=clicks)] for minute in minutes})
    assert lab.check(batch_id).passed
    merge.merge(batch_id)
    return minutes


def forget(lab: Lab, reader, writer, **values) -> tuple[int, int]:
    return change_log_days.forget_days(reader, writer, lab.conn, TABLE, [RECRUITMENT], AGE, **values)


def test_a_merged_day_without_recent_touches_is_deleted(lab: Lab, reader, writer, old) -> None:
    touch_long_ago(old, old + MINUTE)
    assert process(lab, reader) == [old, old + MINUTE]
    assert forget(lab, reader, writer, dry=True) == (1, 0)
    assert list(change_log.changed_days(reader, TABLE)) == [old.date()]
    assert forget(lab, reader, writer) == (1, 0)
    assert change_log.changed_days(reader, TABLE) == {}
    assert lab.one("SELECT COUNT(*) FROM etl.day_cursors") == 0
    assert process(lab, reader, "run-2") == [], "A deleted day is not a change."
    assert forget(lab, reader, writer) == (0, 0)
    assert lab.facts() == {(7, 0): 2}


def test_a_late_touch_of_a_forgotten_day_brings_its_minute_back(lab: Lab, reader, writer, old) -> None:
    touch_long_ago(old, old + MINUTE)
    assert process(lab, reader) == [old, old + MINUTE]
    forget(lab, reader, writer)
    change_log.touch(writer, TABLE, [old + MINUTE])
    assert process(lab, reader, "run-2", clicks=5) == [old + MINUTE]
    assert lab.facts() == {(7, 0): 6}
    assert forget(lab, reader, writer) == (0, 0), "Its day was touched today."


def test_a_late_touch_of_a_new_minute_of_a_forgotten_day_is_found(lab: Lab, reader, writer, old) -> None:
    touch_long_ago(old)
    assert process(lab, reader) == [old]
    forget(lab, reader, writer)
    change_log.touch(writer, TABLE, [old + 7 * MINUTE])
    assert process(lab, reader, "run-2") == [old + 7 * MINUTE]


# ⚑ a late writer between the poll and the deletion
def test_a_touch_that_comes_while_its_day_is_forgotten_is_processed(
    lab: Lab, reader, writer, old, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch_long_ago(old, old + MINUTE)
    assert process(lab, reader) == [old, old + MINUTE]
    really_forget = change_log.forget

    def forget_after_a_late_touch(session, lake_table, state) -> None:
        change_log.touch(session, lake_table, [old])
        planner.poll(RECRUITMENT, reader, lab.conn)  # and a poll that sees it
        really_forget(session, lake_table, state)

    monkeypatch.setattr(change_log, "forget", forget_after_a_late_touch)
    assert forget(lab, reader, writer) == (1, 0)
    assert list(change_log.minutes_of_day(reader, TABLE, old.date())) == [old]
    assert lab.one("SELECT COUNT(*) FROM etl.day_cursors") == 1, "The poll has moved the cursor: it is not the old one."
    assert process(lab, reader, "run-2", clicks=3) == [old]
    assert lab.facts() == {(7, 0): 4}


@pytest.mark.parametrize(
    "why", ["not polled", "touched since the poll", "pending", "held", "check failed", "one minute unseen"]
)
def test_a_day_that_is_not_all_merged_is_kept(lab: Lab, reader, writer, old, why: str) -> None:
    touch_long_ago(old)
    if why != "not polled":
        planner.poll(RECRUITMENT, reader, lab.conn)
    if why not in ("not polled", "pending"):
        process(lab, reader)
    if why == "touched since the poll":
        touch_long_ago(old + MINUTE)
    if why == "held":
        ledger.hold(lab.conn.cursor(), "recruitment", [(old, lab.ledger(old)["seen_changed_at"], "broken")], None)
        lab.conn.commit()
    if why == "check failed":
        lab.query("UPDATE etl.minute_ledger SET read_changed_at = NULL, read_at = NULL, settled_before = NULL")
    if why == "one minute unseen":  # visible late, without its day's touch
        with lake("lake_admin") as admin:
            admin.execute(
                "INSERT INTO minutemark.minute_changes (lake_table, day, minute, changed_at) VALUES (%s, %s, %s, %s) "
                "USING TIMESTAMP 1",
                (TABLE, old.date(), old + 2 * MINUTE, touched_at(old)),
            )
    assert forget(lab, reader, writer) == (0, 1)
    assert list(change_log.changed_days(reader, TABLE)) == [old.date()]


def test_a_closed_minute_does_not_keep_its_day(lab: Lab, reader, writer, old) -> None:
    touch_long_ago(old)
    planner.poll(RECRUITMENT, reader, lab.conn)
    lab.query("UPDATE etl.minute_ledger SET state = 'closed'")
    assert forget(lab, reader, writer) == (1, 0)


def test_a_recent_touch_keeps_an_old_day(lab: Lab, reader, writer, old) -> None:
    change_log.touch(writer, TABLE, [old])
    process(lab, reader)
    lab.query("UPDATE etl.minute_ledger SET settled_before = '2100-01-01'")
    assert forget(lab, reader, writer) == (0, 0)


# A future timestamp breaks the contract of writers; a deletion with that timestamp would hide every later touch.
def test_a_day_with_a_future_write_timestamp_stays(lab: Lab, reader, writer, old) -> None:
    touch_long_ago(old)
    with lake("lake_admin") as admin:
        admin.execute(
            "UPDATE minutemark.minute_changes USING TIMESTAMP 99999999999999999 SET changed_at = %s "
            "WHERE lake_table = %s AND day = %s AND minute = %s",
            (touched_at(old), TABLE, old.date(), old),
        )
    process(lab, reader)
    assert forget(lab, reader, writer) == (0, 1)
    change_log.touch(writer, TABLE, [old + MINUTE])
    assert process(lab, reader, "run-2") == [old + MINUTE]


def test_a_day_is_deleted_only_when_every_pipeline_of_its_table_has_merged_it(lab: Lab, reader, writer, old) -> None:
    touch_long_ago(old)
    assert process(lab, reader) == [old]
    newcomer = replace(RECRUITMENT, name="newcomer")
    both = [RECRUITMENT, newcomer]
    assert change_log_days.forget_days(reader, writer, lab.conn, TABLE, both, AGE) == (0, 1)
    planner.poll(newcomer, reader, lab.conn)
    lab.query("UPDATE etl.minute_ledger SET state = 'closed' WHERE pipeline = 'newcomer'")
    assert change_log_days.forget_days(reader, writer, lab.conn, TABLE, both, AGE) == (1, 0)
    assert lab.one("SELECT COUNT(*) FROM etl.day_cursors") == 0


def test_days_of_a_broken_clock_are_forgotten_a_day_after_their_last_touch(lab: Lab, reader, writer, old) -> None:
    """This includes future days, which never grow old; the ledger makes them pending again when their time comes."""
    clock = change_log.clock(reader).replace(second=0, microsecond=0)
    far, soon, early = clock + timedelta(days=20_000), clock + timedelta(hours=12), datetime(1999, 5, 1, 12)
    touch_at(clock - timedelta(hours=25), far, soon, early)
    assert set(process(lab, reader)) == {far, soon, early}
    assert forget(lab, reader, writer) == (2, 0)
    assert list(change_log.changed_days(reader, TABLE)) == [soon.date()]
    assert process(lab, reader, "run-2") == []
    touch_at(clock - timedelta(hours=23), far)
    process(lab, reader, "run-3")
    assert forget(lab, reader, writer) == (0, 0)


def test_a_future_day_that_is_touched_again_in_its_time_is_read(lab: Lab, reader, writer, old) -> None:
    clock = change_log.clock(reader).replace(second=0, microsecond=0)
    far = clock + timedelta(days=3)
    touch_at(clock - timedelta(hours=25), far)
    process(lab, reader)
    assert forget(lab, reader, writer) == (1, 0)
    change_log.touch(writer, TABLE, [far])
    assert process(lab, reader, "run-2") == [far]
