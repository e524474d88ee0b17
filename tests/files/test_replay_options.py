"""How a file is replayed, decided without a broker: speeds, shifted events, and the choice of a sample."""

from __future__ import annotations

import csv
import tracemalloc
import uuid
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from include import pipelines
from include.files.file_format import FileFormat
from include.files.readers import CsvEvents
from include.files.record_files import Record
from include.files.replay_options import EventSchedule, ReplayOptions, ReplayRefused, check, parse_options, timeline
from include.files.survey import RecordPreview, Sample, shares, survey
from include.files.time_shift import Shift, Timeline
from include.lake.keys import time_of
from include.lake.writer import Event
from tests.lake.conftest import event_id

SHOP = pipelines.get("ecommerce")
RECRUITMENT = pipelines.get("recruitment")
START = datetime(2026, 3, 1, 12, 0, 0, 250_000)
FIRST = datetime(2019, 11, 1)
HEADER = ["event_time", "event_type", "price"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ReplayOptions(rate=1.0, shift=True, sample=None)),
        ({"rate": "60", "shift": "none"}, ReplayOptions(60.0, False, None)),
        ({"rate": "MAX", "shift": "now", "sample": 10_000}, ReplayOptions(None, True, 10_000)),
        ({"rate": "0.5"}, ReplayOptions(0.5, True, None)),
    ],
)
def test_options_are_parsed(options, expected):
    assert parse_options(**options) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": "fast"}, "`rate` is 'fast'. Use 1"),
        ({"rate": "0"}, "`rate` is '0'. Use 1"),
        ({"rate": "-1"}, "`rate` is '-1'. Use 1"),
        ({"rate": "nan"}, "`rate` is 'nan'. Use 1"),
        ({"rate": "inf"}, "`rate` is 'inf'. Use 1"),
    ],
)
def test_invalid_options_are_refused_with_a_suggestion(options, message):
    with pytest.raises(ReplayRefused, match=message):
        parse_options(**options)


def test_each_set_of_options_is_a_separate_replay():
    choices = [
        ReplayOptions(),
        ReplayOptions(rate=2),
        ReplayOptions(rate=None),
        ReplayOptions(shift=False),
        ReplayOptions(sample=10),
        ReplayOptions(sample=11),
    ]
    keys = {options.key("d" * 64) for options in choices}
    assert len(keys) == len(choices)
    assert all(len(f"{key}:67501980") <= 190 and ":" not in key for key in keys)  # with a line, it fits in origin_key


@pytest.mark.parametrize(
    ("text", "moved"),
    [  # two hours after the first time of the file, at sixty times its speed: two minutes
        ("2019-11-01 02:00:00 UTC", "2026-03-01 12:02:00 UTC"),
        ("2019-11-01 02:00:00.000", "2026-03-01 12:02:00.250"),
        ("2019-11-01T04:00:00+02:00", "2026-03-01T14:02:00+02:00"),
        ("2019-10-31T21:00:00-05:00", "2026-03-01T07:02:00-05:00"),
        (" 2019-11-01 02:00 ", " 2026-03-01 12:02 "),
        ("2019-11-01 02:00:00,0", "2026-03-01 12:02:00,2"),
        ("2019-11-01 02:00:00.000000000Z", "2026-03-01 12:02:00.250000000Z"),
        ("2019-11-01 02:00:59.9 UTC", "2026-03-01 12:02:01.2 UTC"),  # truncated, never rounded into another minute
        ("2019-11-01t02:00:00z", "2026-03-01t12:02:00z"),
        ("2019-11-01 02:00:00UTC", "2026-03-01 12:02:00UTC"),
        ("2019-11-01 02:00:00+00", "2026-03-01 12:02:00+00"),
        ("2019-11-01T04:00:00.5+0200", "2026-03-01T14:02:00.2+0200"),
        ("2019-10-31 21:00:00 -0500", "2026-03-01 07:02:00 -0500"),
        ("\u00a02019-11-01 02:00:00\u200b", "\u00a02026-03-01 12:02:00\u200b"),
        ("1572573600", "1772366520"),
        ("1572573600.5", "1772366520.2"),
        (" 1572573600000 ", " 1772366520250 "),
        ("1572573600000.00000", "1772366520250.00000"),
        ("1.5725736E9", "1772366520"),
        ("99", "99"),
        ("2019-11-01 02:00:00 CET", "2019-11-01 02:00:00 CET"),
        ("yesterday", "yesterday"),
        ("2019-13-01 02:00:00 UTC", "2019-13-01 02:00:00 UTC"),
        ("", ""),
    ],
)
def test_a_shifted_time_keeps_its_format(text, moved):
    assert Timeline(START, FIRST, 60).text(text) == moved


