"""A benchmark whose packages are missing fails at once, and names the command that installs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Python imports sitecustomize.py when it starts, before the module that the command line names.
SITECUSTOMIZE = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
"""
LAKEHOUSE = "make setup MINUTEMARK_LAKEHOUSE=local"


@pytest.mark.parametrize(
    ("arguments", "missing", "message"),
    [
        ("lakehouse --events 5000", ["pyarrow"], f"Not installed: pyarrow. Run `{LAKEHOUSE}`, then try again."),
        (
            "lakehouse --minutes 1",
            ["duckdb", "pyiceberg"],
            f"Not installed: duckdb, pyiceberg. Run `{LAKEHOUSE}`, then try again.",
        ),
        (
            "lakehouse --bigquery",
            ["google"],
            "Not installed: google.cloud.bigquery, google.oauth2. "
            f"Run `{LAKEHOUSE} MINUTEMARK_BIGQUERY=local`, then try again.",
        ),
        *(
            (
                module,
                ["matplotlib"],
                "Not installed: matplotlib. Run `.local/tools/uv/bin/uv pip install --python .local/venv/bin/python "
                "-r bench/requirements.txt`, then try again.",
            )
            for module in ("back_dated_events", "flat_cost")
        ),
    ],
)
def test_missing_packages_are_named_with_the_command_that_installs_them(
    tmp_path: Path, arguments: str, missing: list[str], message: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SITECUSTOMIZE.format(hidden=missing))
    result = subprocess.run(
        [sys.executable, "-m", *f"bench.{arguments}".split()],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stderr) == (2, f"{message}\n")
