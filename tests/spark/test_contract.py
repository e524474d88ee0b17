"""Counts of a minute's fields: present ones, unreadable ones, and undeclared ones."""

from __future__ import annotations

import dataclasses
import json
import time
from datetime import timedelta

import pytest
from pyspark.sql import SparkSession

from include.pipelines import Pipeline
from include.spark import contract, lake, recruitment, run, staging
from include.spark.fate import IS_MISSING
from tests.spark.rows import MINUTE, PIPELINE, click, lake_frame, raw_frame


def counts_of(spark: SparkSession, *rows, pipeline: Pipeline = PIPELINE) -> dict[str, dict[str, int]]:
    """The counts that staging has for a minute with these rows."""
    rows_with_fates = run.materialized(raw_frame(spark, *rows), recruitment, pipeline, {})
    return counts_of_frame(rows_with_fates, pipeline)


def counts_of_each(spark: SparkSession, *rows) -> list[dict[str, dict[str, int]]]:
    """The counts that staging has for minutes with one of these rows each; one job reads them all."""
    minutes = [MINUTE + timedelta(minutes=number) for number in range(len(rows))]
    result = [row.asDict() for row in raw_frame(spark, *rows).collect()]
    each = [{**row, "minute": f"{minute}Z"} for row, minute in zip(result, minutes, strict=True)]
    rows_with_fates = run.materialized(lake_frame(spark, *each), recruitment, PIPELINE, {})
    counted = staging.counts(1, minutes, staging.count_minutes(rows_with_fates, PIPELINE), PIPELINE, {})
    return [json.loads(row[-1]) for row in counted]


def counts_of_frame(rows_with_fates, pipeline: Pipeline) -> dict[str, dict[str, int]]:
    counted = staging.count_minutes(rows_with_fates, pipeline)
    unknown = contract.unknown_by_minute(rows_with_fates)
    assert bool(unknown) == any(row.with_unknown for row in counted)
    [row] = staging.counts(1, [MINUTE], counted, pipeline, unknown)
    return json.loads(row[-1])


def test_a_word_for_null_does_not_count_as_present(spark: SparkSession) -> None:
    result = counts_of(spark, click(uid=" NULL "), click(uid=""), click(uid=" u "), click(uid=None))
    assert result["present"]["uid"] == 1


def test_rows_of_every_fate_are_counted(spark: SparkSession) -> None:
    result = counts_of(spark, click(), click(custom_track="alive"), click(bid="-1"))
    assert result["present"]["job_id"] == 3 and result["present"]["bid"] == 1


UNREADABLE = {
    ("publisher_id", "4"): 0,
    ("publisher_id", "4,1,2"): 0,  # the first of a list is taken
    ("publisher_id", '["4", 1]'): 0,
    ("publisher_id", "p-4"): 1,
    ("publisher_id", '{"id": 4}'): 1,
    ("bid", "1.5e2"): 0,
    ("bid", "1,5 EUR"): 0,  # counted as a list, although the transform rejects it
    ("bid", "EUR 1.5"): 1,
    ("ts", "1772368496"): 0,
    ("ts", "1772368496000.5"): 0,
    ("ts", "1.772368496E9"): 0,
    ("ts", "1772368496000000"): 1,  # microseconds
    ("ts", "-1772368496"): 1,
    ("ts", "20260301"): 1,
    ("ts", "2026-03-01T12:34:55+02:00"): 0,
    ("ts", "1.3.2026"): 1,
    ("ts", None): 0,  # absent is not unreadable
}


def test_unreadable_values_are_counted(spark: SparkSession) -> None:
    result = counts_of_each(spark, *(click(**{field: value}) for field, value in UNREADABLE))
    fields = [field for field, _ in UNREADABLE]
    counted = [counts["unreadable"].get(field, 0) for field, counts in zip(fields, result, strict=True)]
    assert dict(zip(UNREADABLE, counted, strict=True)) == UNREADABLE


def test_the_time_to_read_a_value_grows_with_its_length_only(spark: SparkSession) -> None:
    started = time.monotonic()
    result = counts_of(spark, click(bid="[" + " " * 20_000 + "x"))
    assert result["unreadable"] == {"bid": 1}
    assert time.monotonic() - started < 30, "With a pattern that backtracks, it takes more than a minute."


def test_undeclared_fields_are_counted_by_name(spark: SparkSession) -> None:
    result = counts_of(spark, click(jobId="7", _minute="x", _minutemark_occurrence="2"), click(jobId=""), click(ua="u"))
    assert result["unknown"] == {"jobId": 2}, "Names that Minutemark reserves are not counted."


def test_undeclared_names_are_bounded(spark: SparkSession) -> None:
    rows = [click(**{f"field{number}": "1"}) for number in range(130)]
    result = counts_of(spark, *rows, click(**{"x" * 200: "1", "field7": "1"}))["unknown"]
    assert len(result) == contract.NAMES_PER_MINUTE + 1 and sum(result.values()) == 132
    assert result["field7"] == 2 and result[contract.OTHER_NAMES] == 31
    assert max(map(len, result)) == 64


