"""The folders of throw-away stores in memory: what killed sessions leave there is removed, what runs stays."""

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
    """Stands for /dev/shm."""
    monkeypatch.setattr(throwaway, "_MEMORY", tmp_path)
    monkeypatch.setattr(throwaway, "_ROOM", 0)
    return tmp_path


def test_a_folder_that_was_left_before_it_had_a_lock_is_removed(memory: Path) -> None:
    new, left = (memory / f"minutemark-stores-{name}" for name in ("new", "left"))
    for folder in (new, left):
        folder.mkdir()
        (folder / "lock.new").touch()
    an_hour_ago = time.time() - 3600
    os.utime(left, (an_hour_ago, an_hour_ago))
    with throwaway.data_folder():
        assert new.exists() and not left.exists()


def test_a_killed_sessions_folder_is_removed_and_a_running_ones_is_kept(memory: Path) -> None:
    command = [sys.executable, "-c", SESSION, str(memory)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    with subprocess.Popen(command, **pipes) as killed, subprocess.Popen(command, **pipes) as running:
        left, used = (Path(session.stdout.readline().strip()) for session in (killed, running))
        killed.kill()
        killed.wait()
        with throwaway.data_folder():
            assert used.exists() and not left.exists()
        running.stdin.close()
