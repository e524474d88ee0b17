"""The command of the fault-injection suite: options that cannot be combined, its exit status, and signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from local.layout import ROOT
from tests.faults.__main__ import FAILED, PASSED, SKIPPED, exit_status


@pytest.mark.parametrize("command", [["tests.faults", "--cluster", "--list"], ["local.cluster"]])
def test_the_cluster_refuses_a_warehouse_that_it_does_not_have(command: list[str]) -> None:
    env = {**os.environ, "MINUTEMARK_WAREHOUSE": "mysql"}
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert "MariaDB with a replica, but MINUTEMARK_WAREHOUSE is mysql" in done.stderr


@pytest.mark.parametrize(
    ("marks", "is_clean", "strict", "status"),
    [
        ([PASSED, PASSED], True, True, 0),
        ([PASSED, SKIPPED], True, False, 0),
        ([PASSED, SKIPPED], True, True, 1),  # what was not tried is not proven
        ([PASSED, FAILED], True, False, 1),
        ([PASSED], False, False, 1),  # the verify at the end of a soak
    ],
)
def test_the_exit_status(marks: list[str], is_clean: bool, strict: bool, status: int) -> None:
    assert exit_status(marks, is_clean=is_clean, strict=strict) == status


_STACK = """
import signal, time
from local import signals
signal.signal(signal.SIGINT, signal.default_int_handler)  # children of a suite in the background ignore SIGINT
signals.exit_on_signals()
try:
    print("up", flush=True)
    time.sleep(60)
finally:
    signals.ignore_signals()
    print("stopping", flush=True)
    input()
    print("stopped", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_stops_the_stack_and_later_signals_do_not_interrupt_the_stop(number: signal.Signals) -> None:
    command = [sys.executable, "-c", _STACK]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as stack:
        assert stack.stdout is not None
        assert stack.stdout.readline() == "up\n"
        stack.send_signal(number)
        assert stack.stdout.readline() == "stopping\n"
        for another in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            stack.send_signal(another)
        rest, _ = stack.communicate("\n", timeout=20)
    assert rest == "stopped\n"
