"""Hand-written shop events for tests: a complete valid row, whose cells a test can replace."""

from __future__ import annotations

from datetime import datetime

from tests.reference.rows import event_id


def event(kind: str, when: datetime, number: int = 1, **cells: str | None) -> dict[str, str | None]:
    """An event of a smartphone for 489.07 at that naive UTC time; `cells` replace its cells, None empties one."""
    row = {
        "create_time": str(event_id(when, number)),
        "id": f"event-{number}",
        "event_time": f"{when:%Y-%m-%d %H:%M:%S} UTC",
        "event_type": kind,
        "product_id": "1003461",
        "category_id": "2053013555631882655",
        "category_code": "electronics.smartphone",
        "brand": "nordlys",
        "price": "489.07",
        "user_id": "520088904",
        "user_session": "4d3b30da-a5e4-49df-b1a8-ba5943f1dd33",
    }
    return {**row, **cells}


def view(when: datetime, number: int = 1, **cells: str | None) -> dict[str, str | None]:
    """A view of that smartphone."""
    return event("view", when, number, **cells)


def purchase(when: datetime, number: int = 1, **cells: str | None) -> dict[str, str | None]:
    """A purchase of that smartphone."""
    return event("purchase", when, number, **cells)
