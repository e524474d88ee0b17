"""Events of settled minutes in the Iceberg table, and hours that are counted from it alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow.parquet
import pytest

from include.lake.errors import LakeUnreadable
from include.lake.session import lake
from include.lakehouse import events, hourly, table
from include.lakehouse.export import export
from tests.lakehouse.events import SHOP, add_to_lake, count_hours, merge_minutes, shop_event, table_rows
from tests.unreadable import unreadable_partition
from tests.warehouse.lab import TEN, minute
from tests.warehouse.shop import Shop, operation


def move_to_another_hour(shop: Shop) -> datetime:
    """Export and count an event of ten o'clock, then move it to another hour; returns that hour."""
    elsewhere = TEN + timedelta(hours=3)
    add_to_lake(shop_event(TEN, 1))
    merge_minutes(shop, {TEN: [operation()]})
    export(SHOP)
    assert count_hours() == {TEN: (1, 0)}
    add_to_lake(shop_event(TEN, 1, event_time=f"{elsewhere:%Y-%m-%d %H:%M:%S} UTC"))
    merge_minutes(shop, {TEN: [operation(event_time=elsewhere)]}, run_id="again")
    return elsewhere


def test_events_of_merged_minutes_are_in_the_table_and_counted_as_in_the_warehouse(shop: Shop) -> None:
    add_to_lake(shop_event(TEN, 1), shop_event(TEN, 2, "cart"), shop_event(minute(1), 1, "VIEW ", price="12.5"))
    merge_minutes(shop, {TEN: [operation(), operation("cart")], minute(1): [operation()]})
    export(SHOP)
    assert table_rows() == [(TEN, "cart", 7), (TEN, "view", 7), (minute(1), "VIEW", 7)]
    assert count_hours() == {TEN: (2, 1)}
    assert export(SHOP).minutes == 0
    assert count_hours() == {}


def test_a_minute_that_was_merged_again_is_replaced_as_a_whole(shop: Shop) -> None:
    add_to_lake(shop_event(TEN, 1), shop_event(TEN, 2))
    merge_minutes(shop, {TEN: [operation(), operation()]})
    export(SHOP)
    add_to_lake(shop_event(TEN, 1, "cart"), shop_event(TEN, 3, "purchase", price="5"))
    merge_minutes(shop, {TEN: [operation("cart"), operation(), operation("purchase")]}, run_id="again")
    export(SHOP)
    assert table_rows() == [(TEN, "cart", 7), (TEN, "purchase", 7), (TEN, "view", 7)]
    assert count_hours() == {TEN: (1, 1)}


def test_an_hour_that_loses_its_last_event_is_counted_again(shop: Shop) -> None:
    elsewhere = move_to_another_hour(shop)
    export(SHOP)
    assert count_hours() == {TEN: (0, 0), elsewhere: (1, 0)}


def test_rejected_events_are_in_the_table_and_not_in_the_counts(shop: Shop) -> None:
    add_to_lake(
        shop_event(TEN, 1),
        shop_event(TEN, 2, product_id="none"),
        shop_event(TEN, 3, event_time="yesterday"),
        shop_event(TEN, 4, brand="x" * 65),
        shop_event(TEN, 5, "scroll"),
    )
    rejects = [(TEN, "product_id"), (TEN, "event_time"), (TEN, "brand")]
    merge_minutes(shop, {TEN: [operation()]}, rejects=rejects, ignored=1)
    assert export(SHOP).events == 5
    assert count_hours() == {TEN: (1, 0)}


def test_events_from_too_far_ahead_count_when_their_time_comes(shop: Shop) -> None:
    """Their minute of create_time is three days ahead; their event_time is ten o'clock."""
    ahead, event_time = minute(3 * 24 * 60), f"{TEN:%Y-%m-%d %H:%M:%S} UTC"
    add_to_lake(shop_event(TEN, 1), shop_event(ahead, 1, event_time=event_time))
    merge_minutes(shop, {TEN: [operation()], ahead: []}, rejects=[(ahead, SHOP.too_far_ahead_reason)])
    assert export(SHOP).events == 2
    assert count_hours() == {TEN: (1, 0)}
    merge_minutes(shop, {ahead: [operation()]}, run_id="its time", clock=ahead)
    export(SHOP)
    assert count_hours() == {TEN: (2, 0)}


