"""The same number in four engines: DuckDB and Spark SQL over the table's files, MySQL's fact, BigQuery's view."""

from __future__ import annotations

import json
import random
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include.bigquery import tables
from include.bigquery.due import load_due
from include.lakehouse import events, hourly
from include.lakehouse.export import export
from include.lakehouse.settings import LakehouseError
from include.lakehouse.spark_view import create_events_view
from include.lakehouse.table import schema, table
from include.readings import YEARS
from include.spark import ecommerce
from include.warehouse.sql import FOLDER
from tests.lakehouse.events import SHOP, add_to_lake, merge_minutes, shop_event
from tests.spark.conftest import spark  # noqa: F401 - a fixture
from tests.spark.rows import EVENT_ID, fields_of, raw_frame
from tests.warehouse.conftest import lab  # noqa: F401 - a fixture
from tests.warehouse.lab import TEN, minute
from tests.warehouse.shop import Shop, operation

ROOT = Path(__file__).resolve().parents[2]
QUERY = (FOLDER / "ecommerce" / "lakehouse" / "visits.sql").read_text(encoding="utf-8")
HOUR = timedelta(hours=1)
Counts = dict[datetime, tuple[int, int]]  # visits and additions to carts of each hour


def spark_counts(session, query: str = QUERY) -> Counts:
    create_events_view(session, SHOP)
    rows = session.sql(query).selectExpr("CAST(hour AS timestamp_ntz) AS hour", "visits", "cart_additions").collect()
    return {row.hour: (row.visits, row.cart_additions) for row in rows}


def duckdb_counts(*hours: datetime) -> Counts:
    with hourly.duckdb_over(SHOP, table(SHOP), hours) as connection:
        return {hour: tuple(counts) for hour, *counts in connection.execute(QUERY).fetchall()}


def mysql_counts(warehouse: Shop) -> Counts:
    rows = warehouse.query("SELECT hour, visits, cart_additions FROM ecommerce.visits_hourly")
    return {hour: (int(visits), int(carts)) for hour, visits, carts in rows}


def bigquery_counts(client) -> Counts:
    rows = tables.query(client, f"SELECT DATETIME(hour) AS hour, visits, cart_additions FROM `{tables.view(SHOP)}`")
    return {row["hour"]: (row["visits"], row["cart_additions"]) for row in rows}


def test_four_engines_have_the_same_counts_even_after_late_events_and_a_replaced_minute(
    shop: Shop,
    bigquery,
    spark,  # noqa: F811
) -> None:
    later = TEN + HOUR
    add_to_lake(
        shop_event(TEN, 1), shop_event(TEN, 2, "CART"), shop_event(TEN, 3, product_id="7.5"), shop_event(minute(1), 1)
    )
    add_to_lake(shop_event(later, 1), shop_event(later, 2, brand="x" * 65))
    merge_minutes(
        shop,
        {TEN: [operation(), operation("cart")], minute(1): [operation()], later: [operation(event_time=later)]},
        rejects=[(TEN, "product_id"), (later, "brand")],
    )
    run()
    expected = {TEN: (2, 1), later: (1, 0)}
    assert (
        spark_counts(spark) == duckdb_counts(TEN, later) == mysql_counts(shop) == bigquery_counts(bigquery) == expected
    )

    add_to_lake(shop_event(TEN, 2), shop_event(later, 3, "cart", event_time=f"{TEN:%Y-%m-%d %H:%M:%S} UTC"))
    merge_minutes(shop, {TEN: [operation(), operation()]}, rejects=[(TEN, "product_id")], run_id="corrected")
    moved = [operation(event_time=later), operation("cart", event_time=TEN)]
    merge_minutes(shop, {later: moved}, rejects=[(later, "brand")], run_id="late")
    run()
    expected = {TEN: (3, 1), later: (1, 0)}
    assert (
        spark_counts(spark) == duckdb_counts(TEN, later) == mysql_counts(shop) == bigquery_counts(bigquery) == expected
    )


def test_the_first_and_last_hour_that_a_fact_can_have_count_in_spark_duckdb_and_mysql(shop: Shop, spark) -> None:  # noqa: F811
    first, last = datetime(YEARS.start, 1, 1), datetime(YEARS.stop, 1, 1) - timedelta(microseconds=1)
    valid_times = (first, last, datetime(2100, 6, 1, 8))
    invalid_times = (first - timedelta(seconds=1), datetime(YEARS.stop, 1, 1))
    times = enumerate((*valid_times, *invalid_times), 1)
    add_to_lake(*(shop_event(TEN, number, event_time=f"{at} UTC") for number, at in times))
    operations = {TEN: [operation(event_time=at) for at in valid_times]}
    merge_minutes(shop, operations, rejects=[(TEN, "event_time")] * len(invalid_times))
    export(SHOP)
    hours = [at.replace(minute=0, second=0, microsecond=0) for at in valid_times]
    counts = {count.hour: tuple(count.values.values()) for count in hourly.count(SHOP)}
    assert spark_counts(spark) == mysql_counts(shop) == counts == dict.fromkeys(hours, (1, 0))
    assert shop.query("SELECT COUNT(*) FROM etl.lakehouse_hours WHERE to_count = 1") == [(0,)]


