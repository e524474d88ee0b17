"""One number in four engines: DuckDB and Spark SQL over the table's files, MySQL's fact, BigQuery's view."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include.bigquery import tables
from include.bigquery.due import load_due
from include.lakehouse import hourly
from include.lakehouse.export import export
from include.lakehouse.settings import LakehouseError
from include.lakehouse.spark_view import create_events_view
from include.lakehouse.table import schema, table
from include.warehouse.sql import FOLDER
from tests.lakehouse.events import SHOP, in_lake, merged, sent
from tests.spark.conftest import spark  # noqa: F401 - a fixture
from tests.warehouse.conftest import lab  # noqa: F401 - a fixture
from tests.warehouse.lab import TEN, minute
from tests.warehouse.shop import Shop, operation

ROOT = Path(__file__).resolve().parents[2]
QUERY = (FOLDER / "ecommerce" / "lakehouse" / "visits.sql").read_text(encoding="utf-8")
HOUR = timedelta(hours=1)
Counts = dict[datetime, tuple[int, int]]  # visits and additions to carts of each hour


def in_spark(session, query: str = QUERY) -> Counts:
    create_events_view(session, SHOP)
    rows = session.sql(query).selectExpr("CAST(hour AS timestamp_ntz) AS hour", "visits", "cart_additions").collect()
    return {row.hour: (row.visits, row.cart_additions) for row in rows}


def in_duckdb(*hours: datetime) -> Counts:
    with hourly.duckdb_over(SHOP, table(SHOP), hours) as connection:
        return {hour: tuple(counts) for hour, *counts in connection.execute(QUERY).fetchall()}


def in_mysql(warehouse: Shop) -> Counts:
    rows = warehouse.query("SELECT hour, visits, cart_additions FROM ecommerce.visits_hourly")
    return {hour: (int(visits), int(carts)) for hour, visits, carts in rows}


def in_bigquery(client) -> Counts:
    rows = tables.query(client, f"SELECT DATETIME(hour) AS hour, visits, cart_additions FROM `{tables.view(SHOP)}`")
    return {row["hour"]: (row["visits"], row["cart_additions"]) for row in rows}


def test_four_engines_have_the_same_rows_also_after_late_events_and_a_replaced_minute(
    shop: Shop,
    bigquery,
    spark,  # noqa: F811
) -> None:
    later = TEN + HOUR
    in_lake(sent(TEN, 1), sent(TEN, 2, "CART"), sent(TEN, 3, product_id="7.5"), sent(minute(1), 1))
    in_lake(sent(later, 1), sent(later, 2, brand="x" * 65))
    merged(
        shop,
        {TEN: [operation(), operation("cart")], minute(1): [operation()], later: [operation(event_time=later)]},
        rejects=[(TEN, "product_id"), (later, "brand")],
    )
    run()
    expected = {TEN: (2, 1), later: (1, 0)}
    assert in_spark(spark) == in_duckdb(TEN, later) == in_mysql(shop) == in_bigquery(bigquery) == expected

    in_lake(sent(TEN, 2), sent(later, 3, "cart", event_time=f"{TEN:%Y-%m-%d %H:%M:%S} UTC"))
    merged(shop, {TEN: [operation(), operation()]}, rejects=[(TEN, "product_id")], run_id="corrected")
    moved = [operation(event_time=later), operation("cart", event_time=TEN)]
    merged(shop, {later: moved}, rejects=[(later, "brand")], run_id="late")
    run()
    expected = {TEN: (3, 1), later: (1, 0)}
    assert in_spark(spark) == in_duckdb(TEN, later) == in_mysql(shop) == in_bigquery(bigquery) == expected


def test_events_from_too_far_ahead_count_in_no_engine(shop: Shop, spark) -> None:  # noqa: F811
    ahead = datetime.now(UTC).replace(second=0, microsecond=0, tzinfo=None) + SHOP.most_ahead + HOUR
    in_lake(sent(TEN, 1), sent(ahead, 1, event_time=f"{TEN:%Y-%m-%d %H:%M:%S} UTC"))
    merged(shop, {TEN: [operation()], ahead: []}, rejects=[(ahead, SHOP.too_late)])
    export(SHOP)
    [count] = hourly.count(SHOP)
    assert in_spark(spark) == in_mysql(shop) == {TEN: tuple(count.values.values())} == {TEN: (1, 0)}


def run() -> None:
    """One run of ecommerce_lakehouse."""
    assert export(SHOP).changed_since == 0
    hourly.count(SHOP)
    load_due(SHOP)


@pytest.mark.usefixtures("lakehouse")
def test_duckdb_and_spark_give_the_same_result_for_any_events(spark) -> None:  # noqa: F811
    import pyarrow

    rng = random.Random(16)
    spaces = " " * 70
    values = {
        "event_type": ["view", "VIEW", "cart", "remove_from_cart", "purchase", "scroll", " view", "", None],
        "event_time": [TEN, TEN + HOUR - timedelta(microseconds=1), datetime(1970, 1, 1), datetime(1969, 12, 31), None]
        + [datetime(2099, 12, 31, 23, 59, 59, 999999), datetime(2100, 1, 1), datetime(2026, 10, 25, 1, 30)],
        "product_id": ["1", "0", "-1", "7.5", "7.000", "9223372036854775807", "9223372036854775808", None],
        "category_code": [
            "a.b",
            "a",
            "",
            ".",
            "a..b",
            f"{'x' * 64}.b",
            f"{'x' * 65}.b",
            f"b.{'é' * 65}",
            f"a.{spaces}b",
            None,
        ],
        "brand": ["nordlys", "é" * 64, "é" * 65, spaces, "", None],
    }
    events = []
    for number in range(5_000):
        row = dict.fromkeys(schema(SHOP).as_arrow().names)
        row |= {name: rng.choice(choices) for name, choices in values.items()}
        row |= {"minute": rng.choice((TEN, datetime(1999, 12, 31))), "create_time": str(number)}
        events.append(row)
    columns = schema(SHOP).as_arrow()
    arrays = [pyarrow.array([row[name] for row in events]).cast(columns.field(name).type) for name in columns.names]
    table(SHOP).append(pyarrow.table(arrays, schema=columns))
    hours = {event["event_time"].replace(minute=0, second=0, microsecond=0) for event in events if event["event_time"]}
    counts = in_duckdb(*sorted(hours))
    assert len(counts) == 4
    assert in_spark(spark) == counts
    (hive,) = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "lakehouse.md").read_text(encoding="utf-8"), re.DOTALL)
    assert in_spark(spark, hive) == counts


@pytest.mark.usefixtures("lakehouse")
def test_a_table_without_events_is_named(spark) -> None:  # noqa: F811
    with pytest.raises(LakehouseError, match="ecommerce.events has no events yet. Run ecommerce_lakehouse"):
        create_events_view(spark, SHOP)
