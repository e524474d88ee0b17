"""The public data set of shop events, imported into a real lake: it has no create_time, no ids, and NaN for empty values."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from include import pipelines
from include.files import imports
from include.lake import change_log, counts, schema
from include.lake.errors import LakeTableMismatch
from include.lake.session import lake
from include.lake.writer import Event, EventWriter
from include.warehouse.session import rows as fetch
from include.warehouse.session import warehouse
from tests.lake.conftest import event_id
from tests.lake_rows import LakeRow

pytestmark = pytest.mark.usefixtures("schemas")

SHOP = pipelines.get("ecommerce")
HEADER = "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session"
VIEW = "{time},view,1003461,2053013555631882655,electronics.smartphone,nordlys,489.07,520088904,4d3b30da"
CART = "{time},cart,5000088,2053013566100866035,NaN,NaN,293.65,530496790,8e5f4f83"


@pytest.fixture
def csv_file(tmp_path):
    def write(*lines, header=HEADER):
        path = tmp_path / "2019-Nov.csv"
        path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
        return path

    return write


def lake_rows(minute: datetime) -> list:
    with lake("lake_reader") as session:
        query = "SELECT * FROM ecommerce_ks.operations WHERE minute = %s AND shard IN (0, 1, 2, 3)"
        result = sorted(session.execute(query, (minute,)), key=lambda row: (row.create_time.time, row.id))
        return [LakeRow(row) for row in result]


def test_events_are_stored_in_the_minute_of_their_own_time_and_touch_it(csv_file):
    path = csv_file(VIEW.format(time="2019-11-01 00:00:07 UTC"), CART.format(time="2019-11-01 00:01:00 UTC"))
    summary = imports.import_events(SHOP, path)
    assert (summary.written, summary.rejected, summary.missing_columns) == (2, 0, ())
    [row] = lake_rows(datetime(2019, 11, 1, 0, 0))
    assert (row.event_time, row.event_type, row.price) == ("2019-11-01 00:00:07 UTC", "view", "489.07")
    [cart] = lake_rows(datetime(2019, 11, 1, 0, 1))
    assert (cart.category_code, cart.brand, cart.product_id) == ("NaN", "NaN", "5000088"), "as it was sent"
    with lake("lake_reader") as session:
        touched = change_log.minutes_of_day(session, SHOP.lake_table, datetime(2019, 11, 1).date())
    assert {datetime(2019, 11, 1, 0, 0), datetime(2019, 11, 1, 0, 1)} <= set(touched)


def test_a_file_imported_twice_counts_once_and_equal_rows_are_two_events(csv_file):
    line = VIEW.format(time="2019-11-02 10:00:00 UTC")
    path = csv_file(line, line, CART.format(time="2019-11-02 10:00:00 UTC"))
    imports.import_events(SHOP, path)
    minute = datetime(2019, 11, 2, 10)
    before = lake_rows(minute)
    assert [row.event_type for row in before].count("view") == 2 and len(before) == 3
    imports.import_events(SHOP, path)
    assert lake_rows(minute) == before


def test_rows_count_once_when_their_file_grows_or_is_saved_in_another_encoding(csv_file):
    lines = [VIEW.format(time=f"2019-11-06 10:00:{second:02} UTC") for second in (1, 1, 2)]
    path = csv_file(*lines)
    imports.import_events(SHOP, path)
    grown = csv_file("too,few", *lines, CART.format(time="2019-11-06 10:00:03 UTC"))
    grown.write_bytes(b"\xef\xbb\xbf" + grown.read_bytes().replace(b"\n", b"\r\n"))
    imports.import_events(SHOP, grown)
    assert [row.event_type for row in lake_rows(datetime(2019, 11, 6, 10))] == ["view"] * 3 + ["cart"]


@pytest.mark.parametrize("no_id", ["", " ", "NULL", "None"])
def test_a_blank_id_counts_as_absent(csv_file, no_id):
    second = ("", " ", "NULL", "None").index(no_id)
    lines = [f"{no_id},{VIEW.format(time=f'2019-11-07 10:00:0{second} UTC')},{name}" for name in ("a", "b")]
    imports.import_events(SHOP, csv_file(*lines, header=f"id,{HEADER},note"))
    result = [row for row in lake_rows(datetime(2019, 11, 7, 10)) if row.event_time.endswith(f"0{second} UTC")]
    assert sorted(row.note for row in result) == ["a", "b"]


def test_the_last_version_in_a_file_stays_whichever_process_writes_it(csv_file):
    row = "order-9,2019-11-08 10:00:00 UTC,{kind},1,2,a.b,{brand},1,,".format
    versions = [row(kind="view", brand=f"v{number}") for number in range(40_000)] + [row(kind="cart", brand="")]
    imports.import_events(SHOP, csv_file(*versions, header=f"id,{HEADER}"))
    [event] = lake_rows(datetime(2019, 11, 8, 10))
    assert (event.event_type, event.brand) == ("cart", None)


def test_rows_with_ids_are_the_same_events_however_their_file_is_split(csv_file):
    header = f"id,{HEADER}"
    lines = [f"order-{number},{VIEW.format(time='2019-11-03 10:00:00 UTC')}" for number in range(5)]
    imports.import_events(SHOP, csv_file(*lines, header=header))
    imports.import_events(SHOP, csv_file(*reversed(lines[2:]), header=header))
    assert {row.id for row in lake_rows(datetime(2019, 11, 3, 10))} == {f"order-{number}" for number in range(5)}
    assert len(lake_rows(datetime(2019, 11, 3, 10))) == 5


def test_a_row_with_an_unreadable_time_is_kept_with_line_and_reason(csv_file):
    path = csv_file(VIEW.format(time="soon"), VIEW.format(time="2019-11-04 10:00:00 UTC"))
    summary = imports.import_events(SHOP, path)
    assert (summary.written, summary.rejected) == (1, 1)
    with warehouse("warehouse_etl") as conn:
        [kept] = fetch(conn.cursor(), "SELECT * FROM etl.rejected_events WHERE reason LIKE %(r)s", {"r": "%soon%"})
    assert kept["origin_key"].endswith(":2")
    assert kept["reason"] == "event_time 'soon' is not a timestamp between 1970 and 2100, and there is no create_time"


def test_two_events_of_one_create_time_are_two_rows_and_a_redelivery_is_one(lake_schema):
    create_time = event_id("2019-11-05 10:00:00")
    first, second = (Event(create_time, {"id": name, "event_type": "view"}) for name in ("order-1", "order-2"))
    minute = datetime(2019, 11, 5, 10)
    with lake("lake_writer") as writer, lake("lake_reader") as reader:
        EventWriter(writer, SHOP).write([first, second, first])
        EventWriter(writer, SHOP).write([second])
        assert counts.minute_counts(reader, SHOP, [minute])[minute][0] == 2


def test_a_table_whose_key_lacks_the_id_is_reported(admin, reader):
    admin.execute("CREATE TABLE ecommerce_ks.short_key (minute timestamp, shard int, create_time timeuuid, id text, "
                  "payload text, PRIMARY KEY ((minute, shard), create_time))")  # fmt: skip
    try:
        with pytest.raises(LakeTableMismatch, match=r"id is regular text, not clustering text.*create_time, id\)"):
            schema.check_table(reader, replace(SHOP, table="short_key"))
    finally:
        admin.execute("DROP TABLE ecommerce_ks.short_key")
