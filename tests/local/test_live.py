"""The live table: what a run's line says."""

import datetime as dt
import io

from rich.console import Console

from local import live

TICK = dt.datetime(2026, 1, 1, 10, 0)
MERGED = {
    "pipeline": "recruitment", "kind": "minute", "state": "merged", "tick": TICK, "opened_at": TICK,
    "merged_at": TICK + dt.timedelta(seconds=7.25), "minutes": 2, "raw_rows": 5312, "counted_rows": 5000,
    "ignored_rows": 300, "rejected_rows": 12,
}  # fmt: skip
OPEN = {**MERGED, "state": "open", "merged_at": None, "raw_rows": None}


def shown(batches, freshness):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(live.table(batches, freshness, "note"))
    return console.export_text()


def test_a_merged_run_tells_rows_and_seconds():
    text = shown([MERGED], [{"pipeline": "recruitment", "lag": 12.4, "pending": 1, "held": 0}])
    for part in ("10:00", "5,312", "5,000", "300", "12", "7.2", "newest event 12 s old, 1 minutes pending"):
        assert part in text


def test_an_open_run_has_no_seconds_yet():
    assert live.seconds_to_merged(OPEN) == "…"


def test_before_the_first_merge_it_says_so():
    assert "Nothing merged yet" in shown([], [])
