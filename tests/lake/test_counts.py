"""Counts of lake minutes, as the reconcile compares them with the ledger."""

import zlib
from datetime import datetime, timedelta

from include.lake import counts
from include.lake.counts import minute_counts
from include.lake.writer import EventWriter
from tests.lake.conftest import event


def test_rows_and_checksum_of_every_asked_minute(recruitment, writer, reader):
    full = [event("2026-05-01 08:00:00", ev="1") for _ in range(25)]
    EventWriter(writer, recruitment).write([*full, event("2026-05-01 08:02:00", ev="1")])
    asked = [datetime(2026, 5, 1, 8, 0), datetime(2026, 5, 1, 8, 1)]
    assert minute_counts(reader, recruitment, asked) == {
        asked[0]: (25, sum(zlib.crc32(str(one.create_time).encode()) for one in full)),
        asked[1]: (0, 0),
    }
    assert minute_counts(reader, recruitment, []) == {}


def test_a_sample_gives_every_minute_the_rows_of_one_near_it(recruitment, writer, reader):
    first = datetime(2026, 5, 3, 8, 0)
    asked = [first + timedelta(minutes=number) for number in range(600)]
    EventWriter(writer, recruitment).write(
        [event(str(minute), ev="1") for minute in asked[300:] for _ in range(3)]  # nothing before
    )
    found = counts.sampled_rows(reader, recruitment, reversed(asked))
    assert list(found) == asked
    assert set(found.values()) == {0, 3} and sum(found.values()) == 900
    assert counts.sampled_rows(reader, recruitment, asked[299:301]) == {asked[299]: 0, asked[300]: 3}
    assert counts.sampled_rows(reader, recruitment, []) == {}


def test_a_sample_counts_no_more_than_a_page_of_a_minute(recruitment, writer, reader, monkeypatch):
    monkeypatch.setattr(counts, "_MOST_SAMPLED", 7)
    minute = datetime(2026, 5, 4, 8, 0)
    EventWriter(writer, recruitment).write([event(str(minute), ev="1") for _ in range(20)])
    assert counts.sampled_rows(reader, recruitment, [minute]) == {minute: 7}


def test_every_minute_is_counted_however_many_are_asked_for_and_however_answers_are_paged(
    recruitment, writer, reader, monkeypatch
):
    monkeypatch.setattr(reader, "default_fetch_size", 3)
    monkeypatch.setattr(counts, "_REQUESTS_AT_ONCE", 2)
    first = datetime(2026, 5, 2, 8, 0)
    asked = [first + timedelta(minutes=number) for number in range(30)]
    rows = {minute: number % 5 * 4 for number, minute in enumerate(asked)}
    EventWriter(writer, recruitment).write(
        [event(str(minute), ev="1") for minute, number in rows.items() for _ in range(number)]
    )
    found = minute_counts(reader, recruitment, asked)
    assert {minute: number for minute, (number, _) in found.items()} == rows
