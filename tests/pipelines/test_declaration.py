"""What a declaration refuses: a name that the machinery would confuse with another fails when it is declared, not in a run."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from include import pipelines
from include.pipelines import Pipeline
from include.pipelines.lakehouse import Lakehouse
from include.spark import contract
from include.spark.lake import key_of

SHOP, RECRUITMENT = pipelines.get("ecommerce"), pipelines.get("recruitment")


def with_fields(*names: str) -> Pipeline:
    return replace(SHOP, fields=(*SHOP.fields, *names))


@pytest.mark.parametrize(
    "name",
    ["_all", "_parsed", "_names", "_unknown", "_present_0", "_unreadable_other", "is_object", "payload", "minute", "shard"]
    + ["created_at", "fate", "kind", "reason", "event"]
    + ["_minute", "_shard", "_day", "_lake_table", "_minutemark_occurrence"],
)  # fmt: skip
def test_a_field_with_the_name_of_an_internal_column_is_refused(name):
    for spelled in (name, name.upper()):
        with pytest.raises(ValueError, match=f"cannot be named {spelled}: .* read it from payload"):
            with_fields(spelled)


def test_the_name_of_every_column_of_the_contract_is_refused():
    """The pipeline has more fields than fit in one word of bits."""
    wide = replace(SHOP, fields=(*SHOP.fields, *(f"f{number}" for number in range(200))), numbers=("price",))
    for name in contract.columns(wide, key_of(wide)):
        with pytest.raises(ValueError, match="cannot be named"):
            with_fields(name)


@pytest.mark.parametrize("names", [("brand",), ("Brand",), ("mood", "MOOD")])
def test_fields_that_differ_in_case_only_are_refused(names):
    with pytest.raises(ValueError, match=f"{names[-1]}, which Spark cannot distinguish"):
        with_fields(*names)


@pytest.mark.parametrize("name", ["geo.city", "a`b", ""])
def test_a_name_that_cannot_be_a_single_column_is_refused(name):
    with pytest.raises(ValueError, match="a dot or a backtick"):
        with_fields(name)


@pytest.mark.parametrize(
    "name", ["create_time", "event_date", "kinds", "_present", "Straße", "order", "user-agent", "a'b"]
)
def test_other_names_are_accepted(name):
    assert name in with_fields(name).fields


@pytest.mark.parametrize("name", ["eventId", "event-id", "_id", "1st", ""])
def test_an_id_that_cannot_name_a_column_of_the_lake_is_refused(name):
    with pytest.raises(ValueError, match="event_id is .* lower-case letters"):
        replace(SHOP, event_id=name, fields=(*SHOP.fields, "eventId"))


@pytest.mark.parametrize("name", ["minute", "shard", "payload"])
def test_an_id_with_the_name_of_another_column_of_the_lake_is_refused(name):
    with pytest.raises(ValueError, match=f"event_id is '{name}'"):
        replace(SHOP, event_id=name)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"null_words": ("NULL")}, r"null_words is the string 'NULL': write a tuple, with a comma: \('NULL',\)"),
        ({"required": "id"}, "required is the string 'id'"),
        (
            {"event_time": "eventtime"},
            "event_time, fact_time or kind_column use names that are not in fields: eventtime. Correct them",
        ),
        ({"fact_time": "tS"}, "kind_column use names that are not in fields: tS"),
        ({"kind_column": "type"}, "kind_column use names that are not in fields: type"),
        ({"shards": 0}, "shards is 0: write 1 or more"),
        ({"outputs": SHOP.outputs * 2}, "have the name operations: choose another"),
        ({"lakehouse": Lakehouse("ecommerce.events", "visits", ("views",))}, "fact visits has no plain sum views"),
        (
            {"lakehouse": Lakehouse("ecommerce.events", "visits", ("removals",))},
            "fact visits has no plain sum removals",
        ),
        (
            {"lakehouse": Lakehouse("ecommerce.events", "sales", ("views",))},
            "the key of fact sales is not `hour` alone",
        ),
        ({"times": ()}, "its lakehouse counts hours of event_time, which is not in times"),
        ({"event_id": "key"}, "its lakehouse needs a column for event_id key. Add it to fields"),
        ({"lake_retention": timedelta(days=999_999)}, "lake_retention is 999999 days"),
        ({"lake_retention": timedelta()}, "lake_retention is 0"),
    ],
)
def test_a_declaration_that_would_fail_in_a_run_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        replace(SHOP, **values)


def test_a_dimension_without_its_key_among_its_columns_is_refused():
    with pytest.raises(ValueError, match="Dimension job: its key id is not in columns"):
        replace(RECRUITMENT.dimensions[0], columns=("title",))


def test_a_lakehouse_table_without_a_namespace_is_refused():
    with pytest.raises(ValueError, match="'events': write namespace.table"):
        Lakehouse("events", "visits", ("visits",))


def test_a_pipeline_in_a_file_of_another_name_is_refused_and_replaces_nothing(tmp_path, monkeypatch):
    (tmp_path / "zshop.py").write_text("from include.pipelines.ecommerce import PIPELINE\n")
    monkeypatch.setattr(pipelines, "__path__", [*pipelines.__path__, str(tmp_path)])
    pipelines.all_pipelines.cache_clear()
    try:
        with pytest.raises(ValueError, match=r"zshop\.py declares the pipeline 'ecommerce': name it 'zshop'"):
            pipelines.all_pipelines()
    finally:
        pipelines.all_pipelines.cache_clear()


@pytest.mark.parametrize(
    ("clock", "first"), [("12:34:00", "12:34"), ("12:34:00.000001", "12:35"), ("12:34:59.999999", "12:35")]
)
def test_the_first_open_minute_is_the_first_that_the_lake_still_has_in_full(clock, first):
    lake_clock, first = (datetime.fromisoformat(f"2026-03-02 {time}") for time in (clock, first))
    pipeline = replace(SHOP, lake_retention=timedelta(days=1))
    yesterday = first - timedelta(days=1)
    assert pipeline.first_open(lake_clock) == yesterday
    assert not pipeline.is_closed(yesterday, lake_clock)
    assert pipeline.is_closed(yesterday - timedelta(minutes=1), lake_clock)
    assert not replace(SHOP, lake_retention=None).is_closed(datetime(2000, 1, 1), lake_clock)


@pytest.mark.parametrize(
    ("retention", "words"),
    [(timedelta(days=30), "30 days"), (timedelta(days=1), "1 day"), (timedelta(hours=36), "36 hours")],
)
def test_messages_name_the_retention_of_the_lake_in_whole_units(retention, words):
    assert replace(SHOP, lake_retention=retention).retention_text == f"{SHOP.lake_table} keeps events for {words}"
