"""What counts as a history: the demo sends its own history only if there is none."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from include.demo.past import has_past
from tests.warehouse.lab import RECRUITMENT, Lab

NOW = datetime(2026, 9, 15, 18, 7, 30)


@pytest.mark.parametrize(
    ("minute", "rows", "is_history"),
    [
        (datetime(2026, 9, 15, 17, 8), 60, False),  # from the live demo, in the last hour
        (datetime(2026, 9, 15, 17, 7), 60, True),  # more than an hour ago
        (datetime(2026, 9, 15, 17, 5), 60, False),  # a minute that the demo's own history has
        (datetime(2026, 9, 15, 17, 7), 0, False),  # read by a backfill, and empty
    ],
)
def test_events_of_more_than_an_hour_ago_are_a_history(lab: Lab, minute: datetime, rows: int, is_history: bool) -> None:
    lab.query(
        "INSERT INTO etl.minute_ledger (pipeline, minute, seen_changed_at, raw_rows, state) "
        "VALUES ('recruitment', %s, 'x', %s, 'merged'), ('ecommerce', %s, 'x', 60, 'merged')",
        minute,
        rows,
        NOW - timedelta(days=2, minutes=1),
    )
    assert has_past(lab.conn, RECRUITMENT, NOW) == is_history
