"""The derived lineage of a message matches the lake columns that each of its fields changes."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from include import column_lineage, pipelines
from include.lake.json_objects import JsonObjects
from include.lake.keys import minute_of, shard_of
from include.lake.writer import event_id, payload_of
from include.pipelines import Pipeline

CLOCK = datetime(2026, 3, 1, 13)
TIMES = ("0e207ccf-156b-11f1-8000-0a0b0c0d0e0f", "5e207ccf-156c-11f1-8000-0a0b0c0d0e0f")  # in different minutes
IDS = ("a", "b")
SHARDS = 1_000_003  # so many that the two ids have different shards


def lake_row(pipeline: Pipeline, message: dict[str, str]) -> dict[str, object]:
    """The columns of the lake's row for this message."""
    objects = JsonObjects(pipeline, CLOCK, "message")
    values, text = objects.identified(json.dumps(message))
    event = objects.event(text, values)
    row = {
        "minute": minute_of(event.create_time),
        "shard": shard_of(event_id(pipeline, event), SHARDS),
        "create_time": event.create_time,
        pipeline.event_id: event_id(pipeline, event),
    }
    return row | {f"payload.{name}": value for name, value in json.loads(payload_of(event)).items()}


def messages(pipeline: Pipeline) -> list[tuple[dict[str, str], tuple[str, ...]]]:
    """Messages with the fields to change: one with create_time and, if the pipeline can derive it, one without."""
    timed = {pipeline.event_time: "2026-03-01 12:34:56"} if pipeline.event_time else {}
    message = dict.fromkeys(pipeline.fields, "1") | timed | {pipeline.event_id: IDS[0]} | {"create_time": TIMES[0]}
    untimed = {name: value for name, value in message.items() if name != "create_time"}
    # Without an id, a change of any field would change the generated id.
    identified = tuple(untimed) if pipeline.event_id in untimed else (pipeline.event_time,)
    return [(message, tuple(message)), *([(untimed, identified)] if pipeline.event_time else [])]


def changed_value(pipeline: Pipeline, name: str) -> str:
    known = {"create_time": TIMES[1], pipeline.event_time: "2026-03-01 12:36:56"}
    return known.get(name, IDS[1])


@pytest.mark.parametrize("pipeline", pipelines.all_pipelines().values(), ids=lambda pipeline: pipeline.name)
def test_each_field_changes_the_columns_that_come_from_it(pipeline):
    changed: dict[str, set[str]] = {}
    for message, fields in messages(pipeline):
        before = lake_row(pipeline, message)
        for name in fields:
            after = lake_row(pipeline, message | {name: changed_value(pipeline, name)})
            for column, value in after.items():
                if before[column] != value:
                    changed.setdefault(column, set()).add(name)
    columns = column_lineage.pipeline_data_sets(pipeline.name)[f"cassandra {pipeline.lake_table}"]["columns"]
    derived = {
        name: set(column["from"][f"kafka {pipeline.topic}"]) for name, column in columns.items() if "from" in column
    }
    changed.pop("payload.create_time", None)  # it is not one of the declared fields
    assert changed == derived
