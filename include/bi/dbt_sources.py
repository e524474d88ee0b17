"""The views for BI tools as sources of a dbt project, and how fresh each pipeline is.

Descriptions come from include/warehouse/bi_views.py. docs/dbt/sources.yml is the output. The format is that of dbt 1.7, the
newest version with an adapter for MySQL: it supports neither `data_tests` nor `freshness` and `loaded_at_field` in `config`.
"""

from __future__ import annotations

from collections.abc import Iterable

import yaml

from include import pipelines
from include.pipelines import Pipeline
from include.warehouse import bi_views
from include.warehouse.bi_views import View

HEADER = (
    "# Written by `./minutemark dbt-sources`. Copy it into the models folder of a dbt project: see docs/assets.md.\n"
)
# dbt compares with the clock of its session, whose time zone is the server's.
_LOADED_AT = "convert_tz(newest_create_time, '+00:00', @@session.time_zone)"


def sources(selection: Iterable[Pipeline]) -> str:
    """The YAML of these pipelines. Raises ViewNotDescribed."""
    selected_pipelines = list(selection)
    document = {"version": 2, "sources": [*map(_views, selected_pipelines), _bookkeeping(selected_pipelines)]}
    return HEADER + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def _views(pipeline: Pipeline) -> dict:
    return {
        "name": pipeline.name,
        "description": pipeline.description,
        "schema": pipeline.database,
        "tables": [_view(view) for view in bi_views.views_of(pipeline)],
    }


def _view(view: View) -> dict:
    columns = [
        {"name": column.name, "description": column.description, "data_type": column.type, "tests": ["not_null"]}
        for column in view.columns
    ]
    return {"name": view.name.partition(".")[2], "description": view.grain, "columns": columns}


def _bookkeeping(selected_pipelines: list[Pipeline]) -> dict:
    return {
        "name": "minutemark",
        "description": "What the pipelines record about themselves.",
        "schema": "etl",
        "tables": [
            {
                "name": f"{pipeline.name}_freshness",
                "identifier": "freshness",
                "description": (
                    f"Newest published event of {pipeline.name}. The freshness check also fails if the source sends nothing."
                ),
                "loaded_at_field": _LOADED_AT,
                "freshness": {
                    "warn_after": {"count": 10, "period": "minute"},
                    "error_after": {"count": 60, "period": "minute"},
                    "filter": f"pipeline = '{pipeline.name}'",
                },
            }
            for pipeline in selected_pipelines
        ],
    }


def sources_of_all() -> str:
    """The YAML of all pipelines. Raises ViewNotDescribed."""
    return sources(pipelines.all_pipelines().values())
