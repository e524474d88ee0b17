"""The README stays short, and the paths that it names exist."""

from __future__ import annotations

import re

import pytest

from include import pipelines
from local.layout import ROOT
from tests.docs.pages import README, text_of

MAX_WORDS = 1_000  # code blocks and tables count
LONGEST_LINE = 120  # code blocks and tables count

TEXT = text_of(README)
TABLE = TEXT.partition("## To change X, open Y")[2].partition("\n## ")[0]
PATHS = re.findall(r"`((?:[\w.<>-]+/)*[\w.<>-]*)`", re.sub(r"^\|[^|]*\|", "", TABLE, flags=re.MULTILINE))


def test_the_readme_is_short():
    words = len(TEXT.split())
    assert words <= MAX_WORDS, f"README.md has {words} words, more than {MAX_WORDS}: move some text to docs/."


def test_its_lines_fit():
    long = [f"{number}: {line}" for number, line in enumerate(TEXT.splitlines(), 1) if len(line) > LONGEST_LINE]
    assert not long, f"README.md: lines of more than {LONGEST_LINE} characters: {long}"


def test_the_table_names_paths():
    assert len(PATHS) > 20


@pytest.mark.parametrize("path", PATHS)
def test_every_path_to_open_exists(path):
    for pipeline in pipelines.all_pipelines():
        assert (ROOT / path.replace("<pipeline>", pipeline)).exists(), f"README.md: {path} does not exist."
