"""The warehouse against the reference: every fact, every minute of the ledger, every rejected row."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime

from tests.e2e.runs import query
from tests.reference import recruitment as reference
from tests.reference.recruitment import Row

_SHOWN = 5  # differences of each kind
_NO_KIND = "none"  # the ledger's word for an event without any kind
_KEY = "job_id, dates, hours, publisher_id, campaign_id, group_id"
_METRICS = (
    "company_id", "disqualified_application", "qualified_application", "conversion", "clicks", "impressions",
    "bid_sum", "bid_count", "bid_set", "spend_hour", "sources", "latest_update_time",
)  # fmt: skip


def must_equal_reference(rows: Iterable[Row], jobs: Mapping[int, int | None], recover: bool = True) -> None:
    """Facts, ledger and rejected events are those of these rows, and there are no others."""
    rows = list(rows)
    expected = {
        key: {metric: getattr(fact, metric) for metric in _METRICS}
        for key, fact in reference.facts(rows, jobs, recover).items()
    }
    _must_agree("facts", _facts(), expected)
    minutes = reference.minutes(rows, recover)
    _must_agree("ledger", _ledger(), {minute: _as_ledger(line) for minute, line in minutes.items()})
    _must_agree(
        "rejected rows", _rejected(), {m: line.rejected_rows for m, line in minutes.items() if line.rejected_rows}
    )


def must_conserve_rows() -> None:
    """Every raw row of every minute has exactly one fate."""
    lost = query(
        "SELECT minute, raw_rows, counted_rows, ignored_rows, rejected_rows FROM etl.minute_ledger "
        "WHERE NOT (raw_rows <=> counted_rows + ignored_rows + rejected_rows) OR raw_rows IS NULL"
    )
    assert lost == [], f"{len(lost)} minutes do not add up: {lost[:_SHOWN]}"


def _must_agree(what: str, actual: dict, expected: dict) -> None:
    """Raise AssertionError with the keys whose values differ, and their actual and expected values."""
    keys = [key for key in actual.keys() | expected.keys() if actual.get(key) != expected.get(key)]
    lines = [f"{key}: found {actual.get(key)}, expected {expected.get(key)}" for key in keys[:_SHOWN]]
    assert not keys, "\n".join([f"{len(keys)} {what} differ:", *lines])


def _facts() -> dict[tuple, dict[str, object]]:
    rows = query(f"SELECT {_KEY}, {', '.join(_METRICS)} FROM recruitment.events")
    return {row[:6]: dict(zip(_METRICS, row[6:], strict=True)) for row in rows}


def _ledger() -> dict[datetime, tuple]:
    # A range that was read again leaves a line of zeros for each of its empty minutes.
    rows = query(
        "SELECT minute, raw_rows, counted_rows, ignored_rows, rejected_rows, ignored_by_kind FROM etl.minute_ledger "
        "WHERE pipeline = 'recruitment' AND COALESCE(raw_rows, 1) > 0"
    )
    return {minute: (*numbers, json.loads(kinds or "{}")) for minute, *numbers, kinds in rows}


def _as_ledger(line: reference.Minute) -> tuple:
    kinds = {kind or _NO_KIND: rows for kind, rows in line.ignored_by_kind.items()}
    return (line.raw_rows, line.counted_rows, line.ignored_rows, line.rejected_rows, kinds)


def _rejected() -> dict[datetime, int]:
    rows = query("SELECT minute FROM etl.rejected_events WHERE pipeline = 'recruitment' AND origin = 'lake'")
    return dict(Counter(minute for (minute,) in rows))