def test_a_time_that_leaves_the_calendar_stays_as_it_is():
    assert Timeline(START, FIRST, 0.001).text("2099-01-01 00:00:00 UTC") == "2099-01-01 00:00:00 UTC"


def shop_event(seconds: float, name: str = "order-1") -> Event:
    time = FIRST + timedelta(seconds=seconds)
    return Event(event_id(str(time)), {"id": name, "event_time": f"{time:%F %T} UTC", "event_type": "view"})


def test_a_shifted_event_gets_a_new_id_and_the_same_one_each_time():
    event = shop_event(120)
    moved = Shift(SHOP, Timeline(START, FIRST, 60)).moved(event)
    assert time_of(moved.create_time) == START + (time_of(event.create_time) - FIRST) / 60
    assert moved.values["event_time"] == "2026-03-01 12:00:02 UTC"
    assert moved.values["event_type"] == "view"
    assert moved.values["id"] != event.values["id"]
    assert event.values["id"] == "order-1"  # the original is left alone
    assert Shift(SHOP, Timeline(START, FIRST, 60)).moved(event) == moved
    later = Shift(SHOP, Timeline(START + timedelta(microseconds=1), FIRST, 60)).moved(event)
    assert later.values["id"] != moved.values["id"] and later.create_time != moved.create_time
    other = Shift(SHOP, Timeline(START, FIRST, 60)).moved(event._replace(values=event.values | {"id": "order-2"}))
    assert other.values["id"] != moved.values["id"] and other.create_time != moved.create_time


def test_an_event_whose_id_is_its_create_time_moves_with_its_fact_time():
    event = Event(event_id("2019-11-01 00:02:00"), {"ts": "2019-11-01 00:01:00.125", "custom_track": "click"})
    moved = Shift(RECRUITMENT, Timeline(START, FIRST)).moved(event)
    assert time_of(moved.create_time) == START + (time_of(event.create_time) - FIRST)
    assert moved.values == {"ts": "2026-03-01 12:01:00.375", "custom_track": "click"}
    twice = [Shift(RECRUITMENT, Timeline(START, FIRST)).moved(event).create_time for _ in range(2)]
    assert twice[0] == twice[1] == moved.create_time
    neighbor = event._replace(create_time=event_id("2019-11-01 00:02:00"))  # in the same second
    assert Shift(RECRUITMENT, Timeline(START, FIRST)).moved(neighbor).create_time != moved.create_time


def test_an_event_of_an_impossible_year_keeps_that_year():
    odd = Event(uuid.UUID("ffffffff-ffff-1fff-8000-000000000001"), {"ts": "2019-11-01 00:00:00"})  # in the year 5236
    moved = Shift(RECRUITMENT, Timeline(START, FIRST, 0.001)).moved(odd)
    assert time_of(moved.create_time).year == time_of(odd.create_time).year == 5236
    assert moved.create_time != odd.create_time


@pytest.fixture
def shop_file(tmp_path):
    def write(*rows: list[str]):
        path = tmp_path / "2019-Nov.csv"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([HEADER, *rows])
        return path

    return write


