"""The driver's side of a warm driver: it receives jobs, runs them one after the other, and ends in time.

include/spark/warm_driver.py is the client, and describes the protocol.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from include.spark.problems import EXECUTOR_LOST, FAILED, summary_of
from include.spark.warm_driver import OUTPUT, PID, SOCKET, STARTING

IDLE_SECONDS = 300  # five runs of a minute DAG
OLDEST_SECONDS = 6 * 3600  # what a JVM gathers in its life is let go of some time
_ENDS = -1  # no status of a job: this driver runs no further one
_PR_SET_PDEATHSIG = 1  # of Linux's prctl(2)
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def end_with_parent() -> None:
    """Have this process ended when the one that started it dies, however it dies. Only Linux can."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Listener:
    """The driver's side: receives jobs and returns their status."""

    def __init__(self, folder: Path, form: logging.Formatter) -> None:
        self._folder = folder
        self._form = form
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(folder / SOCKET))
        self._socket.listen(16)

    def serve(
        self,
        run: Callable[[Path], int],
        after_job: Callable[[], None],
        log: logging.Logger,
        *,
        can_run: Callable[[], bool] = lambda: True,
        idle_seconds: float | None = None,
    ) -> None:
        """Do the jobs that come, one after the other; `after_job` tidies up after each, when its client has the answer.

        Before each job `can_run` is called. If it returns False, the driver ends, and the client starts another one.
        """
        started = time.monotonic()
        self._socket.settimeout(IDLE_SECONDS if idle_seconds is None else idle_seconds)
        while time.monotonic() - started < OLDEST_SECONDS:
            try:
                line, _ = self._socket.accept()
            except TimeoutError:
                break
            with line:
                status = self._answer(line, run, log, can_run)
            if status not in (0, EXECUTOR_LOST):
                break  # whatever went wrong in this JVM is over with it
            after_job()
        self._leave()

    def _leave(self) -> None:
        """A new caller finds no driver; one that is calling already holds the lock, and will notice."""
        with contextlib.suppress(OSError), (self._folder / STARTING).open("w") as lock:
            self._socket.close()
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for name in (SOCKET, PID, OUTPUT):
                (self._folder / name).unlink(missing_ok=True)

    def _answer(
        self, line: socket.socket, run: Callable[[Path], int], log: logging.Logger, can_run: Callable[[], bool]
    ) -> int:
        client_log = _ClientLogHandler(line, self._form)
        try:
            with line.makefile("r", encoding="utf-8") as requests:
                text = requests.readline()
            if not text:
                return 0  # a client only checked that the driver runs
            request = json.loads(text)
            if "job" not in request or not can_run():
                return _ENDS
            client_log.send({"taken": True})
        except OSError:
            return 0  # the client left before its job began
        over = threading.Event()
        threading.Thread(target=_exit_when_client_leaves, args=(line, over), daemon=True).start()
        log.addHandler(client_log)
        try:
            status = run(Path(request["job"]))
        except Exception as error:  # such as a job file that cannot be read
            log.exception("the job%s%s", FAILED, summary_of(error))
            status = 1
        finally:
            over.set()
            log.removeHandler(client_log)
        with contextlib.suppress(OSError):
            client_log.send({"exit": status})
        return status


class _ClientLogHandler(logging.Handler):
    """Log lines go to the client of the job."""

    def __init__(self, line: socket.socket, form: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(form)
        self._socket = line

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            for text in self.format(record).splitlines():
                self.send({"log": text})

    def send(self, answer: dict) -> None:
        self._socket.sendall((json.dumps(answer) + "\n").encode())


def _exit_when_client_leaves(line: socket.socket, over: threading.Event) -> None:
    """End this process when the running job's task is gone: its next attempt needs the cores."""
    with contextlib.suppress(OSError):
        line.recv(1)  # nothing is ever sent: it returns when the other side hangs up
    if not over.is_set():
        os._exit(3)
