"""The change log: a poll sees every day and minute that was written, whatever the writer's clock says."""

import time
from datetime import UTC, date, datetime, timedelta

import pytest

from include.lake import change_log
from include.lake.keys import time_of

MINUTE = datetime(2026, 3, 1, 10, 5)
DAY = MINUTE.date()


def test_a_touch_shows_in_its_day_and_its_minute(writer, reader):
    before = change_log.clock(reader)
    change_log.touch(writer, "test.shows", [MINUTE])
    days, minutes = change_log.changed_days(reader, "test.shows"), change_log.minutes_of_day(reader, "test.shows", DAY)
    assert list(days) == [DAY]
    assert list(minutes) == [MINUTE]
    assert before - timedelta(seconds=1) <= time_of(minutes[MINUTE]) <= change_log.clock(reader)


def test_the_days_row_follows_the_newest_touch(writer, reader):
    change_log.touch(writer, "test.newest", [MINUTE])
    seen = [change_log.changed_days(reader, "test.newest")[DAY]]
    for minute in (MINUTE + timedelta(minutes=7), MINUTE - timedelta(minutes=7), MINUTE):
        change_log.touch(writer, "test.newest", [minute])
        seen.append(change_log.changed_days(reader, "test.newest")[DAY])
    times = [time_of(changed_at) for changed_at in seen]
    assert times == sorted(set(times))


def test_a_touch_leaves_other_minutes_and_days_as_they_were(writer, reader):
    next_day = MINUTE + timedelta(days=1)
    change_log.touch(writer, "test.others", [MINUTE, MINUTE + timedelta(minutes=1), next_day])
    minutes, days = (
        change_log.minutes_of_day(reader, "test.others", DAY),
        change_log.changed_days(reader, "test.others"),
    )
    change_log.touch(writer, "test.others", [MINUTE])
    after = change_log.minutes_of_day(reader, "test.others", DAY)
    assert after[MINUTE] != minutes[MINUTE]
    assert after[MINUTE + timedelta(minutes=1)] == minutes[MINUTE + timedelta(minutes=1)]
    assert change_log.changed_days(reader, "test.others")[next_day.date()] == days[next_day.date()]


def test_a_writer_whose_clock_is_ahead_does_not_win_over_later_touches(writer, reader):
    writer.cluster.timestamp_generator = lambda: int((time.time() + 3600) * 1_000_000)  # its clock is an hour ahead
    change_log.touch(writer, "test.ahead", [MINUTE])
    first = change_log.minutes_of_day(reader, "test.ahead", DAY)[MINUTE]
    writer.cluster.timestamp_generator = lambda: int(time.time() * 1_000_000)  # another writer, whose clock is right
    change_log.touch(writer, "test.ahead", [MINUTE])
    assert time_of(change_log.minutes_of_day(reader, "test.ahead", DAY)[MINUTE]) > time_of(first)
    assert time_of(change_log.changed_days(reader, "test.ahead")[DAY]) > time_of(first)


def test_touches_carry_the_servers_write_timestamp(writer, admin):
    writer.cluster.timestamp_generator = lambda: 1_000_000  # 1970
    change_log.touch(writer, "test.stamp", [MINUTE])
    stamp = admin.execute(
        "SELECT writetime(changed_at) AS stamp FROM minutemark.minute_changes WHERE lake_table = %s AND day = %s",
        ("test.stamp", DAY),
    ).one()
    assert abs(stamp.stamp / 1_000_000 - time.time()) < 60


def test_a_session_that_sends_client_timestamps_may_not_touch(writer):
    writer.use_client_timestamp = True
    with pytest.raises(ValueError, match="use_client_timestamp=False"):
        change_log.touch(writer, "test.refused", [MINUTE])


def test_thousands_of_minutes_of_many_days_are_all_touched(writer, reader):
    minutes = [MINUTE + timedelta(minutes=97 * number) for number in range(3_000)]
    change_log.touch(writer, "test.many", minutes)
    result = [
        minute
        for day in change_log.changed_days(reader, "test.many")
        for minute in change_log.minutes_of_day(reader, "test.many", day)
    ]
    assert sorted(result) == minutes


def test_the_digest_changes_with_every_touch(writer, reader):
    digests = [change_log.digest(change_log.changed_days(reader, "test.digest"))]
    for minute in (MINUTE, MINUTE, MINUTE + timedelta(days=1)):
        change_log.touch(writer, "test.digest", [minute])
        digests.append(change_log.digest(change_log.changed_days(reader, "test.digest")))
    assert len(set(digests)) == 4
    assert digests[-1] == change_log.digest(change_log.changed_days(reader, "test.digest"))


def test_the_clock_is_utc(reader):
    assert abs(change_log.clock(reader) - datetime.now(UTC).replace(tzinfo=None)) < timedelta(seconds=5)


def test_a_day_is_the_date_of_its_minutes(writer, reader):
    change_log.touch(writer, "test.day", [datetime(2026, 3, 1, 23, 59), datetime(2026, 3, 2, 0, 0)])
    assert sorted(change_log.changed_days(reader, "test.day")) == [date(2026, 3, 1), date(2026, 3, 2)]


# ⚑ a poll between the two writes of a touch
def test_a_day_is_touched_after_its_minutes(writer, reader, monkeypatch):
    change_log.touch(writer, "test.order", [MINUTE])
    before, reads = change_log.changed_days(reader, "test.order"), []
    write = change_log._write_to_one_partition

    def read_and_write(session, statement, rows):
        reads.append(
            (change_log.changed_days(reader, "test.order"), change_log.minutes_of_day(reader, "test.order", DAY))
        )
        write(session, statement, rows)

    monkeypatch.setattr(change_log, "_write_to_one_partition", read_and_write)
    change_log.touch(writer, "test.order", [MINUTE + timedelta(minutes=1)])
    (days_first, minutes_first), (days_between, minutes_between) = reads
    assert days_first == days_between == before
    assert list(minutes_first) == [MINUTE]
    assert list(minutes_between) == [MINUTE, MINUTE + timedelta(minutes=1)]
    assert change_log.changed_days(reader, "test.order")[DAY] != before[DAY]


def test_a_poll_reads_one_partition_of_the_change_log(writer, reader, admin):
    change_log.touch(writer, "test.other_table", [MINUTE])
    assert change_log.changed_days(reader, "test.one_table") == {}
    trace = admin.execute(change_log._DAYS, ("test.other_table",), trace=True).get_query_trace()
    steps = [event.description for event in trace.events]
    assert any("single-partition query on changed_days" in step for step in steps), steps
