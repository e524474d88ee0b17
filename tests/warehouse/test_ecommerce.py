"""Merge, gates and rules of verify for the e-commerce pipeline, on a real server: operations, and the sums for each hour."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from include.housekeeping import expired, folding
from include.verify import rules
from include.warehouse import merge
from include.warehouse.session import in_transaction, rows, warehouse
from include.warehouse.sql import files
from tests.warehouse.lab import CLOCK, DAY, Lab, minute
from tests.warehouse.shop import Shop, operation

AT_10_05, AT_11_05 = datetime(2026, 3, 1, 10, 5), datetime(2026, 3, 1, 11, 5)
PRICE = Decimal("489.07")
PHONE = ("smartphone", "nordlys")
TABLES = {
    "operations": "1, 2", "sales_by_minute": "1, 2, 3, 4, 5", "visits_by_minute": "1, 2", "sales_hourly": "1, 2, 3, 4",
    "visits_hourly": "1",
}  # each with the positions of its key columns  # fmt: skip


@pytest.fixture
def shop(lab: Lab) -> Shop:
    return Shop(lab.conn)


def published(shop: Shop) -> list:
    return [shop.query(f"SELECT * FROM ecommerce.{table} ORDER BY {key}") for table, key in TABLES.items()]


def broken_rules(shop: Shop) -> list[str]:
    """The names of the rules that verify reports as broken."""
    result = list(rules.broken_minutes(shop.conn, shop.pipeline, datetime(1970, 1, 1), datetime(2100, 1, 1)))
    result += list(rules.broken_facts(shop.conn, shop.pipeline, lambda: None))
    return sorted({rule.name for _, rule in result})


def test_operations_add_up_to_sales_and_visits_per_hour(shop: Shop) -> None:
    shop.publish(
        {
            minute(0): [operation("view"), operation("view"), operation("cart"), operation("purchase")],
            minute(1): [
                operation("remove_from_cart"),
                operation("purchase", price=Decimal("0.01")),
                operation("view", brand="pika", price=None),
                operation("view", event_time=AT_11_05),
            ],
        }
    )
    assert shop.sales() == {
        (10, *PHONE): (2, 1, 1, 2, PRICE + Decimal("0.01")),
        (10, "smartphone", "pika"): (1, 0, 0, 0, 0),
        (11, *PHONE): (1, 0, 0, 0, 0),
    }
    assert shop.visits() == {10: (3, 1, 1), 11: (1, 0, 0)}


def test_an_operation_has_its_hour_and_its_revenue(shop: Shop) -> None:
    last = datetime(2026, 3, 1, 10, 59, 59, 999_999)
    shop.publish(
        {minute(0): [operation("purchase", event_time=last), operation("cart"), operation("view", price=None)]}
    )
    result = shop.query(
        "SELECT event_type, event_time, hour, price, revenue FROM ecommerce.operations ORDER BY event_number"
    )
    hour = datetime(2026, 3, 1, 10)
    assert result == [
        ("purchase", last, hour, PRICE, PRICE),
        ("cart", operation()["event_time"], hour, PRICE, 0),
        ("view", operation()["event_time"], hour, None, 0),
    ]


def test_a_minute_read_again_replaces_its_operations_and_their_former_hours(shop: Shop) -> None:
    shop.publish(
        {minute(0): [operation(event_time=AT_10_05), operation(event_time=AT_11_05)], minute(1): [operation("cart")]}
    )
    shop.publish({minute(0): [operation("purchase", brand="pika"), operation("cart", brand="pika")]}, run_id="run-2")
    assert shop.sales() == {(10, *PHONE): (0, 1, 0, 0, 0), (10, "smartphone", "pika"): (0, 1, 0, 1, PRICE)}
    assert shop.visits() == {10: (0, 2, 0)}
    assert shop.one("SELECT COUNT(*) FROM ecommerce.operations") == 3


def test_an_empty_minute_clears_its_operations(shop: Shop) -> None:
    shop.publish({minute(0): [operation()]})
    shop.publish({minute(0): []}, run_id="run-2", allow_shrink=True)
    assert (shop.sales(), shop.visits()) == ({}, {})
    assert [shop.one(f"SELECT COUNT(*) FROM ecommerce.{table}") for table in TABLES] == [0] * 5


def test_merging_again_changes_nothing(shop: Shop) -> None:
    batch_id = shop.publish({minute(0): [operation(), operation("purchase")]})
    before = published(shop)
    assert merge.merge(batch_id).changed is False
    assert published(shop) == before


def test_hours_that_no_minute_of_the_batch_touches_stay_as_they_are(shop: Shop) -> None:
    shop.publish({minute(0): [operation(event_time=AT_10_05)]})
    shop.query("UPDATE ecommerce.sales_hourly SET views = 1000")  # a mark that only a recomputation removes
    shop.publish({minute(1): [operation(event_time=AT_11_05)]}, run_id="run-2")
    assert {key[0]: sums[0] for key, sums in shop.sales().items()} == {10: 1000, 11: 1}


def test_names_that_differ_in_case_or_accent_are_kept_apart(shop: Shop) -> None:
    names = ("nordlys", "Nordlys", "nördlys", "北", "\U0001f600")
    shop.publish({minute(0): [operation(brand=name) for name in names]})
    assert {brand for _, _, brand in shop.sales()} == set(names)


def test_random_batches_end_in_the_sums_of_what_was_read_last(shop: Shop) -> None:
    """To the cent, against sums computed in Python. Minutes come in any order, repeatedly, and with events of other hours."""
    rng = random.Random(7)
    last_read: dict[datetime, list[dict]] = {}

    def any_operation() -> dict:
        return operation(
            rng.choice(("view", "view", "cart", "remove_from_cart", "purchase")),
            event_time=AT_10_05 + timedelta(minutes=rng.randrange(-90, 90), microseconds=rng.randrange(10**6)),
            product=rng.choice(("smartphone", "headphone")),
            brand=rng.choice(("nordlys", "pika", "other")),
            price=Decimal(rng.randrange(10**6)) / 100,
        )

    for number in range(6):
        read = {minute(at): [any_operation() for _ in range(rng.randrange(25))] for at in rng.sample(range(-60, 60), 8)}
        shop.publish(read, run_id=f"run-{number}", allow_shrink=True)
        last_read |= read
    revenue: Counter = Counter()
    events: Counter = Counter()
    for row in (row for minute_rows in last_read.values() for row in minute_rows):
        hour = row["event_time"].replace(minute=0, second=0, microsecond=0)
        key = (hour, row["product"], row["brand"])
        events[hour, row["event_type"]] += 1
        revenue[key] += row["price"] if row["event_type"] == "purchase" else 0
    assert dict(shop.query("SELECT hour, visits FROM ecommerce.visits_hourly")) == {
        hour: events[hour, "view"] for hour, _, _ in revenue
    }
    result = shop.query("SELECT hour, product, brand, SUM(revenue) FROM ecommerce.sales_hourly GROUP BY 1, 2, 3")
    assert {row[:3]: row[3] for row in result} == dict(revenue)
    assert broken_rules(shop) == []


def test_merging_works_with_the_other_client_library(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mysql.connector")
    connection = json.loads(os.environ["AIRFLOW_CONN_WAREHOUSE_ETL"])
    connection["extra"] = {"client": "mysql-connector-python"}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_ETL", json.dumps(connection))
    at = datetime(2022, 7, 1, 12)
    with warehouse() as conn:
        other = Shop(conn)
        other.publish({at: [operation("purchase", event_time=at)]})
        assert other.sales() == {(12, *PHONE): (0, 0, 0, 1, PRICE)}


# In each case, minute 0 breaks exactly one rule, and minute 1 is good.
BROKEN = {
    "staging_conservation": {"rows": [operation()], "counts": {minute(0): {"raw_rows": 5}}},
    "staging_event_counts": {"rows": [operation()], "counts": {minute(0): {"raw_rows": 2, "counted_rows": 2}}},
    "staging_keys_present": {"rows": [operation(brand="")]},
    "staging_no_negative": {"rows": [operation(price=Decimal("-0.01"))]},
}
MORE_BROKEN = [
    ("staging_keys_present", operation("wishlist")),
    ("staging_keys_present", operation(department="")),
    ("staging_keys_present", operation(product=" ")),
    ("staging_no_negative", operation("purchase", price=None)),
]


@pytest.mark.parametrize(
    ("check", "case"),
    [*BROKEN.items(), *((check, {"rows": [row]}) for check, row in MORE_BROKEN)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_minute_that_breaks_a_rule_is_held_and_the_other_passes(shop: Shop, check: str, case: dict) -> None:
    read = {minute(0): case["rows"], minute(1): [operation("cart")]}
    shop.see(*read)
    batch_id = shop.open(*read)
    shop.stage(batch_id, read, counts=case.get("counts"))
    result = shop.check(batch_id)
    assert (result.passed, result.held) == (True, (minute(0),))
    assert [outcome.check for outcome in result.outcomes if outcome.outcome == "fail"] == [check]
    merge.merge(batch_id)
    assert shop.check(batch_id, "warehouse").passed
    assert shop.visits() == {10: (0, 1, 0)}


DAMAGES = [
    ("warehouse_sales_totals", "UPDATE ecommerce.sales_hourly SET revenue = revenue + 0.01"),
    ("warehouse_sales_totals", "UPDATE ecommerce.sales_hourly SET views = views + 1, carts = carts - 1"),
    ("warehouse_sales_totals", "UPDATE ecommerce.sales_hourly SET brand = 'pika'"),
    ("warehouse_sales_totals", "DELETE FROM ecommerce.sales_hourly"),
    ("warehouse_visits_totals", "UPDATE ecommerce.visits_hourly SET visits = visits + 1"),
    ("warehouse_visits_totals", "UPDATE ecommerce.visits_hourly SET removals = removals + 1"),
    ("warehouse_visits_totals", "DELETE FROM ecommerce.visits_hourly"),
    ("warehouse_operation_counts", "DELETE FROM ecommerce.operations WHERE event_type = 'view'"),
    ("warehouse_operation_counts", "DELETE FROM ecommerce.operations"),
    ("warehouse_sales_totals", "DELETE FROM ecommerce.sales_by_minute"),
    ("warehouse_sales_totals", "UPDATE ecommerce.sales_by_minute SET carts = carts + 1"),
    ("warehouse_visits_totals", "DELETE FROM ecommerce.visits_by_minute"),
    ("warehouse_ledger_complete", "DELETE FROM etl.minute_ledger"),
]


@pytest.mark.parametrize(("check", "damage"), DAMAGES)
def test_the_warehouse_gate_finds_tables_that_disagree(shop: Shop, check: str, damage: str) -> None:
    batch_id = shop.publish({minute(0): [operation(), operation("cart"), operation("purchase")]})
    shop.query(damage)
    result = shop.check(batch_id, "warehouse")
    assert not result.passed
    assert check in [outcome.check for outcome in result.outcomes if outcome.outcome == "fail"]


def test_a_newer_read_satisfies_the_check_of_an_older_one(shop: Shop) -> None:
    older = shop.publish({minute(0): [operation()]})
    shop.publish({minute(0): [operation("purchase"), operation(event_time=AT_11_05)]}, run_id="newer")
    assert shop.check(older, "warehouse").passed
    shop.publish({minute(0): []}, run_id="newest", allow_shrink=True)
    assert shop.check(older, "warehouse").passed


@pytest.fixture
def good(shop: Shop) -> Shop:
    """Two minutes whose events are in two hours."""
    shop.publish(
        {
            minute(0): [operation(), operation("purchase")],
            minute(1): [operation("cart"), operation(event_time=AT_11_05)],
        }
    )
    assert broken_rules(shop) == []
    return shop


@pytest.mark.parametrize(
    ("damage", "broken"),
    [
        ("UPDATE ecommerce.sales_hourly SET revenue = revenue - 0.01 WHERE HOUR(hour) = 10", ["facts_sales_hourly"]),
        ("UPDATE ecommerce.sales_hourly SET removals = 1", ["facts_sales_hourly"]),
        ("DELETE FROM ecommerce.sales_hourly WHERE HOUR(hour) = 11", ["facts_sales_hourly"]),
        (
            "INSERT INTO ecommerce.sales_hourly VALUES ('2026-03-02 10:00', 'a', 'b', 'c', 0, 0, 0, 0, 0)",
            ["facts_sales_hourly"],
        ),
        ("UPDATE ecommerce.visits_hourly SET cart_additions = 7 WHERE HOUR(hour) = 11", ["facts_visits_hourly"]),
        ("UPDATE ecommerce.visits_hourly SET removals = 1 WHERE HOUR(hour) = 11", ["facts_visits_hourly"]),
        ("DELETE FROM ecommerce.visits_hourly", ["facts_visits_hourly"]),
        ("UPDATE ecommerce.sales_by_minute SET carts = carts + 1 WHERE HOUR(hour) = 11", ["facts_sales_hourly"]),
        ("UPDATE ecommerce.sales_by_minute SET brand = 'pika' WHERE carts = 1", ["facts_sales_hourly"]),
        ("DELETE FROM ecommerce.visits_by_minute WHERE HOUR(hour) = 11", ["facts_visits_hourly", "minutes_visits_counts"]),
        ("DELETE FROM ecommerce.operations WHERE event_type = 'purchase'", ["minutes_operation_counts"]),
        (
            "DELETE FROM etl.minute_ledger",
            ["minutes_operation_counts", "minutes_sales_counts", "minutes_visits_counts"],
        ),
    ],
)  # fmt: skip
def test_verify_finds_the_damage(good: Shop, damage: str, broken: list[str]) -> None:
    good.query(damage)
    assert broken_rules(good) == broken


def test_verify_shows_a_wrong_fact_with_both_values_and_the_minutes_to_read_again(good: Shop) -> None:
    good.query("UPDATE ecommerce.sales_hourly SET carts = 5 WHERE HOUR(hour) = 10")
    [(finding, _)] = rules.broken_facts(good.conn, good.pipeline, lambda: None)
    assert (finding.minute, dict(finding.expected), dict(finding.found)) == (minute(0), {"carts": 1}, {"carts": 5})
    assert "brand=nordlys" in finding.where and "2026-03-01T10:02Z" in finding.remedy


def test_slices_cover_every_hour(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "SLICE_ROWS", 2)
    hours = [AT_10_05 + timedelta(hours=number) for number in range(12)]
    shop.publish({minute(0): [operation(event_time=hour, brand=brand) for hour in hours for brand in ("a", "b")]})
    shop.query("UPDATE ecommerce.sales_hourly SET views = 9 WHERE brand = 'a'")
    shop.query("UPDATE ecommerce.visits_hourly SET cart_additions = 9")
    slices = []
    result = [rule.name for _, rule in rules.broken_facts(shop.conn, shop.pipeline, lambda: slices.append(1))]
    assert Counter(result) == {"facts_sales_hourly": 12, "facts_visits_hourly": 12}
    assert len(slices) > 8


def test_folding_changes_contributions_but_neither_operations_nor_facts(shop: Shop) -> None:
    shop.publish({minute(0): [operation()], minute(1): [operation(), operation(event_time=AT_11_05)]})
    shop.query("UPDATE etl.minute_ledger SET merged_at = merged_at - INTERVAL 3 DAY")
    operations, _, _, *facts = published(shop)
    assert folding.fold(shop.conn, shop.pipeline, CLOCK + timedelta(days=100), timedelta(days=90)) == 1
    assert shop.query("SELECT minute, HOUR(hour), event_count, views FROM ecommerce.sales_by_minute ORDER BY 2") == [
        (minute(0), 10, 2, 2),
        (minute(0), 11, 1, 1),
    ]
    assert (published(shop)[0], published(shop)[3:]) == (operations, facts)
    assert broken_rules(shop) == []


def test_housekeeping_removes_only_the_touched_keys_of_old_batches(shop: Shop) -> None:
    old = shop.publish({minute(0): [operation()]})
    newer = shop.publish({minute(1): [operation()]}, run_id="run-2")
    shop.query("UPDATE etl.batches SET opened_at = opened_at - INTERVAL 2 DAY")
    assert expired.remove_of_pipeline(shop.conn, shop.pipeline) == 2  # a key of each fact
    assert shop.query("SELECT DISTINCT batch_id FROM ecommerce.sales_touched") == [(newer,)]
    assert old < newer
    assert broken_rules(shop) == []


def test_a_merge_uses_indexes_however_large_the_warehouse_is(shop: Shop) -> None:
    start = datetime(2026, 2, 27)
    past = [start + timedelta(minutes=20 * number) for number in range(140)]  # three an hour for almost two days
    shop.publish({time: [operation(event_time=time) for _ in range(5)] for time in past})
    at = datetime(DAY.year, DAY.month, DAY.day, 0, 7)
    batch_id = shop.open(at)
    attempt = shop.stage(batch_id, {at: [operation(event_time=at)]})
    binds = {"pipeline": "ecommerce", "batch_id": batch_id, "attempt": attempt, "oldest_kept_batch": 0}

    def explain(cursor) -> None:
        merges = files(shop.pipeline, "merge.sql")
        for statement in (statement for file in merges for statement in file.statements):
            steps = rows(cursor, f"EXPLAIN FORMAT=TRADITIONAL {statement}", binds)
            scans = [
                step for step in steps if step["type"] in ("ALL", "index") and not str(step["table"]).startswith("<")
            ]
            assert not [step for step in scans if int(step["rows"] or 0) > 50], f"{statement}\n{steps}"
            cursor.execute(statement, binds)

    in_transaction(shop.conn, explain)
