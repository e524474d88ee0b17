"""`make run` and `make services` as processes with a real supervisord: what a signal, a failure and a second start do."""

import fcntl
import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from local.layout import ROOT
from tests.local.test_supervisor import until

# Start a program in place of the stack, then run a command. The program ends only when the file `may_end` exists.
RUN = r"""
import os, signal, sys
from local import __main__, start, supervisor

# As in a terminal: a suite in the background ignores Ctrl-C, and its children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
store = "import pathlib, signal, time; signal.signal(signal.SIGTERM, lambda *_: pathlib.Path('stopping').touch())"
store += "; pathlib.Path('up').touch()\nwhile not pathlib.Path('may_end').exists(): time.sleep(0.02)"
env = {**os.environ, supervisor.MARK: str(supervisor.STATE)}
program = supervisor.Program("kafka", [sys.executable, "-c", store], 10, env=env, directory=supervisor.STATE.parent)

def start_store():
    supervisor.ensure([program])
    supervisor.start("kafka")

def start_and_wait():
    start_store()
    signal.pause()
"""
WAIT = RUN + "start.run = start_and_wait; sys.argv = ['make', 'run']; sys.exit(__main__.main())"
REFUSED = {"MINUTEMARK_WAREHOUSE": "postgres"}


class Command(subprocess.Popen):
    """A process that is killed if the block fails: waiting for it would hang the test."""

    def __exit__(self, kind, *rest):
        if kind is not None:
            self.kill()
        super().__exit__(kind, *rest)


@pytest.fixture
def python(short_path):
    """Starts Python for a stack in the folder `short_path`; the stack is stopped at the end."""

    def start(*words: str, **options) -> Command:
        env = os.environ | {"MINUTEMARK_STATE": str(short_path / "state"), **options.pop("env", {})}
        return Command([sys.executable, *words], cwd=ROOT, env=env, text=True, **options)

    yield start
    (short_path / "may_end").touch()
    assert start("-m", "local", "stop").wait(60) == 0


def is_up(folder: Path) -> bool:
    return (folder / "state" / "run" / "supervisord.pid").exists()


def end_store(folder: Path) -> None:
    """Allow the store to end, once it has received the signal to stop."""
    until((folder / "stopping").exists)
    (folder / "may_end").touch()


def test_a_second_interrupt_does_not_abandon_a_stack_that_is_stopping(python, short_path):
    with python("-c", WAIT, stderr=subprocess.PIPE) as command:
        until((short_path / "up").exists)
        command.send_signal(signal.SIGINT)
        until((short_path / "stopping").exists)
        command.send_signal(signal.SIGINT)
        end_store(short_path)
        assert command.wait(60) == 0
        assert command.stderr.read().endswith("Stopping …\nStopped.\n")
    assert not is_up(short_path)


def test_the_stack_ends_with_its_terminal(python, short_path):
    master, terminal = pty.openpty()
    with python("-c", WAIT, stdin=terminal, stdout=terminal, stderr=terminal) as command:
        os.close(terminal)
        until((short_path / "up").exists)
        os.close(master)  # each write fails from now on
        command.send_signal(signal.SIGHUP)
        end_store(short_path)
        assert command.wait(60) == 0
    assert not is_up(short_path)


def test_a_refused_setting_does_not_stop_a_running_stack(python, short_path):
    assert python("-c", f"{RUN}start_store()").wait(60) == 0
    with python("-m", "local", "run", env=REFUSED, stderr=subprocess.PIPE) as command:
        assert "WAREHOUSE=postgres names no server" in command.communicate(timeout=60)[1]
    assert is_up(short_path) and not (short_path / "stopping").exists()


def test_a_state_folder_in_a_folder_that_does_not_exist_is_created(python, short_path):
    nested = REFUSED | {"MINUTEMARK_STATE": str(short_path / "new" / "state")}
    with python("-m", "local", "run", env=nested, stderr=subprocess.PIPE) as command:
        assert "WAREHOUSE=postgres names no server" in command.communicate(timeout=60)[1]
    assert (short_path / "new" / "state").is_dir()


@pytest.mark.parametrize("name", ["run", "services"])
def test_a_second_start_waits_for_the_first(python, short_path, name):
    (short_path / "state").mkdir()
    with (short_path / "state" / ".starting").open("w") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        with python("-m", "local", name, env=REFUSED, stderr=subprocess.PIPE) as command:
            assert select.select([command.stderr], [], [], 60)[0], "The command does not report that it waits."
            assert "wait for another `make run` or `make services`" in command.stderr.readline()
            assert command.poll() is None
            fcntl.flock(first, fcntl.LOCK_UN)
            assert "WAREHOUSE=postgres names no server" in command.communicate(timeout=60)[1]
