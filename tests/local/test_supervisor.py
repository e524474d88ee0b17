"""The supervisor on real processes: what dies comes back, what was stopped leaves nothing behind."""

import os
import signal
import sys
import time

import psutil
import pytest

from local import supervisor
from local.environment import MARK
from local.problems import Problem
from local.supervisor import Program

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
# Starts a grandchild in a session of its own, as Spark drivers are, and ends.
STRAY = [
    sys.executable,
    "-c",
    "import subprocess, sys; subprocess.Popen(sys.argv[1:], start_new_session=True)",
    *SLEEP,
]


def until(condition, seconds=15):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


@pytest.fixture
def stack(tmp_path, monkeypatch):
    for name in ("ROOT", "STATE", "RUN", "LOGS"):
        monkeypatch.setattr(supervisor, name, tmp_path / name.lower())
        (tmp_path / name.lower()).mkdir()
    env = {**os.environ, MARK: str(tmp_path / "state")}
    yield lambda *programs: supervisor.ensure(list(programs), env)
    supervisor.shut_down(20)


def pid_of(name):
    return next((one["pid"] for one in supervisor.processes() if one["name"] == name and one["pid"]), None)


def test_what_dies_is_started_again(stack):
    stack(Program("sleeper", SLEEP, 10))
    supervisor.start("sleeper")
    first = until(lambda: pid_of("sleeper"))
    until(lambda: supervisor.state_of("sleeper") == "RUNNING")
    os.kill(first, signal.SIGKILL)
    assert until(lambda: (pid := pid_of("sleeper")) and pid != first)


def test_a_program_can_join_later_and_the_first_goes_on(stack):
    stack(Program("first", SLEEP, 10))
    supervisor.start("first")
    first = until(lambda: pid_of("first"))
    stack(Program("first", SLEEP, 10), Program("second", SLEEP, 20))
    supervisor.start("first", "second")
    until(lambda: pid_of("second"))
    assert pid_of("first") == first


def test_a_program_that_joins_is_no_concern_of_the_others(stack):
    stack(Program("first", SLEEP, 10))
    supervisor.start("first")
    first = until(lambda: pid_of("first"))
    supervisor.join(Program("guest", SLEEP, 20))
    supervisor.start("guest")
    guest = until(lambda: pid_of("guest"))
    stack(Program("first", SLEEP, 10), Program("second", SLEEP, 20))  # knows nothing of the guest
    supervisor.start("second")
    until(lambda: pid_of("second"))
    assert (pid_of("first"), pid_of("guest")) == (first, guest)
    supervisor.shut_down(20)
    assert not psutil.pid_exists(guest)


def test_stopping_leaves_no_process_not_even_a_stray_one(stack):
    stack(Program("sleeper", SLEEP, 10), Program("errand", STRAY, 20, once=True))
    supervisor.start("sleeper", "errand")
    supervisor.wait_for_exit("errand", 15)
    marked = {process.pid for process in until(lambda: list(supervisor.marked_processes()))}
    supervisor.shut_down(20)
    assert not supervisor.running()
    assert not [pid for pid in marked if psutil.pid_exists(pid)]


def test_a_failed_errand_is_told_with_its_last_words(stack):
    stack(Program("errand", [sys.executable, "-c", "raise ValueError('no such luck')"], 10, once=True))
    supervisor.start("errand")
    with pytest.raises(Problem, match="no such luck"):
        supervisor.wait_for_exit("errand", 15)


def test_each_program_ends_by_the_signal_it_wants(stack, tmp_path):
    tell = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, lambda *_: (open(sys.argv[1], 'w').write('INT'), sys.exit(0)))\n"
        "print('ready', flush=True)\ntime.sleep(600)"
    )
    script = tmp_path / "tell.py"
    script.write_text(tell)
    stack(Program("teller", [sys.executable, str(script), str(tmp_path / "said")], 10, stop_signal="INT"))
    supervisor.start("teller")
    until(lambda: supervisor.last_words("teller") == "ready")
    supervisor.shut_down(20)
    assert (tmp_path / "said").read_text() == "INT"
