"""docs/dbt/sources.yml equals the output of `./minutemark dbt-sources`, and names existing views and columns."""

from __future__ import annotations

import yaml

from include import pipelines
from include.bi import dbt_sources
from include.warehouse import bi_views
from local.layout import ROOT

TEXT = (ROOT / "docs" / "dbt" / "sources.yml").read_text(encoding="utf-8")


def test_the_file_equals_the_output_of_the_command():
    assert dbt_sources.sources(pipelines.all_pipelines().values()) == TEXT, (
        "Run: ./minutemark dbt-sources > docs/dbt/sources.yml"
    )


def test_it_describes_every_column_of_the_views_and_the_freshness_of_each_pipeline():
    by_name = {source["name"]: source for source in yaml.safe_load(TEXT)["sources"]}
    described = {
        f"{by_name[pipeline]['schema']}.{table['name']}": [column["name"] for column in table["columns"]]
        for pipeline in pipelines.all_pipelines()
        for table in by_name[pipeline]["tables"]
    }
    views = bi_views.views_of_all(pipelines.all_pipelines().values())
    assert described == {view.name: [column.name for column in view.columns] for view in views}
    tested = [
        column["tests"]
        for pipeline in pipelines.all_pipelines()
        for table in by_name[pipeline]["tables"]
        for column in table["columns"]
    ]
    assert tested == [["not_null"]] * sum(map(len, described.values()))
    filters = [table["freshness"]["filter"] for table in by_name["minutemark"]["tables"]]
    assert filters == [f"pipeline = '{name}'" for name in pipelines.all_pipelines()]
