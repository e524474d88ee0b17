"""Files and headings that the README, CONTRIBUTING.md and the pages of docs/ link to exist, as do make targets that they name."""

from __future__ import annotations

import pytest

from tests.docs.pages import PAGES, anchors_of, commands_of, links_of, make_targets, name_of


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page):
    for link in links_of(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)}: {link} leads to no file."
        if anchor:
            assert anchor in anchors_of(target), f"{name_of(page)}: {link} leads to no heading."


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_exist(page):
    absent = sorted(commands_of(page) - make_targets())
    assert not absent, f"{name_of(page)} names make targets that the Makefile does not have: {absent}"


def test_there_are_links_and_targets_to_check():
    assert sum(len(links_of(page)) for page in PAGES) > 50
    assert make_targets() >= {"run", "test", "verify"}
