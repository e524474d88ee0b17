"""A Spark driver that stays when its job is done, so that the next minute's job finds it warm.

A driver that starts for each job spends most of a minute's time on starting: loading classes, interpreting code that it
has not compiled yet. A kept one listens on a Unix socket in a folder that only its user can enter, takes one job after
the other, and ends by itself: when nothing came for a while, when it is old, when a job failed, or when whoever asked
for the running job is gone. What it is asked and what it answers are lines of JSON:

    → {"job": "/path/of/job.json"}    ← {"taken": true}   ← {"said": "a line for the task's log"} …   ← {"exit": 0}

Its folder is named for everything that it was started with, the project's code included: whatever of that changes,
a job finds no driver there, and starts one.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

IDLE_SECONDS = 300  # five runs of a minute DAG
OLDEST_SECONDS = 6 * 3600  # what a JVM gathers in its life is let go of some time
_START_SECONDS = 120  # until it listens; its session comes up while it already does
_SOCKET, _OUTPUT, _PID, _STARTING = "socket", "output", "pid", "starting"
_LONGEST_PATH = 100  # bytes; the kernel takes 107 for a Unix socket
_SHOWN_OUTPUT = 4_000  # characters of the JVM's own words
_PR_SET_PDEATHSIG = 1  # of Linux's prctl(2)
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class DriverEnded(RuntimeError):
    """The driver ended before it had answered for the job; the message has its last words."""


def folder_of(key: str) -> Path:
    """Where a driver of that key lives; private to this user."""
    return _home() / key


def _home() -> Path:
    return Path(tempfile.gettempdir()) / f"minutemark-{os.getuid()}"


def end_with_parent() -> None:
    """Have this process ended when the one that started it dies, however it dies. Only Linux can."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


# The side that asks


class KeptDriver:
    """The driver of a key, started by `command` where there is none. One job at a time; a context manager."""

    def __init__(self, key: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._folder = folder_of(key)
        self._command = list(command)
        self._environment = {**environment, "SPARK_LOCAL_DIRS": str(self._folder)}
        self._started: subprocess.Popen | None = None
        self._line: socket.socket | None = None

    def __enter__(self) -> KeptDriver:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()

    def run(self, job: Path, say: Callable[[str], None]) -> int:
        """Have the job done; `say` gets each line for the log. Returns its exit status, or raises DriverEnded."""
        while True:
            self._call()
            output_before = 0 if self._started else self._output_size()
            answers = self._ask(job)
            if next(answers, None) is not None:
                break
            if self._started:
                raise DriverEnded(self._last_words("before it took the job", output_before))
            self.hang_up()  # it was about to leave and never took the job: call the next one
            time.sleep(0.1)
        for answer in answers:
            if "said" in answer:
                say(answer["said"])
            if "exit" in answer:
                for line in self._output_since(output_before):
                    say(line)
                return answer["exit"]
        raise DriverEnded(self._last_words("while it worked", output_before))

    def hang_up(self) -> None:
        """Let go of the driver; one that is at work for us ends."""
        if self._line is not None:
            with contextlib.suppress(OSError):
                self._line.shutdown(socket.SHUT_RDWR)
            self._line.close()
            self._line = None

    def end(self) -> None:
        """Hang up, and end a driver that has only just been started."""
        self.hang_up()
        if self._started and self._started.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._started.pid, signal.SIGTERM)

    def _call(self) -> None:
        """A connection to the driver, which is started where nobody answers."""
        _make_private(self._folder.parent)
        _make_private(self._folder)
        with (self._folder / _STARTING).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of two that find none, one starts it
            self._line = _connected(self._folder)
            if self._line is None:
                _sweep(self._folder.parent)
                self._start()

    def _start(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self._folder / _SOCKET).unlink()
        with (self._folder / _OUTPUT).open("wb") as output:
            self._started = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # it outlives the task that started it
            )
        (self._folder / _PID).write_text(str(self._started.pid))
        deadline = time.monotonic() + _START_SECONDS
        while (line := _connected(self._folder)) is None:
            if self._started.poll() is not None:
                raise DriverEnded(self._last_words("while it was starting", 0))
            if time.monotonic() > deadline:
                self.end()
                raise DriverEnded(self._last_words(f"unheard: it did not listen within {_START_SECONDS} s", 0))
            time.sleep(0.05)
        self._line = line

    def _ask(self, job: Path) -> Iterator[dict]:
        """The answers, until the driver hangs up."""
        with contextlib.suppress(ConnectionError), self._line.makefile("rw", encoding="utf-8") as talk:
            talk.write(json.dumps({"job": str(job)}) + "\n")
            talk.flush()
            for answer in talk:
                yield json.loads(answer)

    def _output_size(self) -> int:
        with contextlib.suppress(OSError):
            return (self._folder / _OUTPUT).stat().st_size
        return 0

    def _output_since(self, position: int) -> list[str]:
        """What the JVM itself has printed since then."""
        with contextlib.suppress(OSError), (self._folder / _OUTPUT).open("rb") as output:
            output.seek(position)
            return output.read().decode(errors="replace")[-_SHOWN_OUTPUT:].splitlines()
        return []

    def _last_words(self, when: str, position: int) -> str:
        words = "\n".join(self._output_since(position)[-15:]) or "nothing"
        return f"The Spark driver ended {when}. Its last words: {words}"


