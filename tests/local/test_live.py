"""The live table: the line of a run, and that of a pipeline's freshness."""

import datetime as dt
import io
import os
import shlex
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from local import live
from local.layout import ROOT

TICK = dt.datetime(2026, 1, 1, 10, 0)
MERGED = {
    "pipeline": "recruitment", "kind": "minute", "state": "merged", "tick": TICK, "opened_at": TICK,
    "merged_at": TICK + dt.timedelta(seconds=7.25), "minutes": 2, "raw_rows": 5312, "counted_rows": 5000,
    "ignored_rows": 300, "rejected_rows": 12,
}  # fmt: skip
FRESH = {"pipeline": "recruitment", "lag": 12.4, "lag_p95": 71.2, "pending": 1, "held": 0, "state": "fresh"}
OPEN = {**MERGED, "state": "open", "merged_at": None, "raw_rows": None}


def render(batches, freshness):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(live.table(batches, freshness, "note"))
    return console.export_text()


def test_a_merged_run_reports_rows_and_seconds():
    text = render([MERGED], [FRESH])
    for part in ("10:00", "5,312", "5,000", "300", "12", "7.2", "lag 12 s (p95 71 s), 1 pending, 0 held, fresh"):
        assert part in text


def test_freshness_fits_a_line_of_80_columns_at_its_worst():
    bad = FRESH | {"lag": 80_000.0, "lag_p95": 86_399.0, "pending": 99_999, "held": 9_999, "state": "silent"}
    lines = render([MERGED], [bad]).splitlines()
    assert lines[-1] == "recruitment: lag 22:13:20 (p95 23:59:59), 99,999 pending, 9,999 held, silent"
    assert max(map(len, lines)) <= 80


def test_without_history_no_p95_is_shown():
    text = render([], [FRESH | {"lag_p95": None, "lag": 200_000.0}])
    assert "recruitment: lag 2 d, 1 pending" in text


def test_an_open_run_has_no_seconds_yet():
    assert live.seconds_to_merged(OPEN) == "…"


def test_before_the_first_merge_the_table_says_that_nothing_is_merged():
    assert "Nothing merged yet" in render([], [])


def show_table(state: Path) -> None:
    """Show the table in a process, for a stack that does not run; return when the process ends."""
    program = "from local import live; live.show_table('note', interval=0.1)"
    env = os.environ | {"MINUTEMARK_STATE": str(state)}
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=env, check=True, timeout=60)


def test_the_table_ends_with_the_stack(tmp_path):
    """Otherwise `make run` would stay in its terminal after `make stop` in another terminal."""
    show_table(tmp_path)


def test_the_table_ends_with_the_stack_even_if_an_external_warehouse_still_answers(
    tmp_path, warehouse_server, warehouse_schema
):
    lines = (f"{name}={shlex.quote(value)}\n" for name, value in warehouse_server.items())
    (tmp_path / "env").write_text("".join(lines))
    show_table(tmp_path)


def test_a_run_without_a_tick_counts_from_the_opening_of_its_batch():
    opened = {**MERGED, "tick": None, "opened_at": TICK + dt.timedelta(seconds=3)}
    assert live.seconds_to_merged(opened) == "4.2"
