"""`make held`, `release`, `rejected` and `replay`: what a person types arrives whole at the function behind them."""

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
    release = typed("release", "PIPELINE=recruitment", "MINUTE=2026-03-01 10:00", f"WHY={WHY}", "BY=Ann Lee")
    assert release[1:5] == ["--pipeline", "recruitment", "--minute", "2026-03-01 10:00"]
    assert release[-2:] == ["--by=Ann Lee", f"--why={WHY}"]
    replay = typed("replay", "PIPELINE=recruitment", "REASON=create_time … is not a time-UUID", "WAIT=0")
    assert "--reason=create_time … is not a time-UUID" in replay
    assert replay[-2:] == ["--wait", "0"]
    file = typed("replay-csv", "PIPELINE=recruitment", "FILE=my log.csv", "RATE=max", "SAMPLE=100", "AGAIN=1")
    assert file == [
        "replay-csv", "--pipeline=recruitment", "--file=my log.csv", "--rate=max", "--shift=", "--sample=100", "--again",
    ]  # fmt: skip
    assert typed("held", "FORMAT=json") == ["held", "--format", "json"]
    assert typed("rejected", "FROM=2026-03-01") == ["rejected", "--from", "2026-03-01", "--to", ""]


@pytest.fixture
def command(warehouse_schema, warehouse_server, monkeypatch):
    monkeypatch.setattr(environment, "read", lambda: warehouse_server)

    def run(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["local", *words])
        return commands.main()

    return run


def test_the_commands_reach_the_stores(command, capsys):
    minute = datetime(2026, 3, 1, 10)
    with warehouse() as conn:
        ledger.hold(conn.cursor(), "recruitment", [(minute, None, "broken")], None)
        conn.commit()
    asked = ["--pipeline", "recruitment", "--minute", "2026-03-01T10:00", "--from", "", "--to", ""]
    assert command("release", *asked, "--by=", f"--why={WHY}") == 0
    assert command("held", "--format", "json") == 0
    released, listed = capsys.readouterr().out.split("\n", 1)
    assert released.startswith("Released by ")
    [row] = json.loads(listed)
    assert (row["status"], row["released_because"]) == ("released", WHY)
    assert command("rejected", "--from", "", "--to", "") == 0
    assert capsys.readouterr().out == "Nothing is rejected in ecommerce, recruitment.\n"
    assert command("replay", "--pipeline", "nothing", "--reason=", "--from", "", "--to", "") == 1
    assert "There is no pipeline 'nothing'" in capsys.readouterr().err
    assert command("replay-csv", "--pipeline=recruitment", "--file=x.csv", "--rate=fast") == 1
    assert "RATE=fast is not a speed" in capsys.readouterr().err
