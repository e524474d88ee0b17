"""The reference itself, on hand-written rows: a wrong yardstick would pass a wrong pipeline."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from tests.reference import ecommerce
from tests.reference.shop import event, purchase, view

NOON = datetime(2026, 3, 1, 12, 0, 5)
HOUR = NOON.replace(second=0)
KEY = (HOUR, "electronics", "smartphone", "nordlys")


def test_one_row_of_each_kind_adds_one_to_its_column_and_only_purchases_bring_revenue():
    rows = [event(kind, NOON, number) for number, kind in enumerate(ecommerce.KINDS)]
    assert ecommerce.sales(rows) == {KEY: ecommerce.Sales(1, 1, 1, 1, Decimal("489.07"))}
    assert ecommerce.visits(rows) == {HOUR: (1, 1, 1)}
    assert [operation.revenue for operation in ecommerce.operations(rows)] == [0, 0, 0, Decimal("489.07")]


def test_equal_operations_of_two_events_are_two_and_a_redelivery_is_one():
    rows = [view(NOON, 1), view(NOON, 2), view(NOON, 2)]
    assert list(ecommerce.operations(rows).values()) == [2]
    without_ids = [view(NOON, id=None, create_time=None)] * 3
    assert list(ecommerce.operations(without_ids).values()) == [3]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("electronics.smartphone", ("electronics", "smartphone")),
        ("electronics.audio.headphone", ("electronics", "headphone")),
        ("furniture", ("furniture", "furniture")),
        (" a . b ", ("a", "b")),
        (".b", ("other", "b")),
        ("a.", ("a", "other")),
        (".", ("other", "other")),
        ("", ("other", "other")),
        (None, ("other", "other")),
        ("NaN", ("other", "other")),
    ],
)
def test_department_and_product_are_the_first_and_last_part(code, expected):
    operation = ecommerce.fate_of(view(NOON, category_code=code)).operation
    assert (operation.department, operation.product) == expected


@pytest.mark.parametrize(
    ("cells", "fate"),
    [
        pytest.param(
            {"event_type": "wishlist", "event_time": "?"}, ("ignored", "wishlist"), id="kind before all others"
        ),
        pytest.param({"event_type": None}, ("ignored", "none"), id="no kind"),
        pytest.param({"event_type": "NaN"}, ("ignored", "none"), id="NaN is not a kind"),
        pytest.param(
            {"event_time": "yesterday", "product_id": "x"}, ("rejected", "event_time"), id="time before product"
        ),
        pytest.param({"event_time": "2101-01-01 00:00:00 UTC"}, ("rejected", "event_time"), id="time after 2100"),
        pytest.param(
            {"event_time": "9999-12-31 23:59:59-05:00"}, ("rejected", "event_time"), id="time beyond any calendar"
        ),
        pytest.param({"product_id": "p-17", "price": "-1"}, ("rejected", "product_id"), id="product before price"),
        pytest.param({"product_id": None}, ("rejected", "product_id"), id="no product"),
        pytest.param({"category_code": "x" * 65}, ("rejected", "category_code"), id="long category"),
        pytest.param({"brand": "x" * 65, "price": "-1"}, ("rejected", "brand"), id="brand before price"),
        pytest.param({"price": "-0.01"}, ("rejected", "price"), id="negative price"),
        pytest.param({"price": "NaN"}, ("rejected", "price"), id="NaN is not a price"),
        pytest.param({"price": None}, ("rejected", "price"), id="no price"),
        pytest.param({"price": "9999999999.995"}, ("rejected", "price"), id="price beyond its column"),
    ],
)
def test_the_first_rule_that_a_purchase_breaks_decides_its_fate(cells, fate):
    result = ecommerce.fate_of(purchase(NOON, **cells))
    assert (result.name, result.reason if result.name == "rejected" else result.kind) == fate


@pytest.mark.parametrize("price", ["-1", "NaN", None, "99999999999"])
def test_a_price_matters_only_to_purchases(price):
    assert ecommerce.fate_of(view(NOON, price=price)).operation.price is None


def test_prices_are_rounded_to_the_cent():
    prices = [ecommerce.fate_of(view(NOON, price=text)).operation.price for text in ("1.005", "1.0049", "2", "1e1")]
    assert prices == [Decimal("1.01"), Decimal("1.00"), Decimal(2), Decimal(10)]


def test_the_hour_is_that_of_event_time_and_the_minute_that_of_create_time():
    back_dated = view(NOON, event_time="2026-02-28 23:59:59 UTC")
    assert list(ecommerce.visits([back_dated])) == [datetime(2026, 2, 28, 23)]
    assert list(ecommerce.minutes([back_dated])) == [HOUR]
    assert list(ecommerce.minutes([view(NOON + timedelta(minutes=3), create_time=None)])) == [
        HOUR + timedelta(minutes=3)
    ]


def test_each_row_of_a_minute_has_one_fate():
    rows = [view(NOON, 1), view(NOON, 2, event_type="wishlist"), purchase(NOON, 3, price="-1")]
    (minute,) = ecommerce.minutes(rows).values()
    assert (minute.raw_rows, minute.counted_rows) == (3, 1)
    assert minute.ignored_by_kind == Counter(wishlist=1) and minute.rejected_by_reason == Counter(price=1)
