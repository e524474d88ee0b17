"""The texts that a new user reads first are plain English: none of the words that only this project used."""

from __future__ import annotations

import ast
import re

import pytest

from local.layout import ROOT
from tests.docs.pages import prose_of, text_of

# Each with what to write instead.
DIALECT = {
    r"\btold\b": "reported, notified",
    r"\banew\b": "again",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bwhoever\b": "users who",
    r"\breckon(s|ed|ing)?\b": "calculate",
    r"\bbegun\b": "started",
    r"\basked\b": "queried, requested",
    r"(?<!there )\b(is|are) no ": "is not a",
    r"\bwho may\b": "users with permission to",
}
PAGES = (
    "CONTRIBUTING.md",
    "README.md",
    "docs/assets.md",
    "docs/bi-tools.md",
    "docs/bigquery.md",
    "docs/coming-from.md",
    "docs/commands.md",
    "docs/how-it-works.md",
    "docs/lakehouse.md",
    "docs/samples.md",
)


def complaints(text: str) -> list[str]:
    """Where a text has one of the words, with the line's number."""
    return [
        f"{number}: {found[0]!r} (write: {better}) in {line.strip()}"
        for number, line in enumerate(text.splitlines(), 1)
        for word, better in DIALECT.items()
        if (found := re.search(word, line, re.IGNORECASE))
    ]


def texts_of_python(path: str) -> str:
    """The strings of a module that have a space; of docstrings only a DAG module's, which Airflow's UI shows."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    kinds = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    hidden = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, kinds)}
    if path.startswith("dags/") or path == "plugins/minute_dag.py":
        hidden.discard(ast.get_docstring(tree, clean=False))
    strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return "\n".join(text for text in strings if " " in text and text not in hidden)


def texts_of_script(path: str) -> str:
    """Every string of a script that has a space, without the code in it."""
    script = re.sub(r"^\s*//.*$", "", (ROOT / path).read_text(encoding="utf-8"), flags=re.MULTILINE)
    strings = [found[0][1:-1] for found in re.finditer(r'"[^"\n]*"|`[^`]*`', script)]
    return "\n".join(re.sub(r"\$\{[^}]*\}", "", text) for text in strings if " " in text)


def help_of_make() -> str:
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if "## " in line or "@echo" in line)


def files(folder: str, pattern: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / folder).glob(pattern))


PYTHON = [*files("dags", "*.py"), "plugins/minute_dag.py", "plugins/pipelines_page.py", *files("local", "*.py")]
SCRIPTS = files("include/page/static", "*.js")
BOARDS = [*files("dashboards/superset", "*/*/*.yaml"), *files("dashboards/grafana", "*/*.json")]


@pytest.mark.parametrize("page", PAGES)
def test_pages(page):
    assert not complaints(prose_of(text_of(ROOT / page)))


def test_help_of_make():
    assert not complaints(help_of_make())


@pytest.mark.parametrize("path", PYTHON)
def test_texts_of_dags_and_commands(path):
    assert not complaints(texts_of_python(path))


@pytest.mark.parametrize("path", SCRIPTS)
def test_texts_of_the_pipelines_page(path):
    assert not complaints(texts_of_script(path))


@pytest.mark.parametrize("path", BOARDS)
def test_titles_of_the_boards(path):
    titles = [line for line in text_of(ROOT / path).splitlines() if re.search(r"name|title|description", line, re.I)]
    assert not complaints("\n".join(titles))


def test_the_words_are_found():
    assert [complaint.partition(" (")[0] for complaint in complaints("Who may read it\nis told.\nIt is no number")] == [
        "1: 'Who may'",
        "2: 'told'",
        "3: 'is no '",
    ]


def test_texts_are_read_from_their_files():
    assert "Oldest unmerged change" in texts_of_script("include/page/static/minutes.js")
    assert "Number of events to send in this minute." in texts_of_python("dags/demo_traffic.py")
    assert "list the targets" in help_of_make()
