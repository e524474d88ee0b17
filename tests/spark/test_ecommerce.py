"""What one raw shop event means: its fate, decided in the order of the design (§9), and its row in the warehouse."""

from __future__ import annotations

import json
import zlib
from datetime import datetime
from decimal import Decimal

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from include import pipelines
from include.lake.keys import short_id
from include.spark import ecommerce, run, staging
from include.spark.fate import COUNTED
from tests.reference import ecommerce as reference
from tests.reference.shop import event, purchase, view
from tests.spark.rows import EVENT_TIME_US, MINUTE, fields_of, raw_frame

SHOP = pipelines.get("ecommerce")
WHEN = datetime(2026, 3, 1, 12, 34, 56)
LONG = "x" * 65

# (changes to a purchase that counts, fate, kind, start of the reason)
TABLE = [
    pytest.param({}, "counted", "purchase", None, id="purchase"),
    pytest.param({"event_type": "view"}, "counted", "view", None, id="view"),
    pytest.param({"event_type": "cart"}, "counted", "cart", None, id="cart"),
    pytest.param({"event_type": "remove_from_cart"}, "counted", "remove_from_cart", None, id="removal"),
    pytest.param({"event_type": " View "}, "counted", "view", None, id="spaces and capitals do not matter"),
    pytest.param({"event_type": "wishlist"}, "ignored", "wishlist", None, id="a kind that is not counted"),
    pytest.param({"event_type": None}, "ignored", "none", None, id="no kind"),
    pytest.param({"event_type": "NaN"}, "ignored", "none", None, id="NaN is not a kind"),
    pytest.param({"event_type": "wishlist", "event_time": "x"}, "ignored", "wishlist", None, id="kind before time"),
    pytest.param({"event_time": None}, "rejected", None, "event_time is not a timestamp", id="no time"),
    pytest.param({"event_time": "NaN"}, "rejected", None, "event_time is not", id="NaN is not a time"),
    pytest.param({"event_time": "2026-02-30 00:00:00 UTC"}, "rejected", None, "event_time is not", id="a day that never was"),
    pytest.param({"event_time": "2101-01-01 00:00:00 UTC"}, "rejected", None, "event_time is not", id="after 2100"),
    pytest.param({"event_time": "2026-03-13 02:30:00+02:00Z"}, "rejected", None, "event_time is not", id="two zones"),
    pytest.param({"event_time": "2026-03-01 12:00:00 CET"}, "rejected", None, "event_time is not", id="a zone by name"),
    pytest.param({"event_time": "x", "product_id": "x"}, "rejected", None, "event_time is not", id="time before product"),
    pytest.param({"product_id": None}, "rejected", None, "product_id is not a positive whole number: nothing", id="no product"),
    pytest.param({"product_id": "p-17"}, "rejected", None, "product_id is not a positive whole", id="product is a word"),
    pytest.param({"product_id": "-1"}, "rejected", None, "product_id is not a positive whole number: -1", id="negative product"),
    pytest.param({"product_id": "0.0"}, "rejected", None, "product_id is not a positive whole number: 0.0", id="zero product"),
    pytest.param({"product_id": 1.00107069e8}, "counted", "purchase", None, id="product as a number with an exponent"),
    pytest.param({"product_id": "9" * 19}, "rejected", None, "product_id is not", id="product beyond BIGINT"),
    pytest.param({"product_id": "1003461.0"}, "counted", "purchase", None, id="product as a float"),
    pytest.param({"product_id": "x", "price": "-1"}, "rejected", None, "product_id is not", id="product before price"),
    pytest.param({"category_code": f"a.{LONG}"}, "rejected", None, "category_code has a first or last part", id="long product"),
    pytest.param({"category_code": f"{LONG}.a"}, "rejected", None, "category_code has a first", id="long department"),
    pytest.param({"category_code": f"a.{LONG}.b"}, "counted", "purchase", None, id="a long part that is not kept"),
    pytest.param({"brand": LONG, "price": "-1"}, "rejected", None, "brand has more than 64 characters", id="brand before price"),
    pytest.param({"brand": "😀" * 64}, "counted", "purchase", None, id="64 characters of four bytes"),
    pytest.param({"brand": LONG, "event_type": "view"}, "rejected", None, "brand has more than", id="a view needs valid names"),
    pytest.param({"price": None}, "rejected", None, "price of a purchase is not a number: nothing", id="no price"),
    pytest.param({"price": "NaN"}, "rejected", None, "price of a purchase is not a number: nothing", id="NaN is not a price"),
    pytest.param({"price": "free"}, "rejected", None, "price of a purchase is not a number: free", id="price is a word"),
    pytest.param({"price": "1e-2000000000"}, "rejected", None, "price of a purchase is not", id="exponent that eats the heap"),
    pytest.param({"price": "-0.01"}, "rejected", None, "price of a purchase is negative: -0.01", id="negative price"),
    pytest.param({"price": "-0.001"}, "rejected", None, "price of a purchase is negative", id="slightly negative price"),
    pytest.param({"price": "9999999999.99"}, "counted", "purchase", None, id="the highest price"),
    pytest.param({"price": "9999999999.995"}, "rejected", None, "price of a purchase is not below", id="price beyond its column"),
    pytest.param({"price": "0"}, "counted", "purchase", None, id="a gift"),
    pytest.param({"price": "x", "event_type": "cart"}, "counted", "cart", None, id="only purchases need a price"),
    pytest.param({"create_time": "x"}, "rejected", None, "create_time is not a time-UUID", id="create_time is a word"),
    pytest.param({"create_time": "x", "event_type": "wishlist"}, "rejected", None, "create_time", id="create_time before kind"),
]  # fmt: skip


