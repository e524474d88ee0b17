"""The options of the lakehouse's measurement."""

from __future__ import annotations

import subprocess
import sys

import pytest

from local.layout import ROOT


@pytest.mark.parametrize("events", ["0", "549999"])
def test_too_few_events_are_refused_before_anything_starts(events: str) -> None:
    for name in ("pyiceberg", "duckdb"):
        pytest.importorskip(name)
    command = [sys.executable, "-m", "bench.lakehouse", "--events", events]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert "--events must be at least 550,000" in done.stderr