def end_all() -> list[int]:
    """End every kept driver of this user and remove its folder; returns their process ids."""
    ended = []
    for folder in _folders(_home()):
        with contextlib.suppress(OSError, ValueError):
            pid = int((folder / _PID).read_text())
            if _connected(folder, close=True):
                os.killpg(pid, signal.SIGTERM)
                ended.append(pid)
        shutil.rmtree(folder, ignore_errors=True)
    return ended


def _make_private(folder: Path) -> None:
    if len(os.fsencode(folder / _SOCKET)) > _LONGEST_PATH:
        raise DriverEnded(
            f"It cannot be started: {folder} is too long a path for a socket. Set TMPDIR to a shorter one."
        )
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise DriverEnded(f"It cannot be started: {folder} is not ours. Remove it, or set TMPDIR to another folder.")


def _connected(folder: Path, *, close: bool = False) -> socket.socket | None:
    """A connection to whoever listens in that folder, or None."""
    line = socket.socket(socket.AF_UNIX)
    try:
        line.connect(str(folder / _SOCKET))
    except OSError:
        line.close()
        return None
    if close:
        line.close()
    return line


def _sweep(home: Path) -> None:
    """Remove what drivers that were killed have left behind."""
    for folder in _folders(home):
        with contextlib.suppress(OSError), (folder / _STARTING).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not one that is being started, ours included
            if _connected(folder, close=True) is None:
                shutil.rmtree(folder, ignore_errors=True)


def _folders(home: Path) -> list[Path]:
    return sorted(path for path in home.iterdir() if path.is_dir()) if home.is_dir() else []


# The side that answers


class Listener:
    """The driver's end: hears jobs and answers for them."""

    def __init__(self, folder: Path, form: logging.Formatter) -> None:
        self._folder = folder
        self._form = form
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(folder / _SOCKET))
        self._socket.listen(16)

    def serve(self, run: Callable[[Path], int], rest: Callable[[], None], log: logging.Logger) -> None:
        """Do the jobs that come, one after the other; `rest` tidies up after each, when its asker has the answer."""
        begun = time.monotonic()
        self._socket.settimeout(IDLE_SECONDS)
        while time.monotonic() - begun < OLDEST_SECONDS:
            try:
                line, _ = self._socket.accept()
            except TimeoutError:
                break
            with line:
                status = self._answer(line, run, log)
            if status:
                break  # whatever went wrong in this JVM is over with it
            rest()
        self._leave()

    def _leave(self) -> None:
        """Whoever calls now finds nobody; one who is calling already holds the lock, and will find that out."""
        with (self._folder / _STARTING).open("w") as lock, contextlib.suppress(OSError):
            self._socket.close()
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for name in (_SOCKET, _PID, _OUTPUT):
                (self._folder / name).unlink(missing_ok=True)

    def _answer(self, line: socket.socket, run: Callable[[Path], int], log: logging.Logger) -> int:
        with contextlib.suppress(OSError), line.makefile("r", encoding="utf-8") as asked:
            text = asked.readline()
            if not text:
                return 0  # somebody only looked whether we are here
            said = _Saying(line, self._form)
            said.send({"taken": True})
            over = threading.Event()
            threading.Thread(target=_end_with_asker, args=(line, over), daemon=True).start()
            log.addHandler(said)
            try:
                status = run(Path(json.loads(text)["job"]))
            finally:
                over.set()
                log.removeHandler(said)
            said.send({"exit": status})
            return status
        return 0


class _Saying(logging.Handler):
    """Log lines go to whoever asked for the job."""

    def __init__(self, line: socket.socket, form: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(form)
        self._socket = line

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            for text in self.format(record).splitlines():
                self.send({"said": text})

    def send(self, answer: dict) -> None:
        self._socket.sendall((json.dumps(answer) + "\n").encode())


def _end_with_asker(line: socket.socket, over: threading.Event) -> None:
    """End this process when the task that asked for the running job is gone: its next attempt needs the cores."""
    with contextlib.suppress(OSError):
        line.recv(1)  # nothing is ever sent: it returns when the other side hangs up
    if not over.is_set():
        os._exit(3)
