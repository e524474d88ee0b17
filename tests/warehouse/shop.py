"""Hand-written batches of shop events on a real server, as tests/warehouse/lab.py makes them for recruitment."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from include import pipelines
from tests.warehouse.lab import Lab

SALES = "views, carts, removals, purchases, revenue"


def operation(kind: str = "view", **values) -> dict:
    """A staged event of a smartphone for 489.07 at ten; `values` replace columns."""
    row = {
        "event_time": datetime(2026, 3, 1, 10, 0, 7), "event_type": kind, "department": "electronics",
        "product": "smartphone", "brand": "nordlys", "price": Decimal("489.07"),
    }  # fmt: skip
    return row | values


class Shop(Lab):
    """The Lab of the second pipeline."""

    pipeline = pipelines.get("ecommerce")

    def staging_row(self, at: datetime, number: int, row: dict) -> dict:
        return {"event_number": number, **row}

    def sales(self) -> dict:
        """Sales by hour of the day, product and brand."""
        result = self.query(f"SELECT HOUR(hour), product, brand, {SALES} FROM ecommerce.sales_hourly")
        return {row[:3]: row[3:] for row in result}

    def visits(self) -> dict:
        return {
            row[0]: row[1:]
            for row in self.query("SELECT HOUR(hour), visits, cart_additions, removals FROM ecommerce.visits_hourly")
        }
