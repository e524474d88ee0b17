"""Events go into their partition once, without tombstones, and their minutes are touched after them."""

from datetime import datetime

import pytest

from include.lake import change_log
from include.lake.keys import shard_of
from include.lake.writer import EventWriter
from tests.lake.conftest import event


def rows_of(session, minute):
    return [
        row
        for shard in range(4)
        for row in session.execute("SELECT * FROM bedan.tracking WHERE minute = %s AND shard = %s", (minute, shard))
    ]


def tombstones_read(admin, minute, shard):
    trace = admin.execute(
        "SELECT * FROM bedan.tracking WHERE minute = %s AND shard = %s", (minute, shard), trace=True
    ).get_query_trace(max_wait_sec=10)
    read = [line.description for line in trace.events if "tombstone cells" in line.description]
    assert read, "the trace tells of no read"  # of more than one, where the server read speculatively
    return sum(int(line.split(" live rows and ")[1].split()[0]) for line in read)


def test_an_event_lands_in_the_partition_of_its_minute_and_shard(recruitment, writer, reader):
    one = event("2026-04-01 10:05:30", custom_track="click", job_id="7")
    written = EventWriter(writer, recruitment).write([one])
    assert written.rows == 1
    assert written.minutes == {datetime(2026, 4, 1, 10, 5)}
    (row,) = rows_of(reader, datetime(2026, 4, 1, 10, 5))
    assert (row.create_time, row.shard) == (one.create_time, shard_of(str(one.create_time), 4))
    assert (row.custom_track, row.job_id, row.bid) == ("click", "7", None)


def test_the_same_event_twice_is_one_row(recruitment, writer, reader):
    one = event("2026-04-01 10:06:00", custom_track="click")
    EventWriter(writer, recruitment).write([one, one])
    EventWriter(writer, recruitment).write([one])
    assert len(rows_of(reader, datetime(2026, 4, 1, 10, 6))) == 1


def test_absent_and_empty_values_leave_no_tombstones(recruitment, writer, admin):
    # 22 nulls in each of 6,000 rows make a page of 5,000 unreadable; one null a row is enough to show here
    minute = datetime(2026, 4, 1, 10, 7)
    sparse = [event("2026-04-01 10:07:00", ev="1", job_id="", bid=None) for _ in range(400)]
    EventWriter(writer, recruitment).write(sparse)
    for shard in range(4):
        assert tombstones_read(admin, minute, shard) == 0
    null = event("2026-04-01 10:08:00")
    admin.execute(
        "INSERT INTO bedan.tracking (minute, shard, create_time, bid) VALUES (%s, 0, %s, null)",
        (datetime(2026, 4, 1, 10, 8), null.create_time),
    )
    assert tombstones_read(admin, datetime(2026, 4, 1, 10, 8), 0) == 1  # what the rule avoids does show like this


def test_minutes_are_touched_after_their_events_are_acknowledged(recruitment, writer, reader, monkeypatch):
    found_when_touched = []
    touch = change_log.touch

    def look_then_touch(session, lake_table, minutes):
        found_when_touched.extend(len(rows_of(reader, minute)) for minute in minutes)
        touch(session, lake_table, minutes)

    monkeypatch.setattr(change_log, "touch", look_then_touch)
    EventWriter(writer, recruitment).write(event("2026-04-01 10:09:00", ev="1") for _ in range(120))
    assert found_when_touched == [120]


def test_a_write_that_fails_halfway_touches_what_it_may_have_written(recruitment, writer, reader):
    def events():
        yield from (event("2026-04-01 10:10:00", ev="1") for _ in range(5_000))  # one window
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        EventWriter(writer, recruitment).write(events())
    assert len(rows_of(reader, datetime(2026, 4, 1, 10, 10))) == 5_000
    minutes = change_log.minutes_of_day(reader, recruitment.lake_table, datetime(2026, 4, 1).date())
    assert datetime(2026, 4, 1, 10, 10) in minutes


def test_any_text_comes_back_as_it_was_sent(recruitment, writer, reader):
    sent = {"ed": '{"a":"\x00 ☃ 𝄞"}', "dl": "x" * 1_000_000, "ua": " padded ", "bid": "258.0"}
    EventWriter(writer, recruitment).write([event("2026-04-01 10:11:00", **sent)])
    (row,) = rows_of(reader, datetime(2026, 4, 1, 10, 11))
    assert {name: getattr(row, name) for name in sent} == sent


def test_no_events_touch_nothing(recruitment, writer):
    assert EventWriter(writer, recruitment).write([]).minutes == frozenset()
