"""Importing a row without an id or create_time gives the same event every time, wherever the row is in a file."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime

import pytest

from include import pipelines
from include.files.flat_table import FlatRow
from include.files.json_events import JsonLineEvents
from include.files.readers import CsvEvents, Occurrences, StoredEvents, TableEvents, TemporaryFileFailed, check_header
from include.files.record_files import FileRefused, Record
from include.lake.admission import NotAdmitted, Refused, content_id
from include.lake.keys import time_of
from include.lake.writer import payload_of
from include.pipelines.declaration import OCCURRENCE

SHOP = replace(
    pipelines.get("recruitment"),
    name="shop",
    fields=("brand", "event_time", "event_type", "id", "price", "user_session"),
    required=(),
    numbers=(),
    times=(),
    event_id="id",
    event_time="event_time",
    fact_time="event_time",
    kind_column="event_type",
)
CLOCK = datetime(2026, 3, 1, 12)
HEADER = ["event_time", "event_type", "brand", "user_session"]
ROW = ["2019-11-01 00:00:07 UTC", "view", "nordlys", "s1"]
CREATE_TIME = "0e207ccf-156b-11f1-8000-0a0b0c0d0e0f"


def read(fields: list[str], header: list[str] = HEADER, pipeline=SHOP):
    [result] = read_all([fields], header, pipeline)
    return result


def read_all(rows: list[list[str]], header: list[str] = HEADER, pipeline=SHOP, first_line: int = 2):
    """Read the rows as those of one file."""
    records = (Record(line, line, fields) for line, fields in enumerate(rows, first_line))
    events = CsvEvents(header, pipeline, CLOCK)
    with Occurrences(events.fields_without_id, pipeline) as occurrences:
        return [events.read(record) for record in occurrences.numbered(records)]


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


def test_the_same_rows_are_the_same_events_in_any_file() -> None:
    other = ["2019-11-01 00:00:08 UTC", "cart", "nordlys", "s1"]
    assert read_all([ROW, other]) == read_all([ROW, other], first_line=70)
    assert {event.create_time for event in read_all([other, ROW])} == {
        event.create_time for event in read_all([ROW, other])
    }


def test_equal_rows_of_one_file_are_separate_events() -> None:
    result = read_all([ROW, ROW, ROW])
    assert len({event.values["id"] for event in result}) == len({event.create_time for event in result}) == 3
    assert result == read_all([["too", "old", "", ""], ROW, ROW, ROW])[1:]  # other rows change nothing


def test_column_order_white_space_and_empty_columns_do_not_change_the_event() -> None:
    [event] = read_all([ROW])
    assert content_id(SHOP, dict(zip(HEADER, ROW, strict=True))) == event.values["id"]
    order = [2, 0, 3, 1]
    padded = [f" {ROW[at]}\u00a0" for at in order] + ["NULL"]
    assert read(padded, [*(HEADER[at] for at in order), "mood"]).values["id"] == event.values["id"]


def test_a_given_id_makes_the_event_the_same_on_any_line() -> None:
    header, row = ["id", *HEADER], ["order-7", *ROW]
    result = read(row, header=header)
    assert result.values["id"] == "order-7"
    assert read_all([row], header, first_line=9) == [result]
    assert read(["order-8", *ROW], header=header).create_time != result.create_time


def test_a_given_create_time_is_kept() -> None:
    result = read([CREATE_TIME, *ROW], header=["create_time", *HEADER])
    assert str(result.create_time) == CREATE_TIME


@pytest.mark.parametrize("empty", ["", "NaN", " ", "NULL", "\\N", "None"])
def test_a_blank_create_time_or_id_is_replaced(empty: str) -> None:
    result = read([empty, empty, *ROW], header=["create_time", "id", *HEADER])
    assert (result.create_time, result.values["id"]) == (read(ROW).create_time, read(ROW).values["id"])


def test_a_row_reaches_the_lake_as_it_was_sent() -> None:
    result = read(["NaN", *ROW[:2], " NaN ", "s1"], header=["id", *HEADER])
    assert json.loads(payload_of(result))["brand"] == " NaN "


@pytest.mark.parametrize("text", ["", "NaN", "yesterday", "1969-12-31 23:59:59", "2101-01-01 00:00:00", "15725664"])
def test_a_row_without_any_time_is_refused_with_its_content(text: str) -> None:
    result = read([text, *ROW[1:]])
    assert isinstance(result, Refused)
    assert "is not a timestamp between 1970 and 2100, and there is no create_time" in result.reason
    assert json.loads(result.payload)["brand"] == "nordlys"


@pytest.mark.parametrize("text", ["x", "0e207ccf-156b-41f1-8000-0a0b0c0d0e0f"])
def test_an_invalid_create_time_is_refused_and_not_replaced(text: str) -> None:
    result = read([text, *ROW], header=["create_time", *HEADER])
    assert isinstance(result, Refused) and "is not a time-UUID" in result.reason


def test_an_id_that_fits_no_key_is_refused() -> None:
    result = read(["x" * 70_000, *ROW], header=["id", *HEADER])
    assert isinstance(result, Refused) and result.reason == "id, the event's id, is longer than 1000 characters"
    assert result.minute == datetime(2019, 11, 1)


def test_a_corrected_refused_row_becomes_the_same_event_as_an_imported_one() -> None:
    first, second = read_all([["soon", *ROW[1:]]] * 2)
    stored = StoredEvents(SHOP, CLOCK)
    with pytest.raises(NotAdmitted, match="'soon' is not a timestamp"):
        stored.read(first.payload, first.reason)
    corrected = [stored.read(refused.payload.replace("soon", ROW[0]), refused.reason) for refused in (first, second)]
    expected = read_all([ROW, ROW])
    assert [event.create_time for event in corrected] == [event.create_time for event in expected]
    assert [event.values["id"] for event in corrected] == [event.values["id"] for event in expected]


def test_rows_of_a_flat_table_without_ids_get_them_from_their_content() -> None:
    rows = TableEvents(SHOP, CLOCK)
    result = rows.read(FlatRow(1, CREATE_TIME, {"event_type": "view"}))
    assert result == rows.read(FlatRow(2, CREATE_TIME, {"event_type": "view"}))
    assert str(result.create_time) == CREATE_TIME and result.values["id"]


def test_without_event_time_and_event_id_nothing_is_generated() -> None:
    plain = pipelines.get("recruitment")
    header = ["create_time", "ev", "id", "ts"]
    result = read([CREATE_TIME, "1", "", "NaN"], header=header, pipeline=plain)
    assert dict(result.values) == {"create_time": CREATE_TIME, "ev": "1", "id": "", "ts": "NaN"}
    assert isinstance(read(["", "1", "", "2019-11-01 00:00:07"], header=header, pipeline=plain), Refused)


def test_a_file_needs_create_time_or_the_declared_time(tmp_path) -> None:
    path = tmp_path / "events.csv"
    ignored, missing = check_header(path, [*HEADER, "mood"], SHOP)
    assert ignored == ("mood",)
    without_id = replace(SHOP, fields=tuple(name for name in SHOP.fields if name != "id"))
    assert check_header(path, [*HEADER, "id"], without_id)[0] == (), (
        "The column of the id is known even if no rule reads it."
    )
    assert set(missing) == {"price"}, "A missing id is generated, so its column is not reported."
    with pytest.raises(FileRefused, match="no column create_time or event_time, which pipeline shop needs"):
        check_header(path, HEADER[1:], SHOP)
    with pytest.raises(FileRefused, match="no column create_time, which pipeline recruitment needs"):
        check_header(path, ["ts", "ev"], pipelines.get("recruitment"))


def test_a_full_disk_while_equal_rows_are_counted_is_reported_with_its_remedy() -> None:
    events = CsvEvents(HEADER, SHOP, CLOCK)
    records = (Record(line, line, [*ROW[:3], str(line)]) for line in range(5_000))
    with Occurrences(events.fields_without_id, SHOP) as occurrences:
        occurrences._counts.execute("PRAGMA max_page_count = 3")  # as if the disk were full
        with pytest.raises(TemporaryFileFailed, match=r"database or disk is full\. Free disk space"):
            list(occurrences.numbered(records))


def test_json_lines_of_equal_rows_are_separate_events_even_after_a_correction() -> None:
    line = '{"event_time": "soon", "price": 5.00}'
    events = JsonLineEvents(SHOP, CLOCK)
    with Occurrences(events.fields_without_id, SHOP) as occurrences:
        records = occurrences.numbered(Record(number, number, [line]) for number in (1, 2))
        refused = [events.read(record) for record in records]
    corrected = [row.payload.replace("soon", "2019-11-01 00:00:07 UTC") for row in refused]
    stored = [StoredEvents(SHOP, CLOCK).read(payload, "") for payload in corrected]
    values = {"event_time": "2019-11-01 00:00:07 UTC", "price": "5.00"}
    assert [event.values["id"] for event in stored] == [content_id(SHOP, values, number) for number in (0, 1)]


@pytest.mark.parametrize("number", ["²", "9" * 5_000])
def test_a_stored_row_whose_occurrence_is_not_a_number_is_still_an_event(number: str) -> None:
    payload = json.dumps({OCCURRENCE: number, "event_time": ROW[0]})
    assert StoredEvents(SHOP, CLOCK).read(payload, "").values["id"] == content_id(SHOP, {"event_time": ROW[0]})


def test_an_id_that_is_a_nested_value_is_the_same_text_on_every_path_to_the_lake() -> None:
    line = '{"id":{"$oid":"5f"},"event_time":"2019-11-01 00:00:07","price":%s}'
    lines = [line % price for price in ("1.5", "NaN", '"\\ud83d\\ude00"', '"NaN","a":"\\"NaN\\\\","b":[-Infinity]')]
    events = [JsonLineEvents(SHOP, CLOCK).read(Record(1, 1, [line])) for line in lines]
    events += [StoredEvents(SHOP, CLOCK).read(line, "") for line in lines]
    events += [TableEvents(SHOP, CLOCK).read(FlatRow(1, str(events[0].create_time), {}, line)) for line in lines]
    assert {event.values["id"] for event in events} == {'{"$oid":"5f"}'}
    assert len({event.create_time for event in events}) == 1
    assert payload_of(events[3]).decode() == lines[3].replace("[-Infinity]", '["-Infinity"]')


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        ("1999-12-31 23:59:59", "create_time is before 2000-01-01"),
        ("2000-01-01 00:00:00", None),
        ("2026-03-02 12:00:59", None),  # CLOCK plus a day falls in this minute
        ("2026-03-02 12:01:00", "create_time is more than 24 hours ahead of the lake's clock"),
        ("2093-01-01 00:00:00", "create_time is more than 24 hours ahead of the lake's clock"),
    ],
)
def test_an_event_outside_the_declared_range_is_refused_before_the_lake(time: str, reason: str | None) -> None:
    result = read([time, *ROW[1:]])
    assert (result.reason.startswith(reason) and result.minute) if reason else not isinstance(result, Refused)


def test_an_event_that_was_too_far_ahead_is_admitted_when_its_time_comes() -> None:
    refused = read(["2026-03-04 00:00:00", *ROW[1:]])
    with pytest.raises(NotAdmitted, match="24 hours ahead"):
        StoredEvents(SHOP, CLOCK).read(refused.payload, refused.reason)
    assert StoredEvents(SHOP, CLOCK.replace(day=3)).read(refused.payload, refused.reason)
