"""A table whose rows, files or catalog were lost or changed: the missing parts are written again, exactly."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from include.housekeeping import folding
from include.lake.session import lake
from include.lakehouse import repair, table, upkeep
from include.lakehouse.export import export, rewrite
from include.lakehouse.settings import LakehouseError
from tests.lakehouse.events import SHOP, add_to_lake, count_hours, merge_minutes, shop_event, table_rows
from tests.warehouse.lab import CLOCK, TEN, minute
from tests.warehouse.shop import Shop, operation

HOUR = timedelta(hours=1)


@pytest.fixture
def two_hours(shop: Shop) -> list[tuple]:
    """Events of ten and eleven o'clock, exported and counted; returns the rows of the table."""
    add_to_lake(shop_event(TEN, 1), shop_event(TEN, 2), shop_event(minute(1), 1, "cart"), shop_event(minute(60), 1))
    later = operation(event_time=minute(60))
    merge_minutes(shop, {TEN: [operation(), operation()], minute(1): [operation("cart")], minute(60): [later]})
    export(SHOP)
    assert count_hours() == {TEN: (2, 1), minute(60): (1, 0)}
    return table_rows()


def remove_data_of(lakehouse, hour: str) -> None:
    [file] = lakehouse.rglob(f"hour={hour}/*.parquet")
    file.unlink()


def test_a_table_whose_catalog_was_lost_gets_all_events_again(shop: Shop, two_hours) -> None:
    table.catalog().drop_table(SHOP.lakehouse.table)
    assert export(SHOP).minutes == 3
    assert table_rows() == two_hours
    assert count_hours() == {TEN: (2, 1), minute(60): (1, 0)}
    assert export(SHOP).minutes == 0


def test_a_writer_of_a_lost_table_records_nothing(shop: Shop, two_hours) -> None:
    from include.lakehouse import ledger

    lost_table_id = str(table.table(SHOP).metadata.table_uuid)
    [row] = shop.query("SELECT minute, attempt FROM etl.minute_ledger WHERE minute = %s", TEN)
    table.catalog().drop_table(SHOP.lakehouse.table)
    ledger.use_table(shop.conn, SHOP, str(table.table(SHOP).metadata.table_uuid))
    ledger.record_written(shop.conn, SHOP, lost_table_id, (), [dict(zip(("minute", "attempt"), row, strict=True))])
    assert export(SHOP).minutes == 3


def test_rows_that_were_deleted_by_hand_are_written_again(shop: Shop, two_hours) -> None:
    table.table(SHOP).delete(table.between("minute", TEN, TEN + HOUR))
    assert rewrite(SHOP, TEN, TEN + HOUR) == 2
    assert export(SHOP).minutes == 2
    assert table_rows() == two_hours
    assert count_hours() == {TEN: (2, 1)}


def test_rows_that_were_added_by_hand_are_removed(shop: Shop, two_hours) -> None:
    events_table = table.table(SHOP)
    copies = events_table.scan(row_filter=table.within([TEN])).to_arrow()
    moved = copies.set_column(0, copies.schema.field("minute"), [[minute(7)] * 2])
    events_table.append(moved)
    rewrite(SHOP, TEN, TEN + HOUR)
    export(SHOP)
    assert table_rows() == two_hours
    assert count_hours() == {TEN: (2, 1)}


def test_an_export_that_needs_a_missing_file_writes_its_whole_hour_again(shop: Shop, two_hours, lakehouse) -> None:
    remove_data_of(lakehouse, "2026-03-01-10")
    add_to_lake(shop_event(TEN, 3))
    merge_minutes(shop, {TEN: [operation()] * 3}, run_id="late")
    assert export(SHOP).minutes == 1
    assert export(SHOP).minutes == 1, "The other minute of the file."
    assert count_hours() == {TEN: (3, 1)}


def test_an_hour_whose_file_is_missing_waits_until_its_minutes_are_written(shop: Shop, two_hours, lakehouse) -> None:
    remove_data_of(lakehouse, "2026-03-01-10")
    shop.query("UPDATE etl.lakehouse_hours SET changes = changes + 1 WHERE hour = %s", TEN)
    assert count_hours() == {}
    assert export(SHOP).minutes == 2
    assert table_rows() == two_hours
    assert count_hours() == {TEN: (2, 1)}


def test_upkeep_that_needs_a_missing_file_leaves_the_repair_to_the_next_export(
    shop: Shop, two_hours, lakehouse, monkeypatch
) -> None:
    monkeypatch.setattr(upkeep, "MAX_FILES", 0)
    remove_data_of(lakehouse, "2026-03-01-10")
    upkeep.upkeep(SHOP)
    assert export(SHOP).minutes == 2
    assert table_rows() == two_hours


def test_a_table_without_its_metadata_is_named_with_a_remedy(shop: Shop, two_hours, lakehouse) -> None:
    for file in lakehouse.rglob("*.metadata.json"):
        file.unlink()
    with pytest.raises(LakehouseError, match=r"has lost its metadata: .* Drop the table from the catalog"):
        export(SHOP)
    table.catalog().drop_table(SHOP.lakehouse.table)
    export(SHOP)
    assert table_rows() == two_hours


