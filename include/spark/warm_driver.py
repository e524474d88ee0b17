"""A Spark driver that keeps running when its job is done, so that the next minute's job finds it warm.

A driver that starts for each job spends most of a run's time on starting: it loads classes, and interprets code that it
has not compiled yet. A warm driver listens on a Unix socket in a folder that only its user can enter, runs one job after
the other, and ends by itself: when it is idle, when it is old, after failed jobs, when its application is lost, or when
the running job's task has ended. Requests and answers are lines of JSON:

    → {"job": "/path/of/job.json"}    ← {"taken": true}   ← {"log": "a line for the task's log"} …   ← {"exit": 0}
    → {"end": true}    (no answer: it ends, after its running job if it has one)

Its folder is named for everything that it was started with, including the project's code. After a change, a job
finds no driver in the new folder, and starts one. It first ends the driver with the previous settings: on a cluster
that driver would hold the cores that the new one waits for. This is the client; include/spark/listener.py is the
driver's side.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

_START_SECONDS = 120  # until it listens; its session starts afterwards
REQUEST_SECONDS = 10  # for a connection and a request, which depend only on the other side
SOCKET, OUTPUT, PID, STARTING = "socket", "output", "pid", "starting"  # files in its folder
_LONGEST_PATH = 100  # bytes; the kernel accepts 107 for a Unix socket
_SHOWN_OUTPUT = 4_000  # characters of the JVM's output


class DriverEnded(RuntimeError):
    """The driver could not start, or ended before it reported the job's status. The message has the reason or its last output."""


def folder_of(key: str) -> Path:
    """The folder of the driver with that key; private to this user."""
    return _home() / key


def _home() -> Path:
    return Path(tempfile.gettempdir()) / f"minutemark-{os.getuid()}"


