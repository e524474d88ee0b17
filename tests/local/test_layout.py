"""Folders of a stack: private ones for sockets, and what `make clean` deletes."""

import os
import pty
import stat
import subprocess
import sys
import tempfile
from types import SimpleNamespace

import pytest

from local import __main__, layout, supervisor
from local.environment import MARK
from local.problems import Problem


@pytest.fixture
def folder_of_socket(tmp_path, monkeypatch):
    """The temporary folder of a socket whose own folder has a long path; it does not exist yet."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = layout.socket_path("a.sock", tmp_path / ("long" * 25)).parent
    assert folder.parent == tmp_path
    folder.rmdir()
    return folder


def test_a_folder_for_sockets_is_closed_to_other_users(folder_of_socket, tmp_path):
    folder_of_socket.mkdir()
    folder_of_socket.chmod(0o777)
    layout.socket_path("a.sock", tmp_path / ("long" * 25))
    assert stat.S_IMODE(folder_of_socket.stat().st_mode) == 0o700


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_in_place_of_a_folder_for_sockets_is_refused(folder_of_socket, tmp_path, exists):
    if exists:
        (tmp_path / "other").mkdir()
    folder_of_socket.symlink_to(tmp_path / "other")
    with pytest.raises(Problem, match="is not a folder of this user"):
        layout.socket_path("a.sock", tmp_path / ("long" * 25))


def test_a_folder_of_another_user_is_refused_for_sockets(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(Problem, match="is not a folder of this user"):
        layout.socket_path("a.sock", tmp_path / ("long" * 25))


def test_cleaning_all_of_another_stack_keeps_the_data_of_the_default_one(tmp_path, monkeypatch):
    """`make clean ALL=1` stops only the stack of MINUTEMARK_STATE."""
    default, other = tmp_path / ".local", tmp_path / "other"
    for name in ("DATA", "AIRFLOW_HOME", "LOGS", "RUN", "ENV_FILE", "PORTS_FILE", "STATE"):
        monkeypatch.setattr(__main__, name, other / getattr(layout, name).relative_to(layout.STATE))
    monkeypatch.setattr(__main__, "LOCAL", default)
    monkeypatch.setattr(
        __main__, "INSTALLED", tuple(default / path.relative_to(layout.LOCAL) for path in layout.INSTALLED)
    )
    for name in ("RUN", "STATE"):
        monkeypatch.setattr(supervisor, name, getattr(__main__, name))
    for path in (default / "data", default / "venv", default / "jars", other / "data", other / "run"):
        path.mkdir(parents=True)
    with subprocess.Popen(["sleep", "60"], env={MARK: str(default)}) as process:
        with pytest.raises(Problem, match="uses files that ALL=1 deletes"):
            __main__.clean(SimpleNamespace(all=True, force=True))
        process.kill()
    (default / "run").mkdir()
    (default / "run" / "supervisord.pid").touch()  # left by a stack that was killed
    __main__.clean(SimpleNamespace(all=True, force=True))
    assert {path.name for path in default.iterdir()} == {"data", "run"}
    assert list(other.iterdir()) == []


def test_end_of_input_confirms_nothing(tmp_path):
    """Ctrl-D at the prompt of `make clean`."""
    (tmp_path / "data").mkdir()
    master, terminal = pty.openpty()
    command = [sys.executable, "-m", "local", "clean"]
    env = os.environ | {"MINUTEMARK_STATE": str(tmp_path)}
    with subprocess.Popen(
        command, cwd=layout.ROOT, env=env, stdin=terminal, stderr=subprocess.PIPE, text=True
    ) as process:
        os.write(master, b"\x04")
        assert process.communicate(timeout=60)[1] == ""
    os.close(master)
    os.close(terminal)
    assert process.returncode == 1 and (tmp_path / "data").is_dir()
