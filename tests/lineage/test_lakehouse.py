"""The derived lineage of the lakehouse matches the table columns that each field of an event changes."""

from __future__ import annotations

import json

import pytest

from include import column_lineage, pipelines
from include.pipelines import Pipeline

pytest.importorskip("pyarrow", reason="The lakehouse is not installed: `make test` installs it.")

from include.lakehouse import events  # noqa: E402
from include.lakehouse.table import KEY  # noqa: E402

DECLARED = [pipeline for pipeline in pipelines.all_pipelines().values() if pipeline.lakehouse]


def values(pipeline: Pipeline, minute: int) -> dict[str, str]:
    times = dict.fromkeys(pipeline.times, f"2026-03-01 12:{minute:02}:00")
    return dict.fromkeys(pipeline.fields, str(minute)) | times


@pytest.mark.parametrize("pipeline", DECLARED, ids=lambda pipeline: pipeline.name)
def test_each_field_changes_the_column_that_comes_from_it(pipeline):
    read = events._reader(pipeline)
    first, second = values(pipeline, 1), values(pipeline, 2)
    before = read(json.dumps(first))
    changed: dict[str, set[str]] = {}
    for name in pipeline.fields:
        after = read(json.dumps(first | {name: second[name]}))
        for column in after:
            if after[column] != before[column]:
                changed.setdefault(column, set()).add(f"payload.{name}")
    columns = column_lineage.pipeline_data_sets(pipeline.name)[f"iceberg {pipeline.lakehouse.table}"]["columns"]
    derived = {name: set(column["from"][f"cassandra {pipeline.lake_table}"]) for name, column in columns.items()}
    assert changed == {name: fields for name, fields in derived.items() if name not in KEY}
    assert {name: fields for name, fields in derived.items() if name in KEY} == {name: {name} for name in KEY}