def test_a_minute_that_has_not_settled_waits(shop: Shop) -> None:
    add_to_lake(shop_event(TEN, 1))
    merge_minutes(shop, {TEN: [operation()]}, clock=TEN + timedelta(seconds=70), seen_at=TEN + timedelta(seconds=69))
    assert export(SHOP).minutes == 0
    merge_minutes(shop, {TEN: [operation()]}, run_id="settled")
    assert export(SHOP).minutes == 1


def test_a_minute_that_has_changed_in_the_lake_is_left_to_its_next_merge(shop: Shop) -> None:
    add_to_lake(shop_event(TEN, 1), shop_event(minute(1), 1))
    merge_minutes(shop, {TEN: [operation()], minute(1): [operation()]})
    add_to_lake(shop_event(TEN, 2))
    done = export(SHOP)
    assert (done.minutes, done.changed_since) == (1, 1)
    assert table_rows() == [(minute(1), "view", 7)]
    assert count_hours() == {TEN: (1, 0)}


def test_a_minute_that_cannot_be_read_stays_due_and_the_others_are_written(shop: Shop) -> None:
    add_to_lake(shop_event(TEN, 1), shop_event(minute(1), 1), shop_event(minute(2), 1))
    merge_minutes(shop, {TEN: [operation()], minute(1): [operation()], minute(2): [operation()]})
    message = r"cannot be read: 2026-03-01 10:01\. They stay due\. 2 events of 2 minutes were written\."
    with (
        lake("lake_writer") as writer,
        unreadable_partition(writer, SHOP, minute(1), 0),
        pytest.raises(LakeUnreadable, match=message),
    ):
        export(SHOP)
    assert [row[0] for row in table_rows()] == [TEN, minute(2)]
    assert shop.query("SELECT minute FROM etl.minute_ledger WHERE to_lakehouse = 1") == [(minute(1),)]


def test_an_export_that_was_killed_before_it_was_recorded_is_repeated(shop: Shop) -> None:
    add_to_lake(shop_event(TEN, 1), shop_event(TEN, 2))
    merge_minutes(shop, {TEN: [operation(), operation()]})
    with shop.refusing("UPDATE", "etl.minute_ledger"), pytest.raises(Exception, match="UPDATE refused"):
        export(SHOP)
    assert len(table_rows()) == 2
    assert export(SHOP).minutes == 1
    assert len(table_rows()) == 2
    assert count_hours() == {TEN: (2, 0)}


def test_an_hour_that_lost_its_events_is_counted_even_after_a_kill(shop: Shop) -> None:
    elsewhere = move_to_another_hour(shop)
    with shop.refusing("UPDATE", "etl.minute_ledger"), pytest.raises(Exception, match="UPDATE refused"):
        export(SHOP)
    export(SHOP)
    assert count_hours() == {TEN: (0, 0), elsewhere: (1, 0)}


def test_the_later_of_two_commits_of_a_minute_is_refused(shop: Shop) -> None:
    """A task that seemed dead, and then resumes, has read the events earlier."""
    from pyiceberg.exceptions import ValidationException

    add_to_lake(shop_event(TEN, 1))
    merge_minutes(shop, {TEN: [operation()]})
    stale_table = table.table(SHOP)
    with lake() as session:
        old_events, _ = events.events_of(session, SHOP, [TEN])
    export(SHOP)
    with pytest.raises(ValidationException):
        table.replace(stale_table, [TEN], old_events)
    assert len(table_rows()) == 1


