"""A change log of a former version: its days are copied to where polls read them, and its writers lose nothing."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from include.lake import change_log, schema

MINUTE = datetime(2026, 3, 1, 10, 5)
DAY, NEXT_DAY = MINUTE.date(), MINUTE.date() + timedelta(days=1)
TABLE = "test.former"
TOUCH = (
    "INSERT INTO minutemark.minute_changes (lake_table, day, minute, changed_at, day_changed_at) "
    "VALUES (%s, %s, %s, now(), now())"
)


@pytest.fixture
def former_touch(admin):
    """Write touches as a former version does; during the test, the table has the column that they need."""
    admin.execute("ALTER TABLE minutemark.minute_changes ADD day_changed_at timeuuid STATIC")
    yield lambda *minutes: [admin.execute(TOUCH, (TABLE, minute.date(), minute)) for minute in minutes]
    admin.execute("ALTER TABLE minutemark.minute_changes DROP day_changed_at")
    for table in schema.CHANGE_LOG:
        admin.execute(f"TRUNCATE {table}")


def test_set_up_copies_days_and_copying_again_changes_nothing(former_touch, reader):
    former_touch(MINUTE, MINUTE + timedelta(days=1))
    assert change_log.changed_days(reader, TABLE) == {}
    schema.apply_schema()
    copied = change_log.changed_days(reader, TABLE)
    assert list(copied) == [DAY, NEXT_DAY]
    schema.apply_schema()
    assert change_log.changed_days(reader, TABLE) == copied


def test_a_newer_touch_is_not_replaced_by_a_copy(former_touch, reader, writer):
    former_touch(MINUTE)
    change_log.touch(writer, TABLE, [MINUTE])
    newest = change_log.changed_days(reader, TABLE)
    assert change_log.copy_former_days(reader, writer) == 1
    assert change_log.changed_days(reader, TABLE) == newest


# ⚑ a follower of the former version that still runs while the new one polls
def test_a_touch_by_a_former_writer_after_the_copy_is_copied_by_the_next_copy(former_touch, reader, writer):
    former_touch(MINUTE)
    change_log.copy_former_days(reader, writer)
    change_log.touch(writer, TABLE, [MINUTE])
    before = change_log.changed_days(reader, TABLE)
    former_touch(MINUTE + timedelta(minutes=1))
    change_log.copy_former_days(reader, writer)
    assert change_log.changed_days(reader, TABLE) != before
    assert len(change_log.minutes_of_day(reader, TABLE, DAY)) == 2


def test_a_copy_does_not_bring_a_forgotten_day_back(former_touch, reader, writer):
    former_touch(MINUTE)
    change_log.copy_former_days(reader, writer)
    change_log.forget(writer, TABLE, change_log.state_of_day(reader, TABLE, DAY))
    change_log.copy_former_days(reader, writer)
    assert change_log.changed_days(reader, TABLE) == {}


def test_a_lake_of_this_version_has_nothing_to_copy(reader, writer):
    change_log.touch(writer, TABLE, [MINUTE])
    assert change_log.copy_former_days(reader, writer) == 0