def test_a_table_without_the_list_of_its_files_is_named_with_a_remedy(shop: Shop, two_hours, lakehouse) -> None:
    for file in lakehouse.rglob("*.avro"):
        file.unlink()
    add_to_lake(shop_event(minute(61), 1))
    merge_minutes(shop, {minute(61): [operation(event_time=minute(61))]}, run_id="later")
    with pytest.raises(
        LakehouseError, match=r"lost the list of its files: .* Drop the table .* except those of closed minutes"
    ):
        export(SHOP)
    table.catalog().drop_table(SHOP.lakehouse.table)
    assert export(SHOP).minutes == 4
    assert table_rows() == [*two_hours, (minute(61), "view", 7)]


@pytest.mark.parametrize("time", ["9999-12-31 23:59:59 UTC", "0001-01-01 00:00:00 UTC"])
def test_a_lost_file_with_an_event_of_an_impossible_year_is_written_again(shop: Shop, lakehouse, time: str) -> None:
    add_to_lake(shop_event(TEN, 1), shop_event(TEN, 2, event_time=time))
    merge_minutes(shop, {TEN: [operation()]}, rejects=[(TEN, "event_time")])
    export(SHOP)
    assert count_hours() == {TEN: (1, 0)}
    remove_data_of(lakehouse, "2026-03-01-10")
    rewrite(SHOP, TEN, TEN + HOUR)
    export(SHOP)
    assert len(table_rows()) == 2
    assert count_hours() == {TEN: (1, 0)}


def test_a_table_that_is_elsewhere_is_refused(shop: Shop, two_hours, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MINUTEMARK_LAKEHOUSE", f"file://{tmp_path}/other")
    with pytest.raises(LakehouseError, match=r"Table ecommerce.events is in file:.*To move it: Drop the table"):
        export(SHOP)


def test_a_field_that_becomes_a_number_is_refused_until_the_table_is_recreated(shop: Shop, two_hours) -> None:
    other = replace(SHOP, numbers=(*SHOP.numbers, "brand"))
    with pytest.raises(LakehouseError, match=r"Column brand of table ecommerce.events is of type string"):
        export(other)
    table.catalog().drop_table(SHOP.lakehouse.table)
    assert export(other).minutes == 3


def test_minutes_lost_from_the_lake_do_not_block_others(shop: Shop) -> None:
    add_to_lake(shop_event(TEN, 1), shop_event(minute(1), 1))
    merge_minutes(shop, {TEN: [operation()], minute(1): [operation()]})
    with lake("lake_writer") as session:
        for shard in range(SHOP.shards):
            session.execute(f"DELETE FROM {SHOP.lake_table} WHERE minute = %s AND shard = %s", (minute(1), shard))
    assert (export(SHOP).changed_since, export(SHOP).changed_since) == (1, 0), "They are read once per merge."
    assert count_hours() == {TEN: (1, 0)}
    assert rewrite(SHOP, TEN, TEN + HOUR) == 2
    assert export(SHOP).changed_since == 1


def test_an_event_that_moved_to_another_hour_in_a_minute_that_has_not_settled_is_not_a_difference(shop: Shop) -> None:
    add_to_lake(shop_event(TEN, 1), shop_event(minute(1), 1))
    merge_minutes(shop, {TEN: [operation()], minute(1): [operation()]})
    export(SHOP)
    elsewhere = minute(180)
    add_to_lake(shop_event(TEN, 1, event_time=f"{elsewhere:%Y-%m-%d %H:%M:%S} UTC"))
    moved = {TEN: [operation(event_time=elsewhere)]}
    merge_minutes(shop, moved, run_id="again", clock=CLOCK, seen_at=CLOCK - timedelta(seconds=1))
    assert count_hours() == {TEN: (2, 0)}, "The minute counts as it was written last, and is not compared."


@pytest.mark.parametrize("first", [TEN, minute(2)])  # the ledger may lack the hour's first minute
def test_a_folded_hour_waits_until_the_table_has_all_of_it(shop: Shop, first: datetime) -> None:
    add_to_lake(shop_event(first, 1), shop_event(minute(1), 1))
    merge_minutes(shop, {first: [operation()], minute(1): [operation()]})
    shop.query("UPDATE etl.minute_ledger SET merged_at = merged_at - INTERVAL 2 DAY")
    assert folding.fold(shop.conn, SHOP, CLOCK, timedelta(hours=1)) == 1
    shop.query("UPDATE etl.minute_ledger SET read_at = NULL WHERE minute = %s", minute(1))
    export(SHOP)
    assert count_hours() == {}, "Its contributions are those of the whole hour."
    shop.query("UPDATE etl.minute_ledger SET read_at = settled_before WHERE minute = %s", minute(1))
    export(SHOP)
    assert count_hours() == {TEN: (2, 0)}


def test_ids_come_from_the_key_not_the_payload(shop: Shop) -> None:
    from include.lake.writer import EventWriter

    plain = shop_event(TEN, 1)
    with lake("lake_writer") as session:
        EventWriter(session, SHOP).write([plain._replace(text='{"event_type": "scroll", "id": " other "}')])
    merge_minutes(shop, {TEN: []}, ignored=1)
    export(SHOP)
    assert table.table(SHOP).scan(selected_fields=("id",)).to_arrow().to_pylist() == [{"id": plain.values["id"]}]


def test_a_file_elsewhere_that_cannot_be_looked_up_is_named() -> None:
    """It is neither present nor lost."""
    with pytest.raises(LakehouseError, match=r"Data file unknown://bucket/file\.parquet is not in the table's folder"):
        repair._exists("unknown://bucket/file.parquet")
