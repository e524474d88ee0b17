"""Targets of `make`: their list, their options, what they do without an environment, and that a skipped test fails in CI."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from include.commands import COMMANDS
from local.layout import ROOT


def test_make_alone_lists_every_target():
    text = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = re.search(r"^\.PHONY: \$\(COMMANDS\) (.*)$", (ROOT / "Makefile").read_text(), re.M).group(1).split()
    targets += [command.name for command in COMMANDS]
    for target in targets:
        assert re.search(rf"^  {target} +\S", text, re.M), f"{target} has no `## what it does` in the Makefile"


def test_make_has_a_target_for_each_command_of_the_table():
    targets = re.search(r"^COMMANDS := (.*)$", (ROOT / "Makefile").read_text(), re.M).group(1).split()
    names = [name for command in COMMANDS for name in (command.name, command.alias) if name]
    assert targets == [name for name in names if name != "lineage"], (
        "`make lineage` derives the lineage unless COLUMN is set, so it is not in COMMANDS"
    )


@pytest.fixture
def make():
    """Runs make in the project, as from a terminal and not from the `make test` that may be running this."""
    outer = ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL")
    terminal = {name: value for name, value in os.environ.items() if name not in outer}

    def run(*words: str, folder: Path = ROOT, **environ: str) -> subprocess.CompletedProcess:
        return subprocess.run(["make", *words], cwd=folder, env=terminal | environ, capture_output=True, text=True)

    return run


def test_options_of_targets_come_from_the_command_line_and_not_from_the_environment(make):
    text = (ROOT / "Makefile").read_text()
    options = dict.fromkeys(re.findall(r"\b([A-Z]+)=", " ".join(re.findall(r":.*## (.*)", text))), "chance")
    assert {"NAME", "FORCE", "WAREHOUSE"} <= set(options)
    targets = re.search(r"^\.PHONY: \$\(COMMANDS\) (.*)$", text, re.M).group(1).split()
    for words in (["-n", *targets], ["--eval=show: ; @env | grep ^MINUTEMARK_ | sort", "show"]):
        planned = make(*words).stdout
        assert make(*words, **options).stdout == planned
        assert make(*words, *(f"{name}=chosen" for name in options)).stdout.count("chosen") > 1


def test_a_command_gets_no_options_from_a_variable_of_the_environment(make):
    planned = make("-n", "verify", "housekeeping", "KEEP=batches=30", OPTIONS="--chance").stdout
    assert planned.split() == ["./minutemark", "verify", "./minutemark", "housekeeping", "--keep-batches", "30"]


@pytest.mark.parametrize(
    "target",
    ["dashboards", "notebook", "tableau", "status", "logs", "cloud-function", "lineage", "pipeline", "latency"],
)
def test_before_set_up_a_target_says_what_to_run(make, tmp_path, target):
    shutil.copy(ROOT / "Makefile", tmp_path)
    done = make(target, folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("Not installed yet. Run: make setup\n")


@pytest.fixture
def make_without_environment(make, tmp_path):
    """Runs make in a folder whose environment is a link to a Python that is gone."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    python = tmp_path / ".local" / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to("/nonexistent")
    rows = tmp_path / ".local" / "data" / "rows"
    rows.parent.mkdir()
    rows.touch()
    return lambda *words: make(*words, folder=tmp_path)


def test_clean_without_an_environment_deletes_data_only_with_force(tmp_path, make_without_environment):
    done = make_without_environment("clean")
    assert done.returncode == 2 and "make clean FORCE=1" in done.stderr
    assert (tmp_path / ".local" / "data" / "rows").exists()
    assert make_without_environment("clean", "FORCE=1").returncode == 0
    assert [path.name for path in (tmp_path / ".local").iterdir()] == ["venv"]
    assert make_without_environment("clean", "ALL=1").returncode == 0
    assert not (tmp_path / ".local").exists()


@pytest.mark.parametrize("words", [["stop"], ["clean"], ["clean", "FORCE=1", "ALL=1"]])
def test_without_an_environment_a_running_stack_is_reported_and_kept(tmp_path, make_without_environment, words):
    pid_file = tmp_path / ".local" / "run" / "supervisord.pid"
    pid_file.parent.mkdir()
    pid_file.touch()
    done = make_without_environment(*words)
    assert done.returncode == 2 and "Run: make setup && make stop" in done.stderr
    assert pid_file.exists() and (tmp_path / ".local" / "data" / "rows").exists()


def test_without_an_environment_and_a_stack_there_is_nothing_to_stop(make_without_environment):
    done = make_without_environment("stop")
    assert (done.returncode, done.stdout) == (0, "Not installed yet: nothing to stop.\n")


@pytest.mark.parametrize(
    ("ci", "marker", "passes"),
    [
        ("true", "", False),
        ("true", "@pytest.mark.real_data", True),
        ("true", "@pytest.mark.optional_install", True),
        ("", "", True),
    ],
)
def test_in_ci_a_skip_is_a_failure_unless_a_marker_allows_it(tmp_path, ci, marker, passes):
    (tmp_path / "test_skips.py").write_text(f"import pytest\n{marker}\ndef test_it():\n    pytest.skip('no stores')\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-c", str(ROOT / "pyproject.toml")]
    done = subprocess.run(
        [*command, str(tmp_path)], cwd=ROOT, env={**os.environ, "CI": ci}, capture_output=True, text=True
    )
    assert (done.returncode == 0) is passes, done.stdout
