"""The server side of the warm driver's protocol: it receives jobs, runs them one after the other, and ends by itself.

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
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from include.spark.problems import EXECUTOR_LOST, FAILED, LAKE_FAILED, summary_of
from include.spark.warm_driver import OUTPUT, PID, REQUEST_SECONDS, SOCKET, STARTING

IDLE_SECONDS = 300  # five runs of a minute DAG
_FIRST_JOB_SECONDS = 60
_MIN_IDLE_SECONDS = 0.01  # a timeout of 0 would be an error at once
MAX_AGE_SECONDS = 6 * 3600  # a JVM accumulates memory and classes: it is replaced after this time
_ENDS = -1  # not a job's status: this driver runs no more jobs
# The driver ends after this many failures in a row; the kind of the newest one sets the limit. Until then it keeps running:
# while the lake fails, a new driver would fail as well, and lost executors are replaced.
_MAX_FAILURES = {EXECUTOR_LOST: 2, LAKE_FAILED: 3}
_WAITING_CLIENTS = 128
_SEND_SECONDS = 60  # for a line to a client that does not read, such as a suspended one
_PR_SET_PDEATHSIG = 1  # of Linux's prctl(2)
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def end_with_parent() -> None:
    """End this process when its parent dies, for any reason. Works on Linux only."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Listener:
    """The server side: receives jobs and returns their status."""

    def __init__(self, folder: Path, formatter: logging.Formatter) -> None:
        self._folder = folder
        self._formatter = formatter
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(folder / SOCKET))
        self._socket.listen(_WAITING_CLIENTS)

    def serve(
        self,
        run: Callable[[Path], int],
        after_job: Callable[[], None],
        log: logging.Logger,
        *,
        can_run: Callable[[], bool] = lambda: True,
        idle_seconds: float | None = None,
    ) -> None:
        """Run jobs as they arrive, one after the other; `after_job` cleans up after each, once its client has the answer.

        Before each job `can_run` is called. If it returns False, the driver ends, and the client starts another one.
        """
        try:
            self._serve(run, after_job, log, can_run, IDLE_SECONDS if idle_seconds is None else idle_seconds)
        finally:
            self._close()

    def _serve(
        self,
        run: Callable[[Path], int],
        after_job: Callable[[], None],
        log: logging.Logger,
        can_run: Callable[[], bool],
        idle_seconds: float,
    ) -> None:
        started, failures = time.monotonic(), 0
        self._socket.settimeout(max(idle_seconds, _FIRST_JOB_SECONDS))  # its client may not have connected yet
        while time.monotonic() - started < MAX_AGE_SECONDS:
            try:
                client, _ = self._socket.accept()
            except TimeoutError:
                break
            with client:
                status = self._answer(client, run, log, can_run)
            if status is None:
                continue
            failures = failures + 1 if status else 0
            if status and failures >= _MAX_FAILURES.get(status, 1):
                break  # the JVM may be in a bad state: it ends
            after_job()
            self._socket.settimeout(max(idle_seconds, _MIN_IDLE_SECONDS))

    def _close(self) -> None:
        """Remove the socket, so that new clients start another driver. A client that holds the lock notices the end itself."""
        with contextlib.suppress(OSError), (self._folder / STARTING).open("w") as lock:
            self._socket.close()
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for name in (SOCKET, PID, OUTPUT):
                (self._folder / name).unlink(missing_ok=True)

    def _answer(
        self, client: socket.socket, run: Callable[[Path], int], log: logging.Logger, can_run: Callable[[], bool]
    ) -> int | None:
        """Run the client's job; returns its status, _ENDS if this driver is to end, None if there was no job."""
        client_log = _ClientLogHandler(client, self._formatter)
        try:
            client.settimeout(REQUEST_SECONDS)
            with client.makefile("r", encoding="utf-8") as requests:
                text = requests.readline()
            client.settimeout(None)
            # Only sending has a timeout from here on: the client sends nothing more until it disconnects.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SEND_SECONDS, 0))
            if not text:
                return None  # a client only checked whether the driver runs
            request = json.loads(text)
            if "job" not in request or not can_run():
                return _ENDS
            client_log.send({"taken": True})
        except OSError:
            return None  # the client disconnected before its job started
        is_over = threading.Event()
        threading.Thread(target=_exit_when_client_leaves, args=(client, is_over), daemon=True).start()
        log.addHandler(client_log)
        try:
            status = run(Path(request["job"]))
        except Exception as error:  # such as a job file that cannot be read
            log.exception("the job%s%s", FAILED, summary_of(error))
            status = 1
        finally:
            is_over.set()
            log.removeHandler(client_log)
        with contextlib.suppress(OSError):
            client_log.send({"exit": status})
        return status


class _ClientLogHandler(logging.Handler):
    """Sends log lines to the client of the job."""

    def __init__(self, client: socket.socket, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._socket = client

    def emit(self, record: logging.LogRecord) -> None:
        try:
            for text in self.format(record).splitlines():
                self.send({"log": text})
        except OSError:  # a client that does not read counts as disconnected, too
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def send(self, answer: dict) -> None:
        self._socket.sendall((json.dumps(answer) + "\n").encode())


def _exit_when_client_leaves(client: socket.socket, is_over: threading.Event) -> None:
    """End this process when the running job's task has ended: its next attempt needs the cores."""
    with contextlib.suppress(OSError):
        client.recv(1)  # the client sends nothing more: recv returns when it disconnects
    if not is_over.is_set():
        os._exit(3)