class WarmDriver:
    """The driver of a key, started by `command` if none runs. One job at a time; a context manager."""

    def __init__(self, key: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._folder = folder_of(key)
        self._command = list(command)
        self._environment = {**environment, "SPARK_LOCAL_DIRS": str(self._folder)}
        self._started: subprocess.Popen | None = None
        self._socket: socket.socket | None = None

    def __enter__(self) -> WarmDriver:
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()

    def run(self, job: Path, log_line: Callable[[str], None]) -> int:
        """Run the job; `log_line` gets each line for the log. Returns its exit status, or raises DriverEnded."""
        while True:
            self._connect()
            output_before = 0 if self._started else self._output_size()
            answers = self._send(job)
            if next(answers, None) is not None:
                break
            if self._started:
                raise DriverEnded(self._last_output("before it took the job", output_before))
            self.disconnect()  # it was ending and did not take the job: connect to the next driver
            time.sleep(0.1)
        for answer in answers:
            if "log" in answer:
                log_line(answer["log"])
            if "exit" in answer:
                for line in self._output_since(output_before):
                    log_line(line)
                return answer["exit"]
        raise DriverEnded(self._last_output("while it ran the job", output_before))

    def disconnect(self) -> None:
        """Disconnect from the driver, which ends if it runs the job of this client."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
            self._socket = None

    def end(self) -> None:
        """Disconnect, and end the driver if this client started it."""
        self.disconnect()
        if self._started and self._started.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._started.pid, signal.SIGTERM)

    def _connect(self) -> None:
        """Connect to the driver; start it if none answers. If too many clients wait for it, wait without its lock."""
        while True:
            # If two clients find no driver, only one starts it.
            with contextlib.suppress(BlockingIOError), _hold_lock(self._folder):
                self._socket = _connect_to(self._folder)
                if self._socket is None:
                    sweep()
                    end_former_drivers(self._folder)
                    self._start()
                return
            time.sleep(1)

    def _start(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self._folder / SOCKET).unlink()
        with (self._folder / OUTPUT).open("wb") as output:
            self._started = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # it outlives the task that started it
            )
        (self._folder / PID).write_text(str(self._started.pid))
        deadline = time.monotonic() + _START_SECONDS
        while (connection := _connect_to(self._folder)) is None:
            if self._started.poll() is not None:
                raise DriverEnded(self._last_output("while it was starting", 0))
            if time.monotonic() > deadline:
                self.end()
                raise DriverEnded(
                    self._last_output(f"while it was starting: it did not listen within {_START_SECONDS} s", 0)
                )
            time.sleep(0.05)
        self._socket = connection

    def _send(self, job: Path) -> Iterator[dict]:
        """Send the job; yields the answers until the driver disconnects."""
        connection = self._socket  # disconnect() may be called in another thread
        # ValueError: the last line is incomplete.
        with contextlib.suppress(OSError, ValueError), connection.makefile("rw", encoding="utf-8") as stream:
            connection.settimeout(REQUEST_SECONDS)
            stream.write(json.dumps({"job": str(job)}) + "\n")
            stream.flush()
            connection.settimeout(None)  # the job and those before it may take a long time
            for answer in stream:
                yield json.loads(answer)

    def _output_size(self) -> int:
        with contextlib.suppress(OSError):
            return (self._folder / OUTPUT).stat().st_size
        return 0

    def _output_since(self, position: int) -> list[str]:
        """The lines that the JVM itself has printed since that position."""
        with contextlib.suppress(OSError), (self._folder / OUTPUT).open("rb") as output:
            output.seek(position)
            return output.read().decode(errors="replace")[-_SHOWN_OUTPUT:].splitlines()
        return []

    def _last_output(self, when: str, position: int) -> str:
        lines = "\n".join(self._output_since(position)[-15:]) or "nothing"
        return f"The Spark driver ended {when}. Its last output: {lines}"


@contextlib.contextmanager
def _hold_lock(folder: Path) -> Iterator[None]:
    """Create the folder if it is missing, and hold its lock."""
    while True:
        try:
            _make_private(folder.parent)
            _make_private(folder)
            lock = (folder / STARTING).open("w")
        except FileNotFoundError:
            continue  # another client removed the folder before it had a lock
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _is_lock_of(folder, lock):
                yield
                return


def _is_lock_of(folder: Path, lock: TextIO) -> bool:
    """Whether the lock is still the folder's. If the folder was removed since the file was opened, nobody else sees the lock."""
    try:
        return os.path.samestat((folder / STARTING).stat(), os.fstat(lock.fileno()))
    except FileNotFoundError:
        return False


def _make_private(folder: Path) -> None:
    if len(os.fsencode(folder / SOCKET)) > _LONGEST_PATH:
        raise DriverEnded(
            f"The Spark driver cannot be started: the path {folder} is too long for a socket. Set TMPDIR to a shorter one."
        )
    with contextlib.suppress(FileExistsError):  # a file, or a link to nothing
        folder.mkdir(mode=0o700, exist_ok=True)
    info = folder.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
        raise DriverEnded(
            f"The Spark driver cannot be started: {folder} is a file, a link, or a folder of another user. "
            "Remove it, or set TMPDIR to another folder."
        )


def _connect_to(folder: Path, *, close: bool = False) -> socket.socket | None:
    """A connection to the driver that listens in that folder, or None.

    Raises BlockingIOError if a driver runs there and as many clients wait for it as the kernel permits.
    """
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(REQUEST_SECONDS)  # with a timeout, a full backlog is an error and not a wait
    try:
        connection.connect(str(folder / SOCKET))
    except BlockingIOError:
        connection.close()
        raise
    except OSError:
        connection.close()
        return None
    connection.settimeout(None)
    if close:
        connection.close()
    return connection


def end_former_drivers(folder: Path) -> None:
    """End the drivers of the same place that were started with other settings or other code."""
    place, hyphen, _ = folder.name.partition("-")
    for other in _folders(folder.parent):
        if not hyphen or not other.name.startswith(f"{place}-") or other == folder:
            continue
        with contextlib.suppress(OSError):  # such as a driver for which too many clients wait
            if connection := _connect_to(other):
                with connection:
                    connection.settimeout(REQUEST_SECONDS)
                    connection.sendall((json.dumps({"end": True}) + "\n").encode())


def sweep() -> None:
    """Remove the folders of drivers that have ended."""
    for folder in _folders(_home()):
        with contextlib.suppress(OSError), (folder / STARTING).open("w") as lock:
            # Fails for a driver that is being started, including this client's.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_lock_of(folder, lock) and _connect_to(folder, close=True) is None:
                shutil.rmtree(folder, ignore_errors=True)


def _folders(home: Path) -> list[Path]:
    return sorted(path for path in home.iterdir() if path.is_dir()) if home.is_dir() else []
