"""The sample in the README is taken from docs/samples.md, which tests/e2e/test_samples.py compares with the real pipelines."""

from __future__ import annotations

import json
import re

import pytest

from local.layout import ROOT
from tests.docs.pages import README, text_of

PAGE = text_of(ROOT / "docs" / "samples.md")
BLOCK = re.search(r"^```\n(event .*?)\n```$", text_of(README), re.MULTILINE | re.DOTALL)[1]
LINES = [line for line in BLOCK.splitlines() if line]
# The page shows a long event in several lines, indented after the first.
EVENTS = [json.loads(line) for line in re.sub(r"\n +", " ", PAGE).splitlines() if line.startswith('{"')]


def rows_of_the_page() -> list[dict[str, str]]:
    """Each row of the page's tables, whose columns are separated by two or more spaces."""
    result = []
    for language, text in re.findall(r"^```(\w*)\n(.*?)\n```$", PAGE, re.MULTILINE | re.DOTALL):
        header, *rows = [re.split(r" {2,}", line.strip()) for line in text.splitlines()]
        result += [] if language else [dict(zip(header, row, strict=True)) for row in rows]
    return result


def values(line: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in re.split(r" {2,}", line) if "=" in pair)


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("event")])
def test_an_event_of_the_readme_is_one_of_the_samples(line: str) -> None:
    fields = json.loads(line.removeprefix("event").strip().replace(", …}", "}")).items()
    assert fields and any(fields <= event.items() for event in EVENTS)


@pytest.mark.parametrize("line", [line for line in LINES if not line.startswith("event")])
def test_a_contribution_or_fact_of_the_readme_is_a_row_of_the_samples(line: str) -> None:
    result = values(line).items()
    assert len(result) > 3 and any(result <= row.items() for row in rows_of_the_page())


def test_the_readme_shows_both_pipelines() -> None:
    assert [line.split()[0] for line in LINES] == ["event", "contribution", "fact"] * 2
