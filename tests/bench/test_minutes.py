"""The figures of bench/minutes.py on hand-written runs."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta

from bench import minutes
from bench.minutes import figures, percentile
from local.process import free_port

TICK = datetime(2026, 3, 1, 12, 0)


def batch(run_id, seconds, rows=100):
    merged_at = None if seconds is None else TICK + timedelta(seconds=seconds)
    return {"run_id": run_id, "tick": TICK, "merged_at": merged_at, "raw_rows": rows, "minutes": 2, "opened_at": TICK}


def run(run_id, state="success"):
    return {"dag_run_id": run_id, "state": state}


def test_figures_cover_merged_batches_and_failed_runs_are_counted():
    result = figures(
        [run("a"), run("b"), run("c"), run("d", "failed"), run("e")],  # e had nothing to do
        [batch("a", 8), batch("b", 10, rows=300), batch("c", 6), batch("d", None), batch("other", 99)],
    )
    assert (result.runs, result.failed_runs, result.runs_without_batch, result.merged_runs) == (5, 1, 1, 3)
    assert (result.median_seconds, result.p95_seconds, result.median_rows, result.most_rows) == (8, 10, 100, 300)


def test_without_any_run_there_are_no_figures():
    assert figures([], []).median_seconds is None


def test_percentile_is_the_nearest_rank():
    assert [percentile(list(range(1, size + 1)), 0.95) for size in (1, 19, 20, 21, 30)] == [1, 19, 19, 20, 29]


def test_a_stack_that_does_not_run_is_reported_with_the_command_that_starts_it(monkeypatch, capsys):
    monkeypatch.setenv("AIRFLOW_PORT", str(free_port()))
    monkeypatch.setattr(sys, "argv", ["minutes"])
    assert minutes.main() == 2
    assert "refused>\n  What to do: Start it: make run" in capsys.readouterr().err
