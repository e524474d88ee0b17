"""`make status`: a pipeline's freshness, and the open alerts of the watch."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys

import psutil

from local import status

FRESHNESS = {
    "pipeline": "recruitment", "state": "stale", "lag": 412.34, "lag_median": 35.0, "lag_p95": 301.25, "lag_worst": 412.34,
    "delay": 230.02, "look_age": 12.0, "pending": 3, "held": 1,
    "new_fields": ["jobId", " x\n"],
}  # fmt: skip
ALERT = {
    "pipeline": "recruitment", "problem": "stale", "began_at": dt.datetime(2026, 3, 1, 12, 0, 5, 1), "told_at": None,
    "found": "A change waits.", "remedy": "Open the run.",
}  # fmt: skip
STACK = {"running": True, "processes": [], "memory_mb": 0, "ports": {}}


def test_json_has_every_figure_in_seconds():
    assert status._pipeline(FRESHNESS) == {
        "state": "stale",
        "newest_event_seconds": 412.3,
        "lag_median_seconds": 35.0,
        "lag_p95_seconds": 301.2,
        "lag_worst_seconds": 412.3,
        "delay_seconds": 230.0,
        "looked_seconds_ago": 12.0,
        "pending_minutes": 3,
        "held_minutes": 1,
        "new_fields": ["jobId", " x\n"],
    }
    assert json.loads(json.dumps(status._alert(ALERT)))["since"] == "2026-03-01T12:00:05Z"


def test_the_text_has_state_lag_and_what_to_do(capsys):
    result = {"pipelines": {"recruitment": status._pipeline(FRESHNESS)}, "alerts": [status._alert(ALERT)]}
    status._print(STACK | result)
    text = capsys.readouterr().out
    assert "recruitment is stale: newest event 412.3 s old, minutes pending: 3, held: 1" in text
    assert "over the last hour: median 35.0 s, p95 301.2 s, worst 412.3 s" in text
    assert "undeclared fields, first sent within the last day: jobId, ' x\\n'\n" in text
    assert "ALERT recruitment: stale since 2026-03-01T12:00:05Z. A change waits.\n  What to do: Open the run." in text


def test_before_the_first_merge_no_figure_is_made_up(capsys):
    nothing = dict.fromkeys(("lag", "lag_median", "lag_p95", "lag_worst", "look_age"))
    result = {"pipelines": {"recruitment": status._pipeline(FRESHNESS | nothing | {"state": "new"})}, "alerts": []}
    status._print(STACK | result)
    text = capsys.readouterr().out
    assert "recruitment is new: nothing merged yet" in text
    assert "last hour" not in text


def test_the_memory_of_a_warm_driver_is_counted_once():
    """A task that has started a driver is its parent while it runs."""
    holds_memory = "block = bytearray(b'x') * 100_000_000; print('ready', flush=True); input()"
    command = [sys.executable, "-c", holds_memory]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as driver:
        assert driver.stdout.readline() == b"ready\n"
        together = status._memory_mb(os.getpid())
        apart = status._memory_mb(os.getpid(), [psutil.Process(driver.pid)])
        alone = status._memory_mb(driver.pid)
        driver.communicate(b"\n")
    assert alone > 90
    assert together - apart > 90
