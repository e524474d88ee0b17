"""`astro dev pytest` in Docker mode: tests are collected, and pass or skip, in a folder with only the copied files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from local.layout import ROOT
from tests.conftest import COPIED, OUTSIDE


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("image")
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "standalone"))
    return folder


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run pytest as the container does: in the project's folder, with nothing of this session in the environment."""
    foreign = ("PYTEST", "PYTHONPATH", "AIRFLOW", "MINUTEMARK")
    env = {name: value for name, value in os.environ.items() if not name.startswith(foreign) and name != "CI"}
    command = [sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider", "-rs", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


def test_every_test_is_collected_in_the_image(image):
    done = run_pytest(image, "--collect-only", "-q", "--strict-markers", "tests")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    for collected in ("tests/dags/test_minute_dag.py::", "tests/spark/test_run.py::", "tests/e2e/test_replay.py::"):
        assert collected in done.stdout
    assert "error" not in done.stdout.splitlines()[-1]


def test_tests_without_stores_pass_in_the_image_and_others_are_skipped_with_a_reason(image):
    done = run_pytest(
        image,
        "-q",
        "tests/dags/test_astro.py",
        "tests/dags/test_minute_dag.py",
        "tests/plugins",
        "tests/warehouse/test_ledger.py",
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    skipped = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert skipped and all(OUTSIDE in line for line in skipped), skipped
    passed = int(done.stdout.splitlines()[-1].partition(" passed")[0])
    assert passed > 50


def test_a_broken_test_still_fails_in_the_image(image):
    broken = image / "tests" / "dags" / "test_broken.py"
    broken.write_text(
        "def test_import():\n    import include.nothing\n\n\n"
        "def test_file():\n    open('include/nothing.sql')\n\n\n"
        "def test_checkout_only():\n    import local\n"
    )
    done = run_pytest(image, "-q", str(broken))
    broken.unlink()
    assert "2 failed, 1 skipped" in done.stdout, done.stdout


def test_in_a_checkout_a_missing_module_or_file_fails(tmp_path):
    test = tmp_path / "test_missing.py"
    test.write_text(
        "def test_file(request):\n"
        "    from tests.conftest import ROOT\n    (ROOT / 'nothing.md').read_text()\n\n\n"
        "def test_module():\n    raise ModuleNotFoundError(name='local')\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.conftest",
        "-c",
        str(ROOT / "pyproject.toml"),
        str(test),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "2 failed" in done.stdout, done.stdout
