"""Deleting a day of the change log: touches that were read are removed, and those written since survive."""

from __future__ import annotations

from datetime import datetime, timedelta

from include.lake import change_log
from tests.warehouse.lab import touched_at

MINUTE = datetime(2026, 3, 1, 10, 5)
NEXT = MINUTE + timedelta(minutes=1)
DAY = MINUTE.date()


def test_a_forgotten_day_is_gone_with_its_minutes(writer, reader):
    change_log.touch(writer, "test.forget", [MINUTE, NEXT, MINUTE + timedelta(days=1)])
    state = change_log.state_of_day(reader, "test.forget", DAY)
    assert list(state.minutes) == [MINUTE, NEXT]
    change_log.forget(writer, "test.forget", state)
    assert list(change_log.changed_days(reader, "test.forget")) == [DAY + timedelta(days=1)]
    assert change_log.state_of_day(reader, "test.forget", DAY) is None


# ⚑ a writer's touch between the read and the deletion
def test_a_touch_between_the_read_and_the_deletion_survives(writer, reader):
    change_log.touch(writer, "test.race", [MINUTE, NEXT])
    state = change_log.state_of_day(reader, "test.race", DAY)
    change_log.touch(writer, "test.race", [MINUTE])
    touched = change_log.minutes_of_day(reader, "test.race", DAY)[MINUTE]
    newest = change_log.changed_days(reader, "test.race")[DAY]
    change_log.forget(writer, "test.race", state)
    assert change_log.minutes_of_day(reader, "test.race", DAY) == {MINUTE: touched}
    assert change_log.changed_days(reader, "test.race") == {DAY: newest}
    change_log.forget(writer, "test.race", state)  # tried again
    assert change_log.minutes_of_day(reader, "test.race", DAY) == {MINUTE: touched}


def test_a_touch_after_the_deletion_makes_the_day_appear_again(writer, reader):
    change_log.touch(writer, "test.again", [MINUTE, NEXT])
    change_log.forget(writer, "test.again", change_log.state_of_day(reader, "test.again", DAY))
    change_log.touch(writer, "test.again", [NEXT])
    assert list(change_log.minutes_of_day(reader, "test.again", DAY)) == [NEXT]
    assert list(change_log.changed_days(reader, "test.again")) == [DAY]


# A deletion with the timestamp of the day's row would leave a minute that was written later.
def test_the_deletion_is_as_new_as_the_newest_cell(writer, reader, admin):
    change_log.touch(writer, "test.newest_cell", [MINUTE])
    admin.execute(
        "INSERT INTO minutemark.minute_changes (lake_table, day, minute, changed_at) VALUES (%s, %s, %s, %s)",
        ("test.newest_cell", DAY, NEXT, touched_at(NEXT)),
    )
    change_log.forget(writer, "test.newest_cell", change_log.state_of_day(reader, "test.newest_cell", DAY))
    assert change_log.state_of_day(reader, "test.newest_cell", DAY) is None
