"""A server that runs as a child of this process: it does not daemonize, is stopped by its own pid, and ends with this process."""

from __future__ import annotations

import ctypes
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_RETURNED_PORTS: set[int] = set()


class Child:
    """A running server whose output goes to `log`."""

    def __init__(
        self, command: list[str], log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.log = log
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def wait(self) -> int:
        """Wait for its end; returns the exit code."""
        return self._process.wait()

    def stop(self, seconds: float = 30) -> None:
        """Terminate it, and kill it if it has not ended after that time."""
        if not self.alive():
            return
        self._process.terminate()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _die_with_parent() -> None:
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def free_port() -> int:
    """A loopback port that nothing listens on, and that this function has not returned before.

    The system may return a port twice in a row if nothing took it in between; two listeners of one server would then clash.
    """
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port not in _RETURNED_PORTS:
            _RETURNED_PORTS.add(port)
            return port
