"""docs/samples.md: its events, through the real import, Spark job, gates and merge, give exactly the tables that it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from include import listing, pipelines
from include.files.imports import import_events
from include.lake.session import lake
from include.pipelines import Pipeline
from include.warehouse.session import rows, warehouse
from local.layout import ROOT
from tests.docs.pages import text_of
from tests.notebooks import history

PAGE = text_of(ROOT / "docs" / "samples.md")
SECTION = re.compile(r"^## (\w+)$(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
EVENTS_OR_QUERY = re.compile(
    r"^```json\n(?P<events>.*?)\n```$|^```(?P<language>sql|cql)\n(?P<query>.*?)\n```\n```\n(?P<shown>.*?)```$",
    re.MULTILINE | re.DOTALL,
)
SECTIONS = dict(SECTION.findall(PAGE))


def answer(language: str, query: str) -> str:
    """The rows of a query, as the page shows them."""
    if language == "cql":
        with lake("lake_reader") as session:
            result = [row._asdict() for row in session.execute(query)]
    else:
        with warehouse() as conn:
            result = rows(conn.cursor(), query)
    return "\n".join([*listing.table(result, {name: name for name in result[0]}), ""])


def with_answers(pipeline: Pipeline, section: str, folder: Path) -> str:
    """The section with the current results of its queries, after each of its groups of events was imported and merged."""

    def fill(part: re.Match) -> str:
        if events := part["events"]:
            file = folder / f"events-{part.start()}.jsonl"
            lines = re.sub(r"\n +", " ", events)  # the page wraps and indents long events
            file.write_text(lines + "\n")
            assert import_events(pipeline, file).written == len(lines.splitlines())
            history.run(pipeline)
            return part[0]
        shown = answer(part["language"], part["query"])
        return f"```{part['language']}\n{part['query']}\n```\n```\n{shown}```"

    return EVENTS_OR_QUERY.sub(fill, section)


@pytest.mark.parametrize("name", SECTIONS)
def test_every_table_follows_from_the_events_above_it(name: str, schemas: None, tmp_path: Path) -> None:
    assert with_answers(pipelines.get(name), SECTIONS[name], tmp_path) == SECTIONS[name]


def test_there_is_a_sample_of_each_pipeline() -> None:
    assert SECTIONS.keys() == pipelines.all_pipelines().keys()
