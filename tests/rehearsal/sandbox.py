"""A separate network, process table and host names for a command, from Linux's namespaces: no root, no Docker.

Servers in it listen on their usual ports under the names of their containers, and reach nothing outside. From outside, only
a port that `publish` forwards can be reached. When the command ends or is killed, the kernel ends every process of the sandbox.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from local.problems import Problem

_UNSHARE = (
    "unshare",
    "--user",
    "--map-root-user",
    "--net",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
)
_CHUNK = 65_536


def run(command: list[str], *, keep_open: Iterable[int] = ()) -> int:
    """Run a command in a sandbox and return its exit status; the command inherits the file descriptors of `keep_open`.

    Raises Problem if this machine allows no sandbox.
    """
    probe = [*_UNSHARE, "true"]
    if not shutil.which("unshare"):
        raise Problem("Sandbox", "the command unshare is not installed", "Install util-linux.")
    result = subprocess.run(probe, capture_output=True, text=True)
    if result.returncode != 0:
        raise Problem(
            "Sandbox",
            f"Linux does not allow this user to create namespaces: {result.stderr.strip()}",
            "Run as root, or allow them: sysctl kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu) or "
            "kernel.unprivileged_userns_clone=1 (Debian before 11). A container needs --privileged.",
        )
    process = subprocess.Popen([*_UNSHARE, *command], pass_fds=tuple(keep_open), preexec_fn=_die_with_parent)
    try:
        while True:
            with contextlib.suppress(KeyboardInterrupt):  # the command gets the signal too, and ends in order
                return process.wait()
    finally:
        process.kill()
        process.wait()


def _die_with_parent() -> None:
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def set_up(names: Iterable[str], hosts: Path) -> None:
    """Inside: bring up the loopback interface and map every name to it, in the hosts file written to `hosts`."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        interface_flags, up_and_running = 0x8914, 0x1 | 0x40  # SIOCSIFFLAGS, IFF_UP | IFF_RUNNING
        fcntl.ioctl(any_socket, interface_flags, struct.pack("16sh", b"lo", up_and_running))
    hosts.write_text(f"127.0.0.1 localhost {' '.join(names)} {socket.gethostname()}\n")
    subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)


def as_init(main: Callable[[], int]) -> int:
    """Inside, as the first process: run `main` in a child, and reap orphaned processes while it runs."""
    child = os.fork()
    if child == 0:
        os._exit(main())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    while True:
        with contextlib.suppress(InterruptedError):
            pid, status = os.wait()
            if pid == child:
                return os.waitstatus_to_exitcode(status)


def outside_listener(port: int) -> socket.socket:
    """Outside: a socket that listens on loopback, for the sandbox: it stays in the network in which it was created."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        raise Problem(f"Port {port}", os.strerror(error.errno), "Choose another: AIRFLOW_PORT=…") from error
    listener.listen()
    return listener


def publish(listener: socket.socket, port: int) -> None:
    """Inside: forward every connection of an outside listener to a port of the sandbox, in the background."""

    def serve() -> None:
        while True:
            outer, _ = listener.accept()
            try:
                inner = socket.create_connection(("127.0.0.1", port), timeout=10)
            except OSError:
                outer.close()
                continue
            inner.settimeout(None)
            for source, target in ((outer, inner), (inner, outer)):
                threading.Thread(target=_copy, args=(source, target), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of this project."""
    return [sys.executable, "-m", module, *arguments]
