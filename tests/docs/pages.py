"""What the tests read from README.md, CONTRIBUTING.md and docs/: links, anchors, make targets, prose without code."""

from __future__ import annotations

import re
from pathlib import Path

from local.layout import ROOT

README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose_of(text: str) -> str:
    """The text without its fenced code blocks."""
    return _FENCE.sub("", text)


def anchors_of(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings: lower case, spaces as hyphens, other punctuation dropped."""
    titles = re.findall(r"^#+ (.+)$", prose_of(text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links_of(page: Path) -> list[str]:
    """The targets within the project of a page's links and pictures."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose_of(text_of(page)))
    return [target for target in targets if not re.match(r"https?://|mailto:", target)]


def make_targets() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return {
        name for names in re.findall(r"^(?:COMMANDS :=|\.PHONY:) (.*)$", text, re.MULTILINE) for name in names.split()
    }


def commands_of(page: Path) -> set[str]:
    """The targets of `make` commands, in code blocks and in sentences."""
    text = text_of(page)
    blocks = "".join(_FENCE.findall(text))
    return {*re.findall(r"`make ([a-z][a-z-]*)", text), *re.findall(r"^make ([a-z][a-z-]*)", blocks, re.MULTILINE)}