def test_a_survey_finds_first_and_last_time_in_any_order_and_counts_the_kinds(shop_file):
    path = shop_file(
        ["2019-11-01 00:00:10 UTC", "view", "1"],
        ["2019-11-01 00:00:00 UTC", " cart ", "1"],
        ["2019-11-01 02:00:30+02:00", "NaN", "1"],
        ["soon", "view", "1"],
        ["2019-11-01 00:00:40 UTC", "view"],  # not a record: it has two fields
        ["0001-01-01 00:00:00 UTC", "", "1"],
    )
    survey_of_file = survey(path, FileFormat(), SHOP)
    assert (survey_of_file.first, survey_of_file.last) == (FIRST, FIRST + timedelta(seconds=30))
    assert survey_of_file.kinds == {"view": 2, "cart": 1, "": 2, None: 1}
    assert survey_of_file.lines == 7
    assert "6 rows from 2019-11-01 00:00:00 to 2019-11-01 00:00:30 UTC: 2 view" in str(survey_of_file)


def test_a_kind_column_of_ids_does_not_fill_the_memory(shop_file):
    path = shop_file(*(["2019-11-01 00:00:10 UTC", f"order-{number}", "1"] for number in range(1_500)))
    kinds = survey(path, FileFormat(), SHOP).kinds
    assert (len(kinds), kinds[""], kinds.total()) == (1_001, 500, 1_500)
    sample = Sample(kinds, 1_100, "seed")
    assert sum(sample.takes(f"order-{number}") for number in range(1_500)) == 1_100


def test_times_and_kinds_of_any_length_do_not_fill_the_memory(shop_file):
    path = shop_file(*([f"{number}{'x' * 500_000}", f"{number}{'y' * 500_000}", "1"] for number in range(40)))
    tracemalloc.start()
    try:
        kinds = survey(path, FileFormat(), SHOP).kinds
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (len(kinds), kinds.total()) == (40, 40)
    assert kept < 5_000_000, "The file has 40 MB."


@pytest.mark.parametrize(
    ("kinds", "size", "expected"),
    [
        ({"view": 940, "cart": 46, "purchase": 14}, 100, {"view": 94, "cart": 5, "purchase": 1}),
        ({"view": 9_997, "cart": 1, "purchase": 1, None: 1}, 10, {"view": 7, "cart": 1, "purchase": 1, None: 1}),
        ({"view": 5, "cart": 5}, 10, {"view": 5, "cart": 5}),
        ({"view": 5, "cart": 5}, 99, {"view": 5, "cart": 5}),
        ({"view": 5, "cart": 5, "": 5}, 4, {"view": 1, "cart": 1, "": 2}),
        ({"view": 1_000, "cart": 1_000, "a": 1, "b": 1, "c": 1}, 5, {"view": 1, "cart": 1, "a": 1, "b": 1, "c": 1}),
        ({"view": 60, "cart": 40, "a": 1}, 5, {"view": 2, "cart": 2, "a": 1}),
    ],
)
def test_shares_are_proportional_and_at_least_one(kinds, size, expected):
    assert shares(kinds, size) == expected


def test_a_sample_has_exact_shares_and_the_same_rows_each_time_but_others_for_another_file():
    rows = (["view"] * 95 + ["cart"] * 4 + ["purchase"]) * 50
    chosen = {}
    for seed in ("a", "b"):
        sample, again = Sample(Counter(rows), 200, seed), Sample(Counter(rows), 200, seed)
        chosen[seed] = [number for number, kind in enumerate(rows) if sample.takes(kind)]
        assert chosen[seed] == [number for number, kind in enumerate(rows) if again.takes(kind)]
        assert Counter(rows[number] for number in chosen[seed]) == {"view": 190, "cart": 8, "purchase": 2}
    assert chosen["a"] != chosen["b"]


def test_rows_of_a_kind_are_chosen_with_equal_probability():
    rows = ["view"] * 20
    chosen = Counter()
    for seed in range(2_000):
        sample = Sample({"view": 20}, 5, str(seed))
        chosen.update(number for number, kind in enumerate(rows) if sample.takes(kind))
    assert set(chosen) == set(range(20)) and all(400 < times < 600 for times in chosen.values())  # 500 are expected


