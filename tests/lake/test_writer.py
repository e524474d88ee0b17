"""Each event is written to its partition once and whole, before its minute is touched."""

import json
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


def test_an_event_lands_in_the_partition_of_its_minute_and_shard(recruitment, writer, reader):
    click = event("2026-04-01 10:05:30", custom_track="click", job_id="7")
    written = EventWriter(writer, recruitment).write([click])
    assert written.rows == 1
    assert written.minutes == {datetime(2026, 4, 1, 10, 5)}
    (row,) = rows_of(reader, datetime(2026, 4, 1, 10, 5))
    assert (row.create_time, row.shard) == (click.create_time, shard_of(str(click.create_time), 4))
    assert json.loads(row.payload) == {"custom_track": "click", "job_id": "7"}


def test_the_same_event_twice_is_one_row(recruitment, writer, reader):
    click = event("2026-04-01 10:06:00", custom_track="click")
    EventWriter(writer, recruitment).write([click, click])
    EventWriter(writer, recruitment).write([click])
    assert len(rows_of(reader, datetime(2026, 4, 1, 10, 6))) == 1


def test_a_later_version_replaces_the_whole_event(recruitment, writer, reader):
    first = event("2026-04-01 10:07:00", custom_track="click", bid="abc", mood="good")
    EventWriter(writer, recruitment).write([first])
    EventWriter(writer, recruitment).write([first._replace(values={"custom_track": "click", "bid": ""})])
    (row,) = rows_of(reader, datetime(2026, 4, 1, 10, 7))
    assert json.loads(row.payload) == {"custom_track": "click"}  # the fields that the correction lacks are gone


def test_the_last_of_two_versions_in_one_write_stays(recruitment, writer, reader):
    """A batch has one timestamp, and Cassandra breaks the tie in favor of the larger value: "9" would win."""
    first = event("2026-04-01 10:08:00", bid="9")
    EventWriter(writer, recruitment).write([first, first._replace(values={"bid": "10"})])
    (row,) = rows_of(reader, datetime(2026, 4, 1, 10, 8))
    assert json.loads(row.payload) == {"bid": "10"}


def test_a_writer_that_was_suspended_cannot_replace_a_later_version(recruitment, writer, reader):
    before = change_log.write_clock(writer)
    first = event("2026-04-01 10:12:00", bid="-3")
    EventWriter(writer, recruitment).write([first._replace(values={"bid": "3"})], as_of=change_log.write_clock(writer))
    EventWriter(writer, recruitment).write([first], as_of=before)
    (row,) = rows_of(reader, datetime(2026, 4, 1, 10, 12))
    assert json.loads(row.payload) == {"bid": "3"}


def test_json_is_kept_as_its_producer_wrote_it(recruitment, writer, reader):
    text = '{"bid": 1.50,  "job_id": 12345678901234567890, "mood": {"a": [1]}}'
    EventWriter(writer, recruitment).write([event("2026-04-01 10:13:00")._replace(text=text)])
    (row,) = rows_of(reader, datetime(2026, 4, 1, 10, 13))
    assert row.payload == text


def test_minutes_are_touched_after_their_events_are_acknowledged(recruitment, writer, reader, monkeypatch):
    rows_when_touched = []
    touch = change_log.touch

    def count_then_touch(session, lake_table, minutes):
        rows_when_touched.extend(len(rows_of(reader, minute)) for minute in minutes)
        touch(session, lake_table, minutes)

    monkeypatch.setattr(change_log, "touch", count_then_touch)
    EventWriter(writer, recruitment).write(event("2026-04-01 10:09:00", ev="1") for _ in range(120))
    assert rows_when_touched == [120]


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
    assert json.loads(row.payload) == sent


def test_writing_no_events_touches_nothing(recruitment, writer):
    assert EventWriter(writer, recruitment).write([]).minutes == frozenset()
