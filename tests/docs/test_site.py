"""The pages of docs/ build as a site, and a broken link is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from local import bootstrap, docs_site
from local.layout import DOCS, ROOT
from local.problems import Problem

pytestmark = pytest.mark.optional_install


@pytest.fixture(autouse=True)
def mkdocs() -> None:
    if not bootstrap.Stamp(DOCS / ".made-of", docs_site.LOCK, str(bootstrap.find_python())).fits():
        pytest.skip(f"{DOCS} does not match {docs_site.LOCK.name}: `make docs` installs it.")


def test_the_site_has_every_page(tmp_path: Path) -> None:
    docs_site.build(tmp_path)
    pages = {path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")}
    assert pages - {Path("index")} == {path.parent.relative_to(tmp_path) for path in tmp_path.rglob("*/index.html")}


@pytest.mark.parametrize("link", ["absent.md", "index.md#absent"])
def test_a_broken_link_fails_and_is_named(tmp_path: Path, link: str) -> None:
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# Home\n\n[link]({link})\n")
    with pytest.raises(Problem, match=f"'index.md' contains a link '{link}'"):
        docs_site.build(tmp_path / "site", tmp_path / "mkdocs.yml")
