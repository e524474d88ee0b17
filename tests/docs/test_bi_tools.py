"""docs/bi-tools.md describes the views for BI tools as include/sql/*/bi_views.sql does."""

from __future__ import annotations

import pytest

from include import pipelines
from include.warehouse import bi_views
from local.layout import ROOT
from tests.docs.pages import text_of

PAGE = text_of(ROOT / "docs" / "bi-tools.md")
VIEWS = bi_views.views_of_all(pipelines.all_pipelines().values())


def section(view: bi_views.View) -> str:
    """The page's text about a view."""
    rows = [f"| `{column.name}` | {column.type} | {column.description} |" for column in view.columns]
    return "\n".join(
        [f"### `{view.name}`\n", f"{view.grain}\n", "| column | type | meaning |", "|---|---|---|", *rows, ""]
    )


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_the_page_describes_every_column(view: bi_views.View) -> None:
    assert section(view) in f"{PAGE}\n", f"docs/bi-tools.md: write this section:\n\n{section(view)}"


def test_the_page_describes_no_other_view() -> None:
    described = [line for line in PAGE.splitlines() if line.startswith("### ")]
    assert sorted(described) == sorted(f"### `{view.name}`" for view in VIEWS)
