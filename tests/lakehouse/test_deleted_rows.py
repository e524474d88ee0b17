"""Rows that another engine has deleted, while their files still have them."""

from __future__ import annotations

from datetime import datetime

import pyarrow
import pyarrow.parquet

from include.lakehouse import hourly, table
from include.lakehouse.export import export
from tests.lakehouse.events import SHOP, add_to_lake, count_hours, merge_minutes, shop_event, table_rows
from tests.lakehouse.other_engine import delete_rows
from tests.warehouse.lab import TEN, minute
from tests.warehouse.shop import Shop, operation

ANCIENT, BETWEEN = datetime(2001, 1, 1), datetime(2013, 6, 1)


def test_deleted_rows_do_not_count_and_only_the_requested_hours_are_read_into_memory(shop: Shop) -> None:
    """Otherwise a late event of 2001 and one of today would make the count read all events in between."""
    times = {minute(0): TEN, minute(1): TEN, minute(2): ANCIENT, minute(3): BETWEEN, minute(4): minute(180)}
    add_to_lake(*(shop_event(at, 1, event_time=f"{event_time} UTC") for at, event_time in times.items()))
    merge_minutes(shop, {at: [operation(event_time=event_time)] for at, event_time in times.items()})
    export(SHOP)
    assert len(count_hours()) == 4
    delete_rows(table.table(SHOP), minute(1))
    assert len(table_rows()) == 4
    with hourly.duckdb_over(SHOP, table.table(SHOP), [ANCIENT, TEN]) as connection:
        hours = connection.execute("SELECT date_trunc('hour', event_time), count(*) FROM files GROUP BY 1 ORDER BY 1")
        assert hours.fetchall() == [(ANCIENT, 1), (TEN, 1)]
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (2,)


def test_rows_of_another_engines_files_count_beside_deleted_ones(shop: Shop, tmp_path) -> None:
    """The other engine's files have strings of an Arrow type that pyiceberg's files do not have."""
    add_to_lake(shop_event(minute(0), 1), shop_event(minute(1), 1))
    merge_minutes(shop, {at: [operation()] for at in (minute(0), minute(1))})
    export(SHOP)
    iceberg_table = table.table(SHOP)
    rows = iceberg_table.scan(row_filter=table.within([minute(0)])).to_arrow()
    strings = pyarrow.schema(
        field.with_type(pyarrow.string()) if pyarrow.types.is_large_string(field.type) else field
        for field in iceberg_table.schema().as_arrow()
    )
    pyarrow.parquet.write_table(rows.cast(strings), tmp_path / "foreign.parquet")
    iceberg_table.add_files([f"file://{tmp_path}/foreign.parquet"])
    delete_rows(iceberg_table, minute(1))
    with hourly.duckdb_over(SHOP, table.table(SHOP), [TEN]) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (2,)
