"""The events that the previous version wrote, by what it had done with them when it was stopped.

Both versions import this module: the previous version writes the events (history.py), and the current one compares its own
facts with the reference for the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from tests.reference.rows import click, page_view
from tests.reference.shop import event, purchase, view

Row = dict[str, str | None]

EIGHT = datetime(2026, 3, 1, 8, 0, 5)  # early enough that its contributions are folded
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
TEN, HELD, STAGED, OPENED, POLLED, TOUCHED = (EIGHT + hours * HOUR for hours in range(2, 8))

# One minute for each pipeline. It is held, because its last row is removed from the lake before the minute is read again.
HELD_ROWS: Mapping[str, list[Row]] = {
    "recruitment": [click(HELD, 1), click(HELD, 2), click(HELD, 3, bid="2.5")],
    "ecommerce": [view(HELD, 31), view(HELD, 32), purchase(HELD, 33)],
}
# Read in one batch with the held minute: the gate fails if no minute of the batch is left to publish.
READ_WITH_HELD: Mapping[str, list[Row]] = {
    "recruitment": [click(HELD + 30 * MINUTE, 1)],
    "ecommerce": [view(HELD + 30 * MINUTE, 41)],
}
PUBLISHED: Mapping[str, list[Row]] = {
    "recruitment": [
        click(EIGHT, 1),
        click(EIGHT + MINUTE, 2),  # folded into one hour with the minute before
        *(click(TEN, node) for node in range(3, 9)),
        page_view(TEN, 10),
        click(TEN, 11, ts=str(EIGHT)),  # back-dated
        click(TEN, 12, custom_track="alive"),  # ignored
        click(TEN, 13, bid="-1"),  # rejected
    ],
    "ecommerce": [
        view(EIGHT, 1),
        purchase(EIGHT + MINUTE, 2, price="0.10"),
        *(view(TEN, number) for number in range(3, 9)),
        event("cart", TEN, 10),
        event("remove_from_cart", TEN, 11, brand=None),
        purchase(TEN, 12, event_time=f"{EIGHT} UTC"),
        event("wishlist", TEN, 13),
        purchase(TEN, 14, price="-1"),
    ],
}
# In this order: transformed but not merged; in a batch without a transform; found by a poll; only written.
IN_FLIGHT: Mapping[datetime, Mapping[str, list[Row]]] = {
    at: {
        "recruitment": [click(at, 1), click(at, 2, bid="0.25"), click(at, 3, ts=str(TEN))],
        "ecommerce": [view(at, at.hour * 10), purchase(at, at.hour * 10 + 1, event_time=f"{TEN} UTC")],
    }
    for at in (STAGED, OPENED, POLLED, TOUCHED)
}

# Sent after the upgrade, into the folded hour.
LATE: Mapping[str, list[Row]] = {
    "recruitment": [click(EIGHT + 2 * MINUTE, 99, bid="7")],
    "ecommerce": [purchase(EIGHT + 2 * MINUTE, 99, price="7.77")],
}


def minute_of(time: datetime) -> datetime:
    """The start of the minute that contains the time."""
    return time.replace(second=0)


def all_rows(pipeline: str) -> list[Row]:
    """Every event that the previous version wrote."""
    return [
        *PUBLISHED[pipeline],
        *HELD_ROWS[pipeline],
        *READ_WITH_HELD[pipeline],
        *(row for rows in IN_FLIGHT.values() for row in rows[pipeline]),
    ]
