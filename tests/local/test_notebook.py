"""JupyterLab's settings, and saving a notebook without its output."""

from __future__ import annotations

import json

import pytest
from traitlets.config.loader import PyFileConfigLoader

from local import connections, notebook, supervisor
from local.problems import Problem

PASSWORDS = connections.new_passwords()
KNOWN = {
    **connections.lake(PASSWORDS, 9042),
    **connections.warehouse(PASSWORDS, 3306),
    "JAVA_HOME": "/opt/java",
    "MINUTEMARK_PASSWORDS": json.dumps(PASSWORDS),
}


@pytest.fixture(scope="module")
def settings():
    """notebooks/jupyter_server_config.py, as Jupyter loads it."""
    return PyFileConfigLoader("jupyter_server_config.py", path=str(notebook.FOLDER)).load_config()


def test_jupyter_gets_only_the_two_read_only_accounts():
    environment = notebook.jupyter_environment(
        KNOWN, {**KNOWN, "PYTHONPATH": "/x", "PYSPARK_SUBMIT_ARGS": "--conf a=b", "HOME": "/h", "PATH": "/bin"}
    )
    shown = [name for name, password in PASSWORDS.items() if password in "\n".join(environment.values())]
    assert sorted(shown) == ["lake_reader", "warehouse_bi"]
    assert (
        environment["HOME"] == "/h"
        and environment["JAVA_HOME"] == "/opt/java"
        and "PYSPARK_SUBMIT_ARGS" not in environment
    )


def test_the_command_line_of_jupyter_has_only_its_settings_and_a_port():
    _, *options = notebook.command(8888)
    assert options == [f"--config={notebook.FOLDER / 'jupyter_server_config.py'}", "--ServerApp.port=8888"]


def test_jupyter_listens_on_loopback_only_and_requires_a_token(settings):
    assert settings.ServerApp.ip == "127.0.0.1"
    assert not {"token", "password"} & set(settings.ServerApp) and "IdentityProvider" not in settings


def test_a_notebook_is_saved_without_outputs(settings):
    cells = [
        {"cell_type": "markdown", "source": "text"},
        {"cell_type": "code", "source": "1", "outputs": [{"text": "1"}], "execution_count": 7},
    ]
    model = {"type": "notebook", "content": {"cells": cells}}
    settings.ContentsManager.pre_save_hook(model=model, path="x.ipynb", contents_manager=None)
    assert cells[1] == {"cell_type": "code", "source": "1", "outputs": [], "execution_count": None}
    settings.ContentsManager.pre_save_hook(model={"type": "file", "content": "x"}, path="x.txt", contents_manager=None)


def test_jupyter_needs_a_running_stack(tmp_path, monkeypatch):
    for name in ("RUN", "LOGS"):
        monkeypatch.setattr(supervisor, name, tmp_path / name.lower())
    with pytest.raises(Problem, match="the stack is not running.*\n.*make run"):
        notebook.start()


def test_jupyter_pins_the_projects_pyspark_and_the_packages_that_it_shares_with_the_tests():
    def pins(path):
        lines = (notebook.ROOT / path).read_text().splitlines()
        return dict(line.split(" ")[0].split("==") for line in lines if "==" in line and line[0] not in "# ")

    locked, project, tests = (
        pins(f"{folder}requirements.{kind}")
        for folder, kind in (("notebooks/", "lock"), ("", "txt"), ("tests/", "txt"))
    )
    assert locked["pyspark"] == project["pyspark"]
    shared = set(locked) & set(tests)
    assert shared == {"nbclient", "ipykernel", "matplotlib"}
    assert {name: locked[name] for name in shared} == {name: tests[name] for name in shared}