def test_an_undeclared_field_with_the_name_of_the_rest_is_counted_with_it(spark: SparkSession) -> None:
    rows = [click(**{f"field{number}": "1"}) for number in range(110)]
    result = counts_of(spark, *rows, click(_other="1"), click(_other="1"))["unknown"]
    assert sum(result.values()) == 112 and result[contract.OTHER_NAMES] == 2 + 11


def test_the_last_of_equal_keys_counts(spark: SparkSession) -> None:
    row = raw_frame(spark, click()).first().asDict()
    payload = row["payload"].replace('"job_id": "258"', '"job_id": "9", "jobId": 1, "job_id": "258", "jobId": 2')
    rows = lake_frame(spark, {**row, "minute": f"{MINUTE}Z", "payload": payload})
    rows_with_fates = run.materialized(rows, recruitment, PIPELINE, {})
    assert rows_with_fates.first().event.job_id == 258
    assert counts_of_frame(rows_with_fates, PIPELINE)["unknown"] == {"jobId": 1}


PRESENT = {
    "NULL": 0, "null ": 0, "\u00a0NaN": 0, "\\N": 0, "\ufeff": 0, "  ": 0, "": 0,
    "NULLS": 1, "nano": 1, " \u2003x": 1, "0": 1, "'": 1,
}  # fmt: skip


def test_a_field_is_present_if_a_transform_gets_text_from_it(spark: SparkSession) -> None:
    result = counts_of_each(spark, *(click(uid=text) for text in PRESENT))
    assert dict(zip(PRESENT, (counts["present"].get("uid", 0) for counts in result), strict=True)) == PRESENT


def test_a_payload_that_is_not_an_object_has_no_fields(spark: SparkSession) -> None:
    rows = lake_frame(spark, {**raw_frame(spark, click()).first().asDict(), "minute": f"{MINUTE}Z", "payload": "[1]"})
    result = counts_of_frame(run.materialized(rows, recruitment, PIPELINE, {}), PIPELINE)
    assert result == {"present": {}, "unreadable": {}, "unknown": {}}


def test_more_fields_than_a_number_has_bits_are_counted(spark: SparkSession) -> None:
    wide = dataclasses.replace(PIPELINE, fields=(*PIPELINE.fields, *(f"wide{number}" for number in range(100))))
    result = counts_of(spark, click(wide0="1", wide99="1"), click(wide99="1"), pipeline=wide)["present"]
    assert {name: rows for name, rows in result.items() if name.startswith("wide")} == {"wide0": 1, "wide99": 2}


def test_a_counted_event_without_a_required_field_is_rejected_and_the_field_is_named(spark: SparkSession) -> None:
    strict = dataclasses.replace(PIPELINE, required=("uid", "ua"))
    rows = raw_frame(spark, click(uid="u", ua="a"), click(uid="u"), click(custom_track="alive"), click(job_id="x"))
    rows_with_fates = run.materialized(rows, recruitment, strict, {}).select("fate", "reason").collect()
    assert [row.fate for row in rows_with_fates] == ["counted", "rejected", "ignored", "rejected"]
    assert rows_with_fates[1].reason == f"ua{IS_MISSING}"
    assert rows_with_fates[3].reason.startswith("job_id is not a whole number"), "The pipeline's own rules come first."


def test_a_declaration_refuses_the_name_of_every_column_besides_the_fields(spark: SparkSession) -> None:
    rows_with_fates = recruitment.classify(lake.with_fields(raw_frame(spark, click()), PIPELINE), {})
    columns = {
        name
        for name in (*rows_with_fates.columns, "_all", "_parsed", "_names")
        if not name.startswith(("raw_", "typed_"))
    }
    columns -= {*PIPELINE.fields, "create_time", "ed_fields", "counted_kind"}  # the last two belong to this transform
    assert {"_present_0", "is_object", "event"} <= columns
    for name in columns:
        with pytest.raises(ValueError, match="cannot be named"):
            dataclasses.replace(PIPELINE, fields=(*PIPELINE.fields, name))


def test_declared_names_need_not_be_identifiers_of_sql(spark: SparkSession) -> None:
    names = ("order", "user-agent", "a'b", "a\\b", "Straße", "1st", "select *")
    odd = dataclasses.replace(PIPELINE, fields=(*PIPELINE.fields, *names), numbers=("bid", *names))
    result = counts_of(spark, click(**dict.fromkeys(names, "x")), click(**dict.fromkeys(names, "1")), pipeline=odd)
    assert {name: result["present"].get(name) for name in names} == dict.fromkeys(names, 2)
    assert result["unreadable"] == dict.fromkeys(names, 1) and not result["unknown"]
