"""`make run` with the stores of the tests, in its own state folder: a real scheduler."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from local.ports import DEFAULTS
from tests.e2e.runs import PROJECT

TIMEOUT = 600.0  # seconds: a run takes ten on an idle machine, and two minutes on a very busy one
_AIRFLOW = "import json, sys; from datetime import datetime; from local.start import Stack; airflow = Stack().airflow; "


class Stack:
    """Airflow as `make run` starts it; `settings` are variables of its environment."""

    def __init__(self, state: str, **settings: str) -> None:
        from local.process import free_port

        self._environment = {
            **os.environ,
            **{name: str(free_port()) for name in DEFAULTS},
            "MINUTEMARK_STATE": state,
            "MINUTEMARK_INGEST": "",
            "MINUTEMARK_DEMO": "0",
            "TMPDIR": state,
            **settings,
        }

    def start(self) -> None:
        self._python("-m", "local", "run", "--detach")

    def stop(self) -> None:
        self._python("-m", "local", "stop")

    def backfill(self, dag_id: str, start: datetime, end: datetime) -> None:
        """Run each interval that begins between `start` and `end` (inclusive), as the form in Airflow's UI does."""
        code = "airflow.backfill(sys.argv[1], *map(datetime.fromisoformat, sys.argv[2:]))"
        self._python("-c", _AIRFLOW + code, dag_id, start.isoformat(), end.isoformat())

    def pause(self, dag_id: str) -> None:
        self._python("-c", _AIRFLOW + "airflow.pause(sys.argv[1])", dag_id)

    def unpause(self, dag_id: str) -> None:
        self._python("-c", _AIRFLOW + "airflow.unpause(sys.argv[1])", dag_id)

    def get(self, path: str) -> Any:
        """What Airflow's REST API answers."""
        return json.loads(self._python("-c", _AIRFLOW + "print(json.dumps(airflow.get(sys.argv[1])))", path))

    def _python(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=PROJECT, env=self._environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{arguments}:\n{done.stdout[-5_000:]}\n{done.stderr[-5_000:]}"
        return done.stdout


@contextlib.contextmanager
def started(**settings: str) -> Iterator[Stack]:
    """A stack with these settings, which is stopped at exit. `make run` waits for a first merge, so write rows beforehand."""
    with tempfile.TemporaryDirectory(prefix="mm-") as state, contextlib.ExitStack() as cleanup:
        stack = Stack(state, **settings)
        cleanup.callback(stack.stop)
        try:
            stack.start()
        except AssertionError:  # on a very busy machine, `make run` gives up; a second one continues from there
            stack.start()
        yield stack


def until(check: Callable[[], None]) -> None:
    """Return once `check` passes; after TIMEOUT seconds, raise its last AssertionError."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            check()
            return
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.5)
