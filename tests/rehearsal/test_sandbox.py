"""The sandbox of a rehearsal: its host names, its network, its end, and the one port that leads into it."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time

import psutil
import pytest

from local.problems import Problem
from tests.rehearsal import sandbox

SERVER = """
import os, socket, subprocess, sys
from pathlib import Path
from tests.rehearsal import sandbox

sandbox.set_up(["mysql"], Path(sys.argv[2]))
sandbox.publish(socket.socket(fileno=int(sys.argv[1])), 3306)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", sys.argv[2]], start_new_session=True)
with socket.create_server(("mysql", 3306)) as server:
    connection, _ = server.accept()
    connection.sendall(f"{os.getpid()} {socket.gethostbyname('mysql')}".encode())
    connection.close()
    server.accept()[0].recv(1)  # until the test sends a byte
"""


@pytest.fixture(autouse=True)
def sandbox_allowed():
    try:
        sandbox.run(["true"])
    except Problem as problem:
        pytest.skip(str(problem))


def read_answer(port):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        return connection.recv(100).decode()


def test_names_are_local_a_published_port_is_reachable_and_every_process_ends_with_the_sandbox(tmp_path):
    hosts = tmp_path / "hosts"
    with sandbox.outside_listener(0) as listener:
        port = listener.getsockname()[1]
        command = [sys.executable, "-c", SERVER, str(listener.fileno()), str(hosts)]
        status = []
        run = threading.Thread(
            target=lambda: status.append(sandbox.run(command, keep_open=[listener.fileno()])), daemon=True
        )
        run.start()
        text = ""
        deadline = time.monotonic() + 30
        while not text and time.monotonic() < deadline:  # a connection that comes too early is closed without an answer
            with contextlib.suppress(OSError):
                text = read_answer(port)
        assert text == "1 127.0.0.1"
        sleepers = [
            process
            for process in psutil.process_iter()
            if str(hosts) in " ".join(cmdline(process)) and is_sleeper(process)
        ]
        assert sleepers
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(b".")
            run.join(30)
    assert status == [0]
    assert not [process for process in sleepers if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def cmdline(process):
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


def is_sleeper(process):
    return any("time.sleep" in word for word in cmdline(process))


def test_the_status_of_the_command_is_returned_and_orphans_are_reaped():
    code = (
        "import os, subprocess, sys, time\n"
        "from tests.rehearsal import sandbox\n"
        "def main():\n"
        "    subprocess.run(['sh', '-c', 'sleep 0.1 &'])\n"
        "    deadline = time.monotonic() + 20\n"
        "    while len([p for p in os.listdir('/proc') if p.isdigit()]) > 2 and time.monotonic() < deadline:\n"
        "        time.sleep(0.05)\n"
        "    return 7 if len([p for p in os.listdir('/proc') if p.isdigit()]) == 2 else 1\n"
        "sys.exit(sandbox.as_init(main))"
    )
    assert sandbox.run([sys.executable, "-c", code]) == 7


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(Problem, match=f"Port {port}: Address already in use"):
            sandbox.outside_listener(port)
