"""Every text of the project is plain English: none of the words that only this project used, in prose, names or messages."""

from __future__ import annotations

import functools
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator

import pytest

from local.layout import ROOT
from tests.docs.pages import prose_of

# Each pattern with what to write instead.
DIALECT = {
    r"\btold\b": "reported, notified",
    r"\btell(s|ing)?\b": "report, notify, distinguish",
    r"\banew\b": "again",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bwhoever\b": "users who",
    r"\breckon(s|ed|ing)?\b": "calculate",
    r"\bbegun\b": "started",
    r"\basked\b": "queried, requested",
    r"\bsaid\b": "reported, logged",
    r"\bunheard\b": "without an answer",
    r"(?<!there )\b(is|are|was|were) no (?!(longer|more)\b)": "is not a",
    r"\bwho may\b": "users with permission to",
    r"\bwork(s|ed|ing)? off\b": "process",
    r"\bt(ake|akes|aken|ook|aking) in\b": "ingest, consume",
    r"\bgo(es|ing|ne)? on\b": "continue, resume",
    r"\bways? in\b": "ingest mode, writer",
    r"\bNone where\b": "None if",
    r"\brecount\w*": "verify",
    r"\bto blame\b": "responsible",
    r"\bis minded\b": "is handled",
    r"(^|\. |\| )So it is\b": "The same holds for",
}
# Good uses: what people have stored or receive, and the words of others.
ALLOWED = (
    r"\btold_at\b",  # a column of etl.alerts
    r'"told"',  # a field of `make status JSON=1`
    r'"begun"|# begun, reminder or over',  # the state in the JSON of the webhook
    r"; none where they have fewer than",  # the rule of the Decide board
)
ALLOWED_NAMES = {"told_at", "tell"}  # the column, and a method of Python's files
_KINDS = ("cfg", "cql", "css", "env", "html", "ipynb", "java", "js", "json", "md", "py", "sql", "toml", "yaml", "yml")
_NAMES = ("Dockerfile", "Makefile", ".env", ".gitignore", "requirements.txt", "packages.txt")
_NOT_OURS = re.compile(r"/(answers_of|routes_of)_|^tests/docs/test_english\.py$|^\.local/|^\.git/")
LONGEST_LINE = 120


@functools.cache
def files() -> list[str]:
    """The project's texts: those that git lists or, in an image without git, all files of these kinds."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    result = listed.stdout.split("\0") if listed.returncode == 0 else map(str, _files_in_folders())
    return sorted(
        name
        for name in result
        if (name.rpartition(".")[2] in _KINDS or name.rpartition("/")[2] in _NAMES)
        and not _NOT_OURS.search(name)
        and (ROOT / name).is_file()
    )


def _files_in_folders() -> Iterator:
    return (path.relative_to(ROOT) for path in ROOT.rglob("*") if ".local" not in path.parts and path.is_file())


def lines_of_python(source: str) -> Iterator[tuple[int, str]]:
    """Comments and strings line by line, and each name with spaces instead of underscores."""
    texts = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING), tokenize.COMMENT}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in texts:
            yield from enumerate(token.string.split("\n"), token.start[0])
        elif token.type == tokenize.NAME and token.string not in ALLOWED_NAMES:
            yield token.start[0], token.string.replace("_", " ")


def lines_of(name: str) -> list[tuple[int, str]]:
    text = (ROOT / name).read_text(encoding="utf-8")
    if name.endswith(".py"):
        return list(lines_of_python(text))
    return list(enumerate(text.split("\n"), 1))


def complaints(lines: Iterator[tuple[int, str]] | list[tuple[int, str]]) -> list[str]:
    """Where a text has one of the words, with the line's number."""
    cleaned = (
        (number, line, functools.reduce(lambda text, use: re.sub(use, "", text), ALLOWED, line))
        for number, line in lines
    )
    return [
        f"line {number}: {match[0].strip()!r} (write: {better}) in {line.strip()[:150]}"
        for number, line, text in cleaned
        for word, better in DIALECT.items()
        if (match := re.search(word, text, re.IGNORECASE))
    ]


@pytest.mark.parametrize("name", files())
def test_no_word_of_a_private_dialect(name):
    assert not complaints(lines_of(name))


@pytest.mark.parametrize("name", [name for name in files() if name.endswith(".md")])
def test_lines_of_prose_fit_120_characters(name):
    prose = prose_of((ROOT / name).read_text(encoding="utf-8"))
    long = [line for line in prose.split("\n") if len(line) > LONGEST_LINE and not re.match(r"\||!?\[|<|\S+$", line)]
    assert not long, f"Wrap these lines of {name} at {LONGEST_LINE} characters: {long}"


def test_words_of_the_dialect_are_reported():
    text = "Who may read it\nis told.\nIt is no number, and there is no other\nwhat told_at says"
    assert [complaint.partition(" (")[0] for complaint in complaints(list(enumerate(text.split("\n"), 1)))] == [
        "line 1: 'Who may'",
        "line 2: 'told'",
        "line 3: 'is no'",
    ]


def test_comments_strings_and_names_of_python_are_read():
    source = '"""One who\n\nis told."""\n\n\ndef is_told(asked):  # anew\n    return f"{asked} is no number"\n'
    words = [complaint.partition(" (")[0] for complaint in complaints(lines_of_python(source))]
    assert {word.partition(": ")[2] for word in words} == {"'told'", "'asked'", "'anew'", "'is no'"}
    assert words[0] == "line 3: 'told'"


def test_all_kinds_of_text_are_read():
    assert {"README.md", "Makefile", "dags/minute.py", "include/page/static/page.js"} <= set(files())
    assert any(name.endswith(".sql") for name in files()) and any(name.endswith(".yaml") for name in files())