def test_events_from_too_far_ahead_do_not_count_in_spark_duckdb_and_mysql(shop: Shop, spark) -> None:  # noqa: F811
    ahead = datetime.now(UTC).replace(second=0, microsecond=0, tzinfo=None) + SHOP.most_ahead + HOUR
    add_to_lake(shop_event(TEN, 1), shop_event(ahead, 1, event_time=f"{TEN:%Y-%m-%d %H:%M:%S} UTC"))
    merge_minutes(shop, {TEN: [operation()], ahead: []}, rejects=[(ahead, SHOP.too_far_ahead_reason)])
    export(SHOP)
    [count] = hourly.count(SHOP)
    assert spark_counts(spark) == mysql_counts(shop) == {TEN: tuple(count.values.values())} == {TEN: (1, 0)}


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
        + [datetime(2100, 12, 31, 23, 59, 59, 999999), datetime(2101, 1, 1), datetime(2026, 10, 25, 1, 30)],
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
    rows = []
    for number in range(5_000):
        row = dict.fromkeys(schema(SHOP).as_arrow().names)
        row |= {name: rng.choice(choices) for name, choices in values.items()}
        row |= {"minute": rng.choice((TEN, datetime(1999, 12, 31))), "create_time": str(number)}
        rows.append(row)
    columns = schema(SHOP).as_arrow()
    arrays = [pyarrow.array([row[name] for row in rows]).cast(columns.field(name).type) for name in columns.names]
    table(SHOP).append(pyarrow.table(arrays, schema=columns))
    hours = {event["event_time"].replace(minute=0, second=0, microsecond=0) for event in rows if event["event_time"]}
    counts = duckdb_counts(*sorted(hours))
    assert len(counts) == 4
    assert spark_counts(spark) == counts
    (documented_query,) = re.findall(
        r"```sql\n(.*?)```", (ROOT / "docs" / "lakehouse.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert spark_counts(spark, documented_query) == counts


@pytest.mark.usefixtures("lakehouse")
def test_the_query_counts_what_the_transform_counts(spark) -> None:  # noqa: F811
    """The same payloads go through both: visits.sql has the conditions of the contract in include/spark/ecommerce.py."""
    import pyarrow
    from pyspark.sql import functions as F

    rng, spaces = random.Random(21), " " * 70
    values = {
        "event_type": ["view", " View", "CART", "remove_from_cart", "purchase", "wishlist", "NaN", None],
        "event_time": ["2100-12-31 23:59:59.9999999", "2101-01-01T00:00:00Z", "1970-01-01 00:00", "1969-12-31 23:59:59"]
        + [
            "2100-06-01 12:00:00+05:30",
            "1970-01-01 00:30:00+01:00",
            "2026-03-01 10:00 UTC",
            "1772359200",
            "NaN",
            "x",
            None,
        ],
        "product_id": ["1", "7.0", "1.5e1", "7.5", "0", "-1", "9" * 18, "9" * 19, "1e-19", "NaN", None],
        "category_code": ["a.b", "", ".", f"{'x' * 65}.b", f"b.{'é' * 65}", f" a.{spaces}b ", f"a.{'x' * 65}.b", None],
        "brand": ["nordlys", f" {'é' * 64} ", "é" * 65, "😀" * 64, "\u00a0", None],
        "price": ["-1", "x", "5", None],
    }
    payloads = [{name: rng.choice(choices) for name, choices in values.items()} for _ in range(3_000)]
    rows = raw_frame(spark, *({"create_time": EVENT_ID, **payload} for payload in payloads), pipeline=SHOP)
    fates = ecommerce.classify(fields_of(rows, SHOP), {}).where("fate = 'counted'")
    counted = fates.select(F.date_trunc("hour", "event.event_time").cast("timestamp_ntz").alias("hour"), "kind")
    contract = {hour: [0, 0] for (hour,) in counted.where("kind <> 'purchase'").select("hour").distinct().collect()}
    for hour, kind in counted.where("kind IN ('view', 'cart')").collect():
        contract[hour][kind == "cart"] += 1

    read, columns = events._reader(SHOP), schema(SHOP).as_arrow()
    lakehouse_rows = [{"minute": TEN, "create_time": EVENT_ID, **read(json.dumps(payload))} for payload in payloads]
    table(SHOP).append(pyarrow.Table.from_pylist(lakehouse_rows, schema=columns))
    hours = {
        event["event_time"].replace(minute=0, second=0, microsecond=0)
        for event in lakehouse_rows
        if event["event_time"]
    }
    assert len(contract) == 4
    assert duckdb_counts(*sorted(hours)) == {hour: tuple(counts) for hour, counts in contract.items()}


@pytest.mark.usefixtures("lakehouse")
def test_a_table_without_events_is_refused_with_the_dag_to_run(spark) -> None:  # noqa: F811
    with pytest.raises(LakehouseError, match="ecommerce.events has no events yet. Run the DAG ecommerce_lakehouse"):
        create_events_view(spark, SHOP)
