"""The views for BI tools, as include/sql/<pipeline>/bi_views.sql describes them: grain, columns, types and meanings.

Views in MySQL have no comments. The descriptions in BigQuery, in dbt's sources and in docs/bi-tools.md come from here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from include.errors import MinutemarkError
from include.pipelines import Pipeline
from include.warehouse.sql import SqlFile, files

FILE = "bi_views.sql"
_VIEW = re.compile(
    r"^-- (?P<grain>One row per .*)\nCREATE OR REPLACE VIEW (?P<name>\w+\.\w+) AS\nSELECT\n", re.MULTILINE
)
_COLUMN = re.compile(r"  -- (?P<type>[A-Z]+(?:\([\d, ]+\))?): (?P<description>.*)\n(?P<value>(?:(?!  -- ).*\n)+)")
_NAME = re.compile(r"\b(\w+),?\s*\Z")


class ViewNotDescribed(MinutemarkError):
    """A view for BI tools without its grain, or a column without type and description."""


@dataclass(frozen=True)
class Column:
    """A column that is never NULL."""

    name: str
    type: str  # DATETIME, DATETIME(6), BIGINT, DECIMAL(p, s) or VARCHAR(n), as MySQL writes it
    description: str


@dataclass(frozen=True)
class View:
    """A flat view, with a column `hour_utc` to filter by."""

    name: str  # database.view
    grain: str
    columns: tuple[Column, ...]


def views_of(pipeline: Pipeline) -> list[View]:
    """The pipeline's views for BI tools, in the order of the file. Raises ViewNotDescribed."""
    return [view for file in files(pipeline, FILE) for view in parse_views(file)]


def views_of_all(pipelines: Iterable[Pipeline]) -> list[View]:
    """The views of several pipelines. Raises ViewNotDescribed."""
    return [view for pipeline in pipelines for view in views_of(pipeline)]


def parse_views(file: SqlFile) -> Iterator[View]:
    """The views of a file. Raises ViewNotDescribed."""
    heads = list(_VIEW.finditer(file.text))
    if len(heads) != file.text.count("CREATE OR REPLACE VIEW"):
        raise ViewNotDescribed(
            f"{file.source}: a view lacks its grain. Write a line `-- One row per …` above CREATE OR REPLACE VIEW."
        )
    for head in heads:
        body = file.text[head.end() : file.text.index("\nFROM ", head.end()) + 1]
        yield View(head["name"], head["grain"], tuple(_columns(file, head["name"], body)))


def _columns(file: SqlFile, view: str, body: str) -> Iterator[Column]:
    end = 0
    for part in _COLUMN.finditer(body):
        if part.start() != end:
            break
        yield Column(_NAME.search(part["value"])[1], part["type"], part["description"])  # ty: ignore[not-subscriptable]
        end = part.end()
    if end != len(body):
        line = body[end:].splitlines()[0].strip()
        raise ViewNotDescribed(
            f"{file.source}: {view} has no description at `{line}`. Write `-- TYPE: meaning` above each column."
        )
