"""Shop events in the lake, merged as a run of the pipeline merges them, and their rows in the Iceberg table."""

from __future__ import annotations

from datetime import datetime, timedelta

from include.lake import change_log, counts
from include.lake.keys import time_uuid
from include.lake.session import lake
from include.lake.writer import Event, EventWriter
from include.lakehouse import hourly, table
from tests.warehouse.shop import Shop

SHOP = Shop.pipeline


def shop_event(at: datetime, number: int, kind: str = "view", **values: str) -> Event:
    """A shop event of the minute `at`, as its producer sends it."""
    fields = {
        "event_type": kind,
        "event_time": f"{at:%Y-%m-%d %H:%M:%S} UTC",
        "product_id": "7",
        "id": f"{at}/{number}",
    }
    return Event(time_uuid(at + timedelta(seconds=number), fields["id"]), fields | values)


def add_to_lake(*events: Event) -> None:
    with lake("lake_writer") as session:
        EventWriter(session, SHOP).write(events)


def merge_minutes(
    shop: Shop, operations: dict[datetime, list[dict]], *, seen_at: datetime | None = None, **values
) -> None:
    """Merge these operations as if they were the lake's rows of their minutes, changed long ago unless `seen_at` is given."""
    with lake() as session:
        lake_counts = counts.minute_counts(session, SHOP, operations)
        days = {at.date() for at in operations}
        touches = [change_log.minutes_of_day(session, SHOP.lake_table, day) for day in days]
    read = {at: {"id_checksum": checksum} for at, (_, checksum) in lake_counts.items()}
    shop.see(*operations, **({"at": seen_at, "clock": seen_at} if seen_at else {}))
    shop.publish(operations, counts=read, **values)
    for at, changed_at in (touch for of_day in touches for touch in of_day.items() if touch[0] in operations):
        shop.query(
            "UPDATE etl.minute_ledger SET seen_changed_at = %s, read_changed_at = %s WHERE pipeline = %s AND minute = %s",
            *(str(changed_at), str(changed_at), SHOP.name, at),
        )


def count_hours() -> dict[datetime, tuple[int, ...]]:
    """Visits and additions to carts of the hours that changed, counted now."""
    return {count.hour: tuple(count.values.values()) for count in hourly.count(SHOP)}


def table_rows() -> list[tuple]:
    result = table.table(SHOP).scan(selected_fields=("minute", "event_type", "product_id")).to_arrow().to_pylist()
    return sorted((row["minute"], row["event_type"], row["product_id"] and int(row["product_id"])) for row in result)
