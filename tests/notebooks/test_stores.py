"""Which minutes a notebook reads, and the errors for an invalid range."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("pyspark")

from include.window import WindowRefused  # noqa: E402
from notebooks import stores  # noqa: E402


def test_the_last_minute_named_is_not_included():
    assert stores.minutes("2026-03-01T12:00", "2026-03-01T12:02:30Z") == [
        datetime(2026, 3, 1, 12, 0),
        datetime(2026, 3, 1, 12, 1),
    ]


def test_without_a_range_the_minutes_are_those_of_the_hour_before_now():
    result = stores.minutes(None, None)
    assert len(result) == 60
    assert timedelta(0) < datetime.now(UTC).replace(tzinfo=None) - result[-1] < timedelta(minutes=3)


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [
        ("2026-03-01T12:00", None, "`to` is empty"),
        ("2026-03-01T12:00", "2026-03-01T12:00", "must be before"),
        ("noon", "2026-03-01T12:00", "is not a date and time"),
        ("2026-03-01", "2026-03-02T00:01", "1441 minutes: choose 1440 at most"),
    ],
)
def test_an_invalid_range_is_refused_with_a_hint(first, last, message):
    with pytest.raises(WindowRefused, match=message):
        stores.minutes(first, last)