@pytest.fixture(scope="module")
def fates(spark: SparkSession) -> dict[str, object]:
    """One job reads all rows of the table: each job costs a second, whatever it reads."""
    rows = [purchase(WHEN, number, **case.values[0]) for number, case in enumerate(TABLE)]
    result = ecommerce.classify(fields_of(raw_frame(spark, *rows, pipeline=SHOP), SHOP), {}).collect()
    return dict(zip((case.id for case in TABLE), result, strict=True))


@pytest.mark.parametrize(("changes", "fate", "kind", "reason"), TABLE)
def test_fate(fates: dict[str, object], request: pytest.FixtureRequest, changes, fate, kind, reason) -> None:
    row = fates[request.node.callspec.id]
    assert row.fate == fate
    assert kind is None or row.kind == kind
    assert (row.reason or "").startswith(reason or "") and (row.reason is None) == (reason is None)


def test_the_reference_agrees(fates: dict[str, object]) -> None:
    cases = [case for case in TABLE if "create_time" not in case.values[0]]
    for case in cases:
        expected, row = reference.fate_of(purchase(WHEN, **case.values[0])), fates[case.id]
        result = (row.fate, row.kind if row.fate == "ignored" else None, row.reason and row.reason.split()[0])
        assert result == (expected.name, expected.kind, expected.reason), case.id


def stage_rows(spark: SparkSession, *rows) -> list:
    """The rows as they are staged, in their order."""
    materialized = run.materialized(raw_frame(spark, *rows, pipeline=SHOP), ecommerce, SHOP, {})
    return ecommerce.operations(materialized.where(F.col("fate") == COUNTED)).orderBy("event_number").collect()


def test_an_event_becomes_one_row_without_visitor_data(spark: SparkSession) -> None:
    [row] = stage_rows(spark, view(WHEN))
    assert set(row.asDict()) == {
        "minute", "event_number", "event_time", "event_type", "department", "product", "brand", "price",
    }  # fmt: skip
    assert tuple(row)[3:] == ("view", "electronics", "smartphone", "nordlys", Decimal("489.07"))


def test_equal_events_have_different_numbers(spark: SparkSession) -> None:
    assert len({row.event_number for row in stage_rows(spark, view(WHEN, 1), view(WHEN, 2), view(WHEN, 3))}) == 3


@pytest.mark.parametrize("changes", [{}, {"category_code": "", "brand": ""}, {"category_code": "NaN", "brand": "NaN"}])
def test_a_name_that_is_absent_is_other(spark: SparkSession, changes) -> None:
    [row] = stage_rows(spark, view(WHEN, **{"category_code": None, "brand": None, **changes}))
    assert (row.department, row.product, row.brand) == ("other", "other", "other")


def test_names_are_split_and_trimmed(spark: SparkSession) -> None:
    codes = ("electronics.audio.headphone", "furniture", " a . b ", ".b", "a.", ".")
    rows = [view(WHEN, number, category_code=code, brand=f" {code} ") for number, code in enumerate(codes)]
    expected = [reference.fate_of(row).operation for row in rows]
    assert [(row.department, row.product, row.brand) for row in stage_rows(spark, *rows)] == [
        (operation.department, operation.product, operation.brand) for operation in expected
    ]


