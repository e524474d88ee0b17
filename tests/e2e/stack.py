"""`make run` with the stores of the tests, in its own state folder: a real scheduler."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path

from local.airflow_api import Airflow
from local.ports import DEFAULTS
from local.problems import Problem
from local.process import free_port
from tests.e2e.runs import PROJECT

TIMEOUT = 600.0  # seconds: a run takes ten on an idle machine, and two minutes on a very busy one


class Stack:
    """Airflow as `make run` starts it; `settings` are variables of its environment."""

    def __init__(self, state: str, **settings: str) -> None:
        ports = {name: free_port() for name in DEFAULTS}
        self.airflow = Airflow(ports["AIRFLOW_PORT"], Path(state) / "airflow" / "passwords.json")
        self._environment = {
            **os.environ,
            **{name: str(port) for name, port in ports.items()},
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

    def _python(self, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=PROJECT, env=self._environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{arguments}:\n{done.stdout[-5_000:]}\n{done.stderr[-5_000:]}"


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
    """Return once `check` passes; raise its error after TIMEOUT seconds, or at once if Airflow refuses a request."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            check()
            return
        except (AssertionError, OSError, Problem) as error:  # a busy API server may not answer in time
            refused = isinstance(error, urllib.error.HTTPError) and error.code < 500
            if refused or time.monotonic() > deadline:
                raise
        time.sleep(0.5)
