"""Folders of throw-away stores in memory: those of killed sessions are removed, those of running sessions stay."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from local import throwaway
from local.layout import ROOT

SESSION = """
import pathlib, sys
from local import throwaway

throwaway._MEMORY = pathlib.Path(sys.argv[1])
with throwaway.data_folder() as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for /dev/shm."""
    monkeypatch.setattr(throwaway, "_MEMORY", tmp_path)
    monkeypatch.setattr(throwaway, "_REQUIRED_MEMORY", 0)
    return tmp_path


def test_a_folder_that_was_abandoned_before_it_had_a_lock_is_removed(memory: Path) -> None:
    new, abandoned = (memory / f"minutemark-stores-{name}" for name in ("new", "abandoned"))
    for folder in (new, abandoned):
        folder.mkdir()
        (folder / "lock.new").touch()
    an_hour_ago = time.time() - 3600
    os.utime(abandoned, (an_hour_ago, an_hour_ago))
    with throwaway.data_folder():
        assert new.exists() and not abandoned.exists()


def test_the_folder_of_a_killed_session_is_removed_and_that_of_a_running_session_is_kept(memory: Path) -> None:
    command = [sys.executable, "-c", SESSION, str(memory)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    with subprocess.Popen(command, **pipes) as killed, subprocess.Popen(command, **pipes) as running:
        abandoned, used = (Path(session.stdout.readline().strip()) for session in (killed, running))
        killed.kill()
        killed.wait()
        with throwaway.data_folder():
            assert used.exists() and not abandoned.exists()
        running.stdin.close()


def test_stores_that_cannot_start_are_reported_without_a_traceback(tmp_path: Path) -> None:
    env = os.environ | {"JAVA_HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "local.throwaway"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "What to do: " in done.stderr and "Traceback" not in done.stderr
