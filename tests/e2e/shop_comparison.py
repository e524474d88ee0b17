"""The warehouse of the shop against the reference: operations, hours, the ledger and rejected rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from tests.e2e.runs import query
from tests.reference import ecommerce as reference


def must_equal_reference(rows: Iterable) -> None:
    """The warehouse has exactly the operations, hours, ledger rows and rejected rows that result from these rows."""
    rows = list(rows)
    columns = "minute, event_time, event_type, department, product, brand, price, revenue"
    assert Counter(query(f"SELECT {columns} FROM ecommerce.operations")) == reference.operations(rows)
    sales = query(
        "SELECT hour, department, product, brand, views, carts, removals, purchases, revenue FROM ecommerce.sales_hourly"
    )
    assert {row[:4]: reference.Sales(*row[4:]) for row in sales} == reference.sales(rows)
    assert visits() == reference.visits(rows)
    ledger = query(
        "SELECT minute, raw_rows, counted_rows, ignored_rows, rejected_rows, ignored_by_kind FROM etl.minute_ledger "
        "WHERE pipeline = 'ecommerce'"
    )
    minutes = reference.minutes(rows)
    assert {minute: (*numbers, json.loads(kinds or "{}")) for minute, *numbers, kinds in ledger} == {
        minute: (
            expected.raw_rows, expected.counted_rows, expected.ignored_by_kind.total(), expected.rejected_by_reason.total(),
            dict(expected.ignored_by_kind),
        )
        for minute, expected in minutes.items()
    }  # fmt: skip
    rejected = query("SELECT minute, reason FROM etl.rejected_events WHERE pipeline = 'ecommerce' AND origin = 'lake'")
    assert Counter((minute, reason.split()[0]) for minute, reason in rejected) == Counter(
        {
            (minute, reason): times
            for minute, expected in minutes.items()
            for reason, times in expected.rejected_by_reason.items()
        }
    )


def visits() -> dict[datetime, tuple]:
    records = query("SELECT hour, visits, cart_additions, removals FROM ecommerce.visits_hourly")
    return {hour: tuple(numbers) for hour, *numbers in records}