def test_prices_are_exact_to_the_cent(spark: SparkSession) -> None:
    texts = ("489.07", "0.1", "1.005", "1.0049", " 7 ", "1e1", "-1", None, "99999999999")
    rows = [view(WHEN, number, price=text) for number, text in enumerate(texts)]
    assert [row.price for row in stage_rows(spark, *rows)] == [
        Decimal("489.07"), Decimal("0.10"), Decimal("1.01"), Decimal("1.00"), Decimal(7), Decimal(10), None, None, None,
    ]  # fmt: skip


def test_the_machines_time_zone_changes_nothing(spark: SparkSession) -> None:
    texts = ("2026-03-13 02:30:00 UTC", "2026-03-13 02:30:00", "2026-03-13T02:30:00Z", "2026-03-12 22:30:00.5-04:00")
    frame = raw_frame(spark, *(view(WHEN, event_time=text) for text in texts), pipeline=SHOP)
    result = (
        ecommerce.classify(fields_of(frame, SHOP), {}).select(F.unix_micros("event.event_time").alias("us")).collect()
    )
    half_past_two = 1_773_369_000_000_000
    assert [row.us for row in result] == [half_past_two] * 3 + [half_past_two + 500_000]


def test_a_category_of_a_megabyte_is_read_in_time(spark: SparkSession) -> None:
    """A pattern that looks for its end from every character would take hours."""
    row = raw_frame(spark, view(WHEN, category_code="x" * 1_000_000 + ".y"), pipeline=SHOP)
    [row] = ecommerce.classify(fields_of(row, SHOP), {}).collect()
    assert row.fate == "rejected" and len(row.reason) <= 500


def test_a_rejected_event_is_kept_under_its_id(spark: SparkSession) -> None:
    ids = ["order-7", "7 ", "größe", "x" * 5_000]
    rows = [purchase(WHEN, number, id=event_id, price="-3") for number, event_id in enumerate(ids)]
    kept = staging.rejects(run.materialized(raw_frame(spark, *rows, pipeline=SHOP), ecommerce, SHOP, {})).collect()
    result = {json.loads(row.payload)["id"]: row.origin_key for row in kept}
    place = f"{MINUTE:%Y-%m-%dT%H:%MZ}/0"
    assert result == {row["id"]: f"{place}/{row['create_time']}/{short_id(row['id'])}" for row in rows}
    assert max(map(len, result.values())) <= 190


def test_an_id_with_several_create_times_is_listed_with_each_later_one_and_the_first(spark: SparkSession) -> None:
    names = ["order-7", "order-8", "order-7", "order-9", "order-7", "x" * 300, "x" * 300]
    rows = [purchase(WHEN, number, id=name) for number, name in enumerate(names)]
    rows.append(event("wishlist", WHEN, 7, id="order-9"))  # rows of every fate are compared
    result = staging.repeats(run.materialized(raw_frame(spark, *rows, pipeline=SHOP), ecommerce, SHOP, {}))
    time = [row["create_time"] for row in rows]
    assert result == [
        [str(MINUTE), "order-7", time[2], time[0]],
        [str(MINUTE), "order-7", time[4], time[0]],
        [str(MINUTE), "order-9", time[7], time[3]],
        [str(MINUTE), "x" * 100, time[6], time[5]],
    ]
    unique_rows = run.materialized(raw_frame(spark, *rows[:2], pipeline=SHOP), ecommerce, SHOP, {})
    assert staging.repeats(unique_rows) == []


def test_the_checksum_of_a_minute_is_that_of_its_ids(spark: SparkSession) -> None:
    rows = [event(kind, WHEN, number) for number, kind in enumerate(("view", "wishlist", "purchase"))]
    [counted] = staging.count_minutes(
        run.materialized(raw_frame(spark, *rows, pipeline=SHOP), ecommerce, SHOP, {}), SHOP
    )
    assert (counted.raw_rows, counted.counted_rows, counted.ignored_rows) == (3, 2, 1)
    assert counted.id_checksum == sum(zlib.crc32(row["id"].encode()) for row in rows)
    assert counted.newest_us // 1_000_000 == EVENT_TIME_US // 1_000_000
