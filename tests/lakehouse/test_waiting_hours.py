"""An hour waits while the table lacks some of its minutes as merged, so that no published count loses events."""

from __future__ import annotations

from datetime import timedelta

import pytest

from include.lakehouse import table
from include.lakehouse.export import export, rewrite
from include.operations import copies
from include.verify import verify
from tests.lakehouse.events import SHOP, add_to_lake, count_hours, merge_minutes, shop_event
from tests.warehouse.lab import CLOCK, TEN, minute
from tests.warehouse.shop import Shop, operation

SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
LONG_AGO = "UPDATE etl.minute_ledger SET merged_at = merged_at - INTERVAL 16 MINUTE WHERE minute = %s"


@pytest.fixture
def published(shop: Shop) -> Shop:
    """Ten o'clock has two views, and a cart in its second minute; eleven o'clock has one view."""
    add_to_lake(shop_event(TEN, 1), shop_event(TEN, 2), shop_event(minute(1), 1, "cart"), shop_event(minute(60), 1))
    later = operation(event_time=minute(60))
    merge_minutes(shop, {TEN: [operation(), operation()], minute(1): [operation("cart")], minute(60): [later]})
    export(SHOP)
    assert count_hours() == {TEN: (2, 1), minute(60): (1, 0)}
    return shop


def merge_late_event(shop: Shop, *, seen_at=None) -> None:
    """Merge a third view of the first minute."""
    add_to_lake(shop_event(TEN, 3))
    merge_minutes(shop, {TEN: [operation()] * 3}, seen_at=seen_at, run_id="late")


def change_other_minute(shop: Shop) -> None:
    """Merge one more view in the second minute, so that the hour is counted again."""
    add_to_lake(shop_event(minute(1), 2))
    merge_minutes(shop, {minute(1): [operation("cart"), operation()]}, run_id="other")


def waiting_hours(shop: Shop) -> tuple[int, dict[str, int]]:
    """Waiting hours: those that the page shows, and those that verify shows."""
    [report] = verify.verify([SHOP], patience=0).pipelines
    assert report.differences.counts == {}
    shown = {kind: number for kind, number in report.apart.counts.items() if kind.startswith("lakehouse")}
    return copies.backlog_of(shop.conn, SHOP)["waiting"], shown


def test_a_minute_that_has_not_settled_counts_as_it_was_written_last(published: Shop) -> None:
    change_other_minute(published)
    merge_late_event(published, seen_at=CLOCK - SECOND)
    export(SHOP)
    assert count_hours() == {TEN: (3, 1)}, "The two published views of the first minute, and the new one of the second."
    merge_late_event(published)
    export(SHOP)
    assert count_hours() == {TEN: (4, 1)}


def test_a_steady_trickle_of_late_events_keeps_no_hour_from_being_published(published: Shop) -> None:
    for number in range(2, 5):
        add_to_lake(shop_event(minute(number), 1))
        merge_minutes(published, {minute(number): [operation()]}, run_id=f"settled {number}")
        add_to_lake(shop_event(minute(9), number))
        trickle = [operation()] * (number - 1)
        merge_minutes(published, {minute(9): trickle}, seen_at=CLOCK - SECOND, run_id=f"late {number}")
        export(SHOP)
        assert count_hours() == {TEN: (number + 1, 1)}, "All but the minute that has not settled."


def test_minutes_that_are_to_be_written_again_count_as_they_are(published: Shop) -> None:
    assert rewrite(SHOP, TEN, TEN + 2 * HOUR) == 3
    assert count_hours() == {TEN: (2, 1), minute(60): (1, 0)}, "Before their export."
    assert export(SHOP).minutes == 3
    assert count_hours() == {TEN: (2, 1), minute(60): (1, 0)}


def test_an_hour_waits_for_a_minute_that_was_held_before_its_export(published: Shop) -> None:
    merge_late_event(published)
    published.query("UPDATE etl.minute_ledger SET state = 'held' WHERE minute = %s", TEN)
    change_other_minute(published)
    export(SHOP)
    assert (count_hours(), count_hours()) == ({}, {})
    assert waiting_hours(published) == (1, {"lakehouse_due": 1, "lakehouse_hour_waits": 1})
    published.query("UPDATE etl.minute_ledger SET state = 'merged' WHERE minute = %s", TEN)
    export(SHOP)
    assert count_hours() == {TEN: (4, 1)}
    assert waiting_hours(published) == (0, {})


def test_an_hour_waits_for_closed_minutes_that_are_not_in_the_table(published: Shop) -> None:
    published.query("UPDATE etl.minute_ledger SET state = 'closed' WHERE minute < %s", TEN + HOUR)
    table.catalog().drop_table(SHOP.lakehouse.table)
    add_to_lake(shop_event(minute(61), 1, event_time=f"{TEN:%Y-%m-%d %H:%M:%S} UTC"))
    merge_minutes(published, {minute(61): [operation()]}, run_id="late")
    export(SHOP)
    assert count_hours() == {minute(60): (1, 0)}
    assert waiting_hours(published) == (1, {"lakehouse_closed": 2, "lakehouse_hour_waits": 1})


def test_an_hour_waits_for_a_minute_without_recent_writes(published: Shop) -> None:
    merge_late_event(published, seen_at=CLOCK - SECOND)
    change_other_minute(published)
    published.query(LONG_AGO, TEN)
    export(SHOP)
    assert count_hours() == {}
    merge_late_event(published)
    export(SHOP)
    assert count_hours() == {TEN: (4, 1)}


def test_an_hour_that_waits_is_compared_again_after_ten_minutes(published: Shop) -> None:
    """The minute's next merge may move its events to another hour: then no write marks this hour."""
    merge_late_event(published, seen_at=CLOCK - SECOND)
    change_other_minute(published)
    published.query(LONG_AGO, TEN)
    export(SHOP)
    assert count_hours() == {}
    elsewhere = minute(180)
    add_to_lake(shop_event(TEN, 3, event_time=f"{elsewhere:%Y-%m-%d %H:%M:%S} UTC"))
    merge_minutes(published, {TEN: [operation(), operation(), operation(event_time=elsewhere)]}, run_id="moved")
    assert count_hours() == {}
    published.query("UPDATE etl.lakehouse_hours SET waited_at = waited_at - INTERVAL 11 MINUTE")
    assert count_hours() == {TEN: (3, 1)}


def test_an_hour_waits_for_an_event_that_was_rewritten_before_its_export(published: Shop) -> None:
    """Same id, other content: no count of the ledger shows the change, and no poll has seen it yet."""
    change_other_minute(published)
    add_to_lake(shop_event(minute(1), 1))
    export(SHOP)
    assert count_hours() == {}
    merge_minutes(published, {minute(1): [operation(), operation()]}, run_id="rewritten")
    export(SHOP)
    assert count_hours() == {TEN: (4, 0)}


def test_an_hour_that_waits_is_still_compared(published: Shop) -> None:
    from include.lakehouse.hourly import HoursDiffer

    merge_late_event(published)
    published.query("UPDATE etl.minute_ledger SET state = 'held' WHERE minute = %s", TEN)
    change_other_minute(published)
    export(SHOP)
    published.query("UPDATE ecommerce.visits_hourly SET cart_additions = 9 WHERE hour = %s", TEN)
    with pytest.raises(HoursDiffer, match="1 visits and 1 cart_additions in the lakehouse, 1 visits and 9"):
        count_hours()
