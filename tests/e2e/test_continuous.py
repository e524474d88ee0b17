"""Continuous runs on a real scheduler: one after the other, with a backfill beside them, and exact."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest

from tests.e2e.comparison import must_conserve, must_equal_reference
from tests.e2e.runs import PROJECT, change, count, query, write
from tests.faults.isolation import PORTS
from tests.reference.rows import click

pytestmark = pytest.mark.usefixtures("schemas")

NOON = datetime(2026, 3, 1, 12, 0, 5)
MINUTE = timedelta(minutes=1)
WITHIN = 300.0  # seconds
FIRST = [click(NOON + number * MINUTE, number) for number in range(3)]
LATE = [click(NOON + timedelta(seconds=20), 20, bid="4")]
BESIDE = [click(NOON + timedelta(hours=3), 30)]
OWN_BATCHES = "etl.batches WHERE dag_id = 'recruitment_minute' AND state = 'merged' AND kind = "


class Stack:
    """`make run` with the stores of the tests, in a state folder of its own."""

    def __init__(self, state: str) -> None:
        from local.process import free_port

        self._environment = {
            **os.environ,
            **{name: str(free_port()) for name in PORTS},
            "MINUTEMARK_STATE": state,
            "MINUTEMARK_SCHEDULE": "continuous",
            "MINUTEMARK_INGEST": "",
            "MINUTEMARK_DEMO": "0",
            "TMPDIR": state,
        }

    def start(self) -> None:
        self._python("-m", "local", "run", "--detach")

    def stop(self) -> None:
        self._python("-m", "local", "stop")

    def backfill(self, start: datetime, end: datetime) -> None:
        """A run of each minute from `start` to `end`, the last included, as the form in Airflow's UI makes them."""
        self._python(
            "-c",
            "import sys; from datetime import datetime; from local.start import Stack; "
            "Stack().airflow.backfill('recruitment_minute', *map(datetime.fromisoformat, sys.argv[1:]))",
            start.isoformat(),
            end.isoformat(),
        )

    def _python(self, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=PROJECT, env=self._environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{arguments}:\n{done.stdout[-5_000:]}\n{done.stderr[-5_000:]}"


@pytest.fixture(scope="module")
def stack(schemas) -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="mm-") as state, contextlib.ExitStack() as stopped:
        stack = Stack(state)
        stopped.callback(stack.stop)
        write(FIRST)  # `make run` waits for the first merge
        stack.start()
        yield stack


def until(check: Callable[[], None]) -> None:
    """Return when `check` raises no AssertionError any more; its last one after WITHIN seconds."""
    deadline = time.monotonic() + WITHIN
    while True:
        try:
            check()
            return
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.5)


def test_runs_follow_one_another(stack):
    until(lambda: must_equal_reference(FIRST, {}))
    write(LATE)
    until(lambda: must_equal_reference(FIRST + LATE, {}))
    runs = query(f"SELECT run_id, opened_at, merged_at FROM {OWN_BATCHES} 'minute' ORDER BY batch_id")
    assert len({run_id for run_id, *_ in runs}) == len(runs) >= 2
    assert all(run_id.startswith("scheduled__") for run_id, *_ in runs)
    assert all(opened >= merged for (*_, merged), (_, opened, _) in zip(runs, runs[1:], strict=False))


def test_a_backfill_beside_them_reads_each_of_its_minutes(stack):
    change("DELETE FROM recruitment.events")
    before = count(f"{OWN_BATCHES} 'minute'")
    stack.backfill(NOON.replace(second=0), NOON.replace(second=0) + 2 * MINUTE)
    write(BESIDE)

    def both_are_done() -> None:
        assert count(f"{OWN_BATCHES} 'backfill'") == len(FIRST)
        assert count(f"{OWN_BATCHES} 'minute'") > before
        must_equal_reference(FIRST + LATE + BESIDE, {})

    until(both_are_done)
    minutes = query(
        "SELECT m.minute FROM etl.batch_minutes AS m JOIN etl.batches AS b ON b.batch_id = m.batch_id "
        "WHERE b.kind = 'backfill' ORDER BY m.minute"
    )
    assert [minute for (minute,) in minutes] == [NOON.replace(second=0) + number * MINUTE for number in range(3)]
    must_conserve()
