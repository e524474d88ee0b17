"""What an import makes of a row that has no id or no create_time: the same event every time, and another one for each row."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime

import pytest

from include import pipelines
from include.lake.csv_records import FileRefused, Record
from include.lake.flat_table import FlatRow
from include.lake.keys import time_of
from include.operations.admission import CsvEvents, NotAdmitted, StoredEvents, TableEvents, check_header
from include.operations.import_log import Refused

SHOP = replace(
    pipelines.get("recruitment"),
    name="shop",
    columns=("brand", "event_time", "event_type", "id", "price", "user_session"),
    event_id="id",
    event_time="event_time",
    absent=("NaN",),
)
CLOCK = datetime(2026, 3, 1, 12)
HEADER = ["event_time", "event_type", "brand", "user_session"]
ROW = ["2019-11-01 00:00:07 UTC", "view", "nordlys", "s1"]
CREATE_TIME = "0e207ccf-156b-11f1-8000-0a0b0c0d0e0f"


def read(fields: list[str], line: int = 2, header: list[str] = HEADER, digest: str = "a-digest", pipeline=SHOP):
    return CsvEvents(header, pipeline, CLOCK, digest).read(Record(line, line, fields))


def test_create_time_holds_the_events_own_time() -> None:
    assert time_of(read(ROW).create_time) == datetime(2019, 11, 1, 0, 0, 7)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2019-11-01 00:00:07.25", datetime(2019, 11, 1, 0, 0, 7, 250_000)),
        ("2019-11-01T00:00:07Z", datetime(2019, 11, 1, 0, 0, 7)),
        ("2019-11-01 02:00:07+02:00", datetime(2019, 11, 1, 0, 0, 7)),
        (" 2019-11-01 00:00:07 UTC ", datetime(2019, 11, 1, 0, 0, 7)),
    ],
)
def test_times_are_read_as_the_transform_reads_them(text: str, time: datetime) -> None:
    assert time_of(read([text, *ROW[1:]]).create_time) == time


def test_the_same_line_of_the_same_file_is_the_same_event() -> None:
    assert read(ROW) == read(ROW)


def test_equal_rows_are_two_events_and_so_are_those_of_two_files() -> None:
    found = [read(ROW), read(ROW, line=3), read(ROW, digest="another")]
    assert len({event.values["id"] for event in found}) == len({event.create_time for event in found}) == 3


def test_a_given_id_makes_the_event_the_same_wherever_it_stands() -> None:
    header, row = ["id", *HEADER], ["order-7", *ROW]
    found = read(row, header=header)
    assert found.values["id"] == "order-7"
    assert read(row, line=9, header=header, digest="another") == found
    assert read(["order-8", *ROW], header=header).create_time != found.create_time


def test_a_given_create_time_is_kept() -> None:
    found = read([CREATE_TIME, *ROW], header=["create_time", *HEADER])
    assert str(found.create_time) == CREATE_TIME


@pytest.mark.parametrize("empty", ["", "NaN", " "])
def test_a_create_time_that_says_nothing_is_made(empty: str) -> None:
    assert read([empty, *ROW], header=["create_time", *HEADER]) == read(ROW)


def test_what_the_pipeline_declares_absent_does_not_reach_the_lake() -> None:
    found = read(["NaN", *ROW[:2], "NaN", "NaN"], header=["id", *HEADER])
    assert set(found.values) == {"event_time", "event_type", "id"}
    assert found.values["id"] != "NaN"
    other = replace(SHOP, absent=())
    assert read(["7", *ROW[:2], "NaN", "s1"], header=["id", *HEADER], pipeline=other).values["brand"] == "NaN"


@pytest.mark.parametrize("text", ["", "NaN", "yesterday", "1969-12-31 23:59:59", "2101-01-01 00:00:00", "1572566400"])
def test_a_row_without_any_time_is_refused_with_what_it_says(text: str) -> None:
    found = read([text, *ROW[1:]])
    assert isinstance(found, Refused)
    assert "is no time of the years 1970 to 2100, and there is no create_time" in found.reason
    assert json.loads(found.payload)["brand"] == "nordlys"


@pytest.mark.parametrize("text", ["x", "0e207ccf-156b-41f1-8000-0a0b0c0d0e0f"])
def test_a_create_time_that_is_none_is_refused_and_not_made_up(text: str) -> None:
    found = read([text, *ROW], header=["create_time", *HEADER])
    assert isinstance(found, Refused) and "is no time-UUID" in found.reason


def test_an_id_that_no_key_takes_is_refused() -> None:
    found = read(["x" * 70_000, *ROW], header=["id", *HEADER])
    assert isinstance(found, Refused) and found.reason == "id, the event's id, is longer than 1000 characters"
    assert found.minute == datetime(2019, 11, 1)


def test_a_refused_row_that_is_mended_and_replayed_is_the_event_that_an_import_would_make() -> None:
    refused = read(["soon", *ROW[1:]])
    stored = StoredEvents(SHOP, CLOCK)
    with pytest.raises(NotAdmitted, match="'soon' is no time"):
        stored.read(refused.payload, refused.reason, "a-digest:2")
    mended = refused.payload.replace("soon", ROW[0])
    assert stored.read(mended, refused.reason, "a-digest:2") == read(ROW)


def test_rows_of_a_flat_table_without_ids_get_them_from_their_key() -> None:
    rows = TableEvents("shop.events", SHOP, CLOCK)
    found = rows.read(FlatRow(1, CREATE_TIME, {"event_type": "view"}))
    assert found == rows.read(FlatRow(2, CREATE_TIME, {"event_type": "view"}))
    assert str(found.create_time) == CREATE_TIME and found.values["id"]


def test_a_pipeline_that_declares_nothing_of_this_makes_nothing_up() -> None:
    plain = pipelines.get("recruitment")
    header = ["create_time", "ev", "id", "ts"]
    found = read([CREATE_TIME, "1", "", "NaN"], header=header, pipeline=plain)
    assert dict(found.values) == {"ev": "1", "ts": "NaN"}
    assert isinstance(read(["", "1", "", "2019-11-01 00:00:07"], header=header, pipeline=plain), Refused)


def test_a_file_needs_create_time_or_the_declared_time(tmp_path) -> None:
    path = tmp_path / "events.csv"
    ignored, missing = check_header(path, [*HEADER, "mood"], SHOP)
    assert ignored == ("mood",)
    assert set(missing) == {"price"}, "ids are made, not left out"
    with pytest.raises(FileRefused, match="no column create_time or event_time, which pipeline shop needs"):
        check_header(path, HEADER[1:], SHOP)
    with pytest.raises(FileRefused, match="no column create_time, which pipeline recruitment needs"):
        check_header(path, ["ts", "ev"], pipelines.get("recruitment"))