def records(*rows: list[str]) -> list[Record]:
    return [Record(line, line, list(fields)) for line, fields in enumerate(rows, start=2)]


def plan_rows(options: ReplayOptions, rows: list[Record], survey_of_file, sample=None, after_line=0):
    times = timeline(options, survey_of_file, START)
    schedule = EventSchedule(SHOP, options, CsvEvents(HEADER, SHOP, START), RecordPreview(HEADER, SHOP), times)
    return list(schedule.rows(rows, sample, after_line))


ROWS = [
    ["2019-11-01 00:00:00 UTC", "view", "1"],
    ["2019-11-01 00:02:00 UTC", "view", "1"],
    ["2019-11-01 00:01:00 UTC", "purchase", "1"],  # out of order
]


@pytest.mark.parametrize(
    ("options", "seconds", "due"),
    [  # seconds after START: when the events happened, and when they are sent
        (ReplayOptions(rate=1), [0, 120, 60], [0, 120, 60]),
        (ReplayOptions(rate=60), [0, 2, 1], [0, 2, 1]),
        (ReplayOptions(rate=None), [-120, 0, -60], None),  # the last one now, none in the future
        (ReplayOptions(rate=60, shift=False), None, [0, 2, 1]),
        (ReplayOptions(rate=None, shift=False), None, None),
    ],
)
def test_events_happen_and_are_sent_at_the_times_of_the_options(shop_file, options, seconds, due):
    survey_of_file = survey(shop_file(*ROWS), FileFormat(), SHOP)
    rows = plan_rows(options, records(*ROWS), survey_of_file)
    happened = [time_of(event.create_time) for _, event, _ in rows]
    if seconds is None:
        assert happened == [FIRST + timedelta(minutes=minutes) for minutes in (0, 2, 1)]
        imported = CsvEvents(HEADER, SHOP, START)
        assert [event for _, event, _ in rows] == [imported.read(record) for record in records(*ROWS)]
    else:
        assert happened == [START + timedelta(seconds=after) for after in seconds]
    expected = [None] * 3 if due is None else [START + timedelta(seconds=after) for after in due]
    assert [when for _, _, when in rows] == expected


def test_a_resumed_sample_takes_the_same_rows(shop_file):
    rows = [[f"2019-11-01 00:00:{number % 60:02} UTC", "view", "1"] for number in range(300)]
    options, survey_of_file = ReplayOptions(sample=30), survey(shop_file(*rows), FileFormat(), SHOP)
    complete = plan_rows(options, records(*rows), survey_of_file, Sample(survey_of_file.kinds, 30, "digest"))
    sample = Sample(survey_of_file.kinds, 30, "digest")
    rest = plan_rows(options, records(*rows), survey_of_file, sample, after_line=complete[9][0].line)
    assert len(complete) == 30 and rest == complete[10:]


def test_a_replay_that_would_take_centuries_is_refused(shop_file):
    survey_of_file = survey(shop_file(*ROWS, ["2019-12-01 00:00:00 UTC", "view", "1"]), FileFormat(), SHOP)
    with pytest.raises(ReplayRefused, match=r"At a rate of 0.0001, replaying the rows .* would take until after 2100"):
        check(ReplayOptions(rate=0.0001), SHOP, survey_of_file, START)
    check(ReplayOptions(rate=0.1), SHOP, survey_of_file, START)


def test_a_sample_of_fewer_rows_than_kinds_or_of_a_pipeline_without_kinds_is_refused(shop_file):
    survey_of_file = survey(shop_file(*ROWS), FileFormat(), SHOP)
    with pytest.raises(ReplayRefused, match="`sample` is 1, but there are 2 kinds"):
        check(ReplayOptions(sample=1), SHOP, survey_of_file, START)
    check(ReplayOptions(sample=2), SHOP, survey_of_file, START)
    with pytest.raises(ReplayRefused, match="declare kind_column in include/pipelines/ecommerce.py"):
        check(ReplayOptions(sample=5), replace(SHOP, kind_column=None), None, START)
