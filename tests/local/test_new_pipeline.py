"""`make pipeline NAME=…`: what it writes, and what it refuses. tests/e2e/test_new_pipeline.py runs the result."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from include import pipelines
from include.warehouse.session import warehouse
from local import __main__ as commands
from local import new_pipeline
from local.layout import ROOT
from local.problems import Problem

FOLDERS = ("include/demo", "include/pipelines", "include/spark", "include/sql/control")
LONGEST = "a" * new_pipeline.LONGEST


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The folders that a project has."""
    for folder in FOLDERS:
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def files_of(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_the_skeleton_is_not_a_pipeline_of_the_project() -> None:
    assert "skeleton" not in pipelines.all_pipelines()
    assert not list((ROOT / "include").rglob("*skeleton*"))


def test_every_file_is_named_after_the_pipeline_and_none_still_says_skeleton(project: Path) -> None:
    made = new_pipeline.make("shop_floor", project)
    assert {str(path) for path in made} == files_of(project)
    for path in made:
        assert "shop_floor" in str(path)
        text = (project / path).read_text()
        assert "skeleton" not in text.lower() and "shop" in text.lower()
    assert (project / "include/spark/shop_floor.py").read_text().startswith('"""Shop floor: ')


def test_the_declaration_is_written_last(project: Path) -> None:
    assert str(new_pipeline.make("turnover", project)[-1]) == "include/pipelines/turnover.py"


@pytest.mark.parametrize("name", ["abc", "shop_floor", LONGEST])
def test_generated_files_are_formatted_for_any_name_length(tmp_path: Path, name: str) -> None:
    shutil.copytree(ROOT / "include", tmp_path / "include", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    made = [str(path) for path in new_pipeline.make(name, tmp_path) if path.suffix == ".py"]
    for order in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *order, "--no-cache", *made]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


REFUSED = {
    "": "NAME is missing",
    "Turnover": "not a valid name for a database, a module and a DAG",
    "9lives": "not a valid name",
    "shop-floor": "not a valid name",
    "shop__floor": "not a valid name",
    "shop_": "not a valid name",
    "größe": "not a valid name",
    "../escape": "not a valid name",
    "x; DROP": "not a valid name",
    "ab": "it has 2 characters",
    LONGEST + "a": r"44 characters: a keyspace of Cassandra \(NAME_lake\) allows 48",
    "etl": "the control tables",
    "control": "include/sql/control",
    "minutemark": "the change log",
    "mysql": "the warehouse has a system database",
    "information_schema": "the warehouse has a system database",
    "system": "Cassandra's system keyspaces",
    "system_auth": "Cassandra's system keyspaces",
    "skeleton": "the skeleton uses it as a placeholder",
    "class": "a reserved word in Python",
    "order": "a reserved word in SQL",
    "recruitment": "recruitment is the name of the pipeline recruitment",
    "ecommerce": "ecommerce is the name of the pipeline ecommerce",
}


@pytest.mark.parametrize(("name", "message"), REFUSED.items(), ids=lambda text: text[:20])
def test_a_name_that_some_store_or_program_would_not_accept_is_refused(project: Path, name: str, message: str) -> None:
    with pytest.raises(Problem, match=message) as refused:
        new_pipeline.make(name, project)
    assert refused.value.where == f"make pipeline NAME={name}" and refused.value.remedy
    assert files_of(project) == set()


@pytest.mark.parametrize(
    "existing",
    ["include/spark/lake.py", "include/pipelines/lake.py", "include/demo/lake.py", "include/sql/lake/checks/mine.sql"],
)
def test_nothing_is_overwritten_and_nothing_is_left_behind(project: Path, existing: str) -> None:
    file = project / existing
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("mine")
    named = existing if file.suffix == ".py" else "include/sql/lake"
    with pytest.raises(Problem, match=f"{re.escape(named)} already exists"):
        new_pipeline.make("lake", project)
    assert files_of(project) == {existing} and file.read_text() == "mine"


def test_a_failure_in_the_middle_removes_the_files_that_were_written(project: Path) -> None:
    (project / "include/pipelines").rmdir()  # where the last file belongs
    (project / "include/pipelines").write_text("no folder")
    before = files_of(project)
    with pytest.raises(OSError):
        new_pipeline.make("turnover", project)
    assert files_of(project) == before
    assert not (project / "include/sql/turnover").exists()


def test_the_command_says_where_what_and_what_to_do(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["local", "pipeline", "--name=recruitment"])
    before = files_of(ROOT / "include")
    assert commands.main() == 2
    text = capsys.readouterr().err
    assert "make pipeline NAME=recruitment: " in text and "What to do: Choose another NAME" in text
    assert files_of(ROOT / "include") == before


@pytest.mark.both_servers
def test_every_word_that_a_server_reserves_is_refused(warehouse_server: dict[str, str]) -> None:
    """The words that the server lists as keywords, and refuses as the name of a database."""
    with warehouse("warehouse_admin") as conn:
        cursor = conn.cursor()
        cursor.execute("SELECT LOWER(word) FROM information_schema.keywords")
        words = {word for (word,) in cursor.fetchall() if re.fullmatch("[a-z_][a-z0-9_]*", word)}
        reserved = {word for word in words if not is_database_name(cursor, word)}
    assert len(words) > 500 and {"select", "order"} <= reserved
    accepted = {word for word in reserved if is_accepted(word)}
    assert not accepted, f"local/sql_words.txt lacks {sorted(accepted)}"


def is_database_name(cursor, word: str) -> bool:
    syntax_error = 1064
    try:
        cursor.execute(f"SHOW CREATE DATABASE {word}")
    except Exception as error:
        return error.args[0] != syntax_error
    return True


def is_accepted(word: str) -> bool:
    try:
        new_pipeline._check(word)
    except Problem:
        return False
    return True