def test_an_hour_that_differs_is_named_with_both_figures_and_the_others_are_counted(shop: Shop, lakehouse) -> None:
    later = minute(60)
    add_to_lake(shop_event(TEN, 1), shop_event(TEN, 2), shop_event(later, 1))
    merge_minutes(shop, {TEN: [operation(), operation()], later: [operation(event_time=later)]})
    export(SHOP)
    shop.query("UPDATE ecommerce.visits_hourly SET visits = 3 WHERE hour = %s", TEN)
    with pytest.raises(
        hourly.HoursDiffer, match="2026-03-01 10:00: 2 visits and 0 cart_additions in the lakehouse, 3 visits and 0"
    ):
        count_hours()
    shop.query("UPDATE ecommerce.visits_hourly SET visits = 2 WHERE hour = %s", TEN)
    assert count_hours() == {TEN: (2, 0)}
    files = [pyarrow.parquet.read_table(file).to_pylist() for file in sorted((lakehouse / "hourly").rglob("*.parquet"))]
    assert [[row.pop("counted_at").tzname() for row in rows] for rows in files] == [["UTC"], ["UTC"]]
    versions = dict(shop.query("SELECT hour, counted_change FROM etl.lakehouse_hours"))
    assert files == [
        [{"hour": TEN.replace(tzinfo=UTC), "attempt": versions[TEN], "visits": 2, "cart_additions": 0}],
        [{"hour": later.replace(tzinfo=UTC), "attempt": versions[later], "visits": 1, "cart_additions": 0}],
    ]


def test_a_slower_count_marks_no_hour_that_another_has_counted_since(shop: Shop) -> None:
    add_to_lake(shop_event(TEN, 1))
    merge_minutes(shop, {TEN: [operation()]})
    export(SHOP)
    [count] = hourly.count(SHOP)
    # The slower count, which saw a different value.
    hourly._record(shop.conn.cursor(), SHOP, [], [], {TEN: count.version})
    shop.conn.commit()
    assert shop.query("SELECT to_count, differs_since FROM etl.lakehouse_hours") == [(0, None)]


@pytest.mark.parametrize(
    "loss",
    [
        "UPDATE etl.lakehouse_hours SET changes = 5, counted_change = 5",  # restored from a backup
        "DELETE FROM etl.lakehouse_hours",  # a new warehouse
    ],
)
def test_a_warehouse_that_lost_versions_does_not_repeat_them(shop: Shop, loss: str) -> None:
    """Otherwise BigQuery would keep the count of the lost version, and refuse a job with the same id."""

    def version_with(number: int) -> int:
        add_to_lake(shop_event(TEN, number))
        merge_minutes(shop, {TEN: [operation()] * number}, run_id=f"{number} events")
        export(SHOP)
        [count] = hourly.count(SHOP)
        return count.version

    lost = version_with(1)
    shop.query(loss)
    assert version_with(2) > lost


def test_a_field_that_is_declared_later_becomes_a_column(shop: Shop) -> None:
    add_to_lake(shop_event(TEN, 1, coupon="SPRING"))
    merge_minutes(shop, {TEN: [operation()]})
    export(SHOP)
    wider = replace(SHOP, fields=(*SHOP.fields, "coupon"))
    wider_table = table.table(wider)
    with lake() as session:
        table.replace(wider_table, [TEN], events.events_of(session, wider, [TEN])[0])
    assert wider_table.scan(selected_fields=("coupon",)).to_arrow().to_pylist() == [{"coupon": "SPRING"}]


def test_hours_that_differ_do_not_block_an_older_hour(shop: Shop) -> None:
    later = minute(60)
    add_to_lake(shop_event(TEN, 1), shop_event(later, 1))
    merge_minutes(shop, {TEN: [operation()], later: [operation(event_time=later)]})
    export(SHOP)
    shop.query("UPDATE ecommerce.visits_hourly SET visits = 3 WHERE hour = %s", later)
    with pytest.raises(hourly.HoursDiffer):
        hourly.count(SHOP, max_hours=1)
    assert [count.hour for count in hourly.count(SHOP, max_hours=1)] == [TEN]
