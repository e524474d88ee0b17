"""`./minutemark` on the command line, before any store runs."""

import os
import subprocess

import pytest

from local.layout import ROOT


def run(*words: str, **environ: str) -> subprocess.CompletedProcess:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MAKE"))}
    return subprocess.run([ROOT / "minutemark", *words], env=inherited | environ, capture_output=True, text=True)


@pytest.mark.parametrize("command", ["verify", "held"])
def test_without_stores_the_error_names_the_command_to_run(tmp_path, command: str) -> None:
    done = run(command, MINUTEMARK_STATE=str(tmp_path))
    assert done.returncode == 2, "1 would mean that something differs."
    assert "make services" in done.stderr and "Traceback" not in done.stderr
