"""What users type after `make` or `./minutemark` arrives whole at the function behind it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime

import pytest

from include.warehouse import ledger
from include.warehouse.session import warehouse
from local import __main__ as commands
from local import environment
from local.layout import ROOT

WHY = 'it\'s "meant"; -- see *'


@pytest.fixture
def typed(tmp_path):
    """What a make target hands to `python -m local`."""
    script = tmp_path / "arguments.py"
    script.write_text("import json, sys\nprint(json.dumps(sys.argv[1:]))\n")

    def run(*words: str) -> list[str]:
        command = ["make", "--no-print-directory", *words, f"LOCAL={sys.executable} {script}"]
        # Not as a part of the `make test` that may be running this: its variables are not what the person typed.
        own = {
            name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS")
        }
        done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    return run


def test_make_passes_arguments_unchanged(typed):
    replay = typed("replay", "PIPELINE=recruitment", "REASON=create_time … is not a time-UUID", "WAIT=0")
    assert "--reason=create_time … is not a time-UUID" in replay
    assert replay[-2:] == ["--wait", "0"]
    file = typed("replay-csv", "PIPELINE=recruitment", "FILE=my log.csv", "RATE=max", "SAMPLE=100", "AGAIN=1")
    assert file == [
        "replay-csv", "--pipeline=recruitment", "--file=my log.csv", "--rate=max", "--shift=", "--sample=100", "--again",
    ]  # fmt: skip


@pytest.fixture
def make(tmp_path, warehouse_schema, warehouse_server):
    """Runs a target of the Makefile on the test's stores."""
    # Not as a part of the `make test` that may be running this: its variables are not what the user typed.
    keeps = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS")}

    def run(*words: str, **environ: str) -> subprocess.CompletedProcess:
        own = keeps | warehouse_server | {"MINUTEMARK_STATE": str(tmp_path)} | environ
        return subprocess.run(["make", *words], cwd=ROOT, env=own, capture_output=True, text=True)

    return run


def test_variables_of_make_are_options_and_those_of_the_environment_are_not(make):
    minute = datetime(2026, 3, 1, 10)
    with warehouse() as conn:
        ledger.hold(conn.cursor(), "recruitment", [(minute, None, "broken")], None)
        conn.commit()
    done = make(
        "release", "PIPELINE=recruitment", "MINUTE=2026-03-01 10:00", f"WHY={WHY}", "BY=Ann Lee", "FROM=", TO="x"
    )
    assert done.returncode == 0 and done.stdout.startswith("Released by "), done.stderr
    [row] = json.loads(make("held", "FORMAT=json", JSON="maybe").stdout)
    assert (row["status"], row["released_because"]) == ("released", f"{WHY} (by Ann Lee)")
    refused = make("held", "PIPELINE=nothing")
    assert refused.returncode == 2 and "Choose one of ecommerce, recruitment" in refused.stderr


@pytest.fixture
def command(warehouse_schema, warehouse_server, monkeypatch):
    monkeypatch.setattr(environment, "read", lambda: warehouse_server)

    def run(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["local", *words])
        return commands.main()

    return run


def test_the_commands_reach_the_stores(command, capsys):
    assert command("replay", "--pipeline", "nothing", "--reason=", "--from", "", "--to", "") == 1
    assert "There is no pipeline 'nothing'" in capsys.readouterr().err
    assert command("replay-csv", "--pipeline=recruitment", "--file=x.csv", "--rate=fast") == 1
    assert "RATE=fast is not a speed" in capsys.readouterr().err
