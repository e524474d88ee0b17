"""The derived lineage of a message is what its fields change in the lake, tried field by field."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from include import column_lineage, pipelines
from include.lake.keys import minute_of, shard_of
from include.lake.writer import event_id, payload_of
from include.operations.json_events import JsonObjects
from include.pipelines import Pipeline

CLOCK = datetime(2026, 3, 1, 13)
TIMES = ("0e207ccf-156b-11f1-8000-0a0b0c0d0e0f", "5e207ccf-156c-11f1-8000-0a0b0c0d0e0f")  # of other minutes
IDS = ("a", "c")  # of other shards


def stored(pipeline: Pipeline, message: dict[str, str]) -> dict[str, object]:
    """The columns of the lake's row."""
    objects = JsonObjects(pipeline, CLOCK, "message")
    values, text = objects.identified(json.dumps(message))
    event = objects.event(text, values)
    row = {
        "minute": minute_of(event.create_time),
        "shard": shard_of(event_id(pipeline, event), pipeline.shards),
        "create_time": event.create_time,
        pipeline.event_id: event_id(pipeline, event),
    }
    return row | {f"payload.{name}": value for name, value in json.loads(payload_of(event)).items()}


def messages(pipeline: Pipeline) -> list[dict[str, str]]:
    """With a create_time and, if the pipeline makes one of another field, without."""
    message = dict.fromkeys(pipeline.fields, "1") | {"create_time": TIMES[0], pipeline.event_id: IDS[0]}
    if pipeline.event_id == "create_time":
        return [message | {"create_time": TIMES[0]}]
    timed = message | {pipeline.event_time: "2026-03-01 12:34:56"}
    return [timed, {name: value for name, value in timed.items() if name != "create_time"}]


def other(pipeline: Pipeline, name: str) -> str:
    known = {"create_time": TIMES[1], pipeline.event_time: "2026-03-01 12:36:56"}
    return known.get(name, IDS[1])


@pytest.mark.parametrize("pipeline", pipelines.all_pipelines().values(), ids=lambda one: one.name)
def test_each_field_changes_the_columns_that_come_from_it(pipeline):
    changed: dict[str, set[str]] = {}
    for message in messages(pipeline):
        before = stored(pipeline, message)
        for name in message:
            after = stored(pipeline, message | {name: other(pipeline, name)})
            for column, value in after.items():
                if before[column] != value:
                    changed.setdefault(column, set()).add(name)
    columns = column_lineage.of_pipeline(pipeline.name)[f"cassandra {pipeline.lake_table}"]["columns"]
    derived = {name: set(of["from"][f"kafka {pipeline.topic}"]) for name, of in columns.items() if "from" in of}
    changed.pop("payload.create_time", None)  # it is not one of the declared fields
    assert changed == derived
