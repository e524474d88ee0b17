"""The lines of the page's scripts are short enough: Biome does not break long strings."""

from __future__ import annotations

import pytest

from local.layout import ROOT

SCRIPTS = sorted((ROOT / "include" / "page" / "static").glob("*.js"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_lines_have_at_most_120_characters(script) -> None:
    lines = script.read_text(encoding="utf-8").splitlines()
    assert not [f"{number}: {line}" for number, line in enumerate(lines, 1) if len(line) > 120]
