"""What an attempt leaves in staging: contributions, rejected rows, and counts for every minute of the batch."""

from __future__ import annotations

import json
import zlib
from datetime import timedelta
from decimal import Decimal

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from include.spark import recruitment, run, staging
from include.spark.fate import COUNTED
from tests.spark.rows import EVENT_ID, EVENT_TIME_US, MINUTE, PIPELINE, click, lake_frame, raw_frame

_OTHER_ID = EVENT_ID[:-1] + "0"  # another event of the same time


def rows_of(spark: SparkSession, *rows):
    return run.materialized(raw_frame(spark, *rows), recruitment, PIPELINE, {})


def test_contributions_add_up_per_fact_key(spark: SparkSession) -> None:
    rows = rows_of(
        spark,
        click(bid="1.4"),
        click(bid="2.5"),
        click(bid=None),  # a click without a bid: counted, but not part of the average
        click(custom_track="conversion", bid="9"),  # only clicks have bids
        click(job_id="259"),  # another key
        click(custom_track="alive"),  # ignored
    )
    result = recruitment.contributions(rows.where(F.col("fate") == COUNTED)).orderBy("job_id").collect()
    assert [(r.job_id, r.event_count, r.clicks, r.conversions, r.bid_sum, r.bid_count) for r in result] == [
        (258, 4, 3, 1, Decimal("3.9"), 2),
        (259, 1, 1, 0, Decimal(0), 0),
    ]


def test_counts_conserve_every_row_and_name_every_minute(spark: SparkSession) -> None:
    """⚑ Zeros included: an attempt is complete when every minute of its batch has a row."""
    empty = MINUTE + timedelta(minutes=1)
    rows = rows_of(
        spark, click(), click(custom_track="alive"), click(job_id=None, create_time=_OTHER_ID), click(ts="x")
    )
    counts = staging.counts(7, [MINUTE, empty], staging.count_minutes(rows, PIPELINE), PIPELINE)
    checksum = 3 * zlib.crc32(EVENT_ID.encode()) + zlib.crc32(_OTHER_ID.encode())
    [busy, idle] = [dict(zip(staging.COUNTS_COLUMNS, row, strict=True)) for row in counts]
    assert json.loads(busy.pop("ignored_by_kind")) == {"alive": 1, "no_job": 1}
    assert json.loads(busy.pop("field_counts")) == {
        "present": {"custom_track": 4, "ev": 4, "job_id": 3, "ts": 4},
        "unreadable": {"ts": 1},
        "unknown": {},
    }
    assert busy == {
        "attempt": 7,
        "minute": "2026-03-01 12:34:00",
        "raw_rows": 4,
        "counted_rows": 1,
        "ignored_rows": 2,
        "rejected_rows": 1,
        "id_checksum": checksum,
        "newest_create_time": "2026-03-01 12:34:56.789012",
    }
    assert list(idle.values()) == [7, "2026-03-01 12:35:00", 0, 0, 0, 0, None, 0, None, None]


def test_kinds_are_bounded_in_number_and_length(spark: SparkSession) -> None:
    many = [click(custom_track=f"kind{i:02}" + "x" * 100) for i in range(25)]
    rows = rows_of(spark, *many, click(custom_track="a"), click(custom_track="a"))
    [counted] = staging.count_minutes(rows, PIPELINE)
    kinds = json.loads(staging.counts(1, [MINUTE], [counted], PIPELINE)[0][6])
    assert sum(kinds.values()) == 27 and len(kinds) == 21
    assert kinds["a"] == 2 and kinds["other"] == 6 and max(map(len, kinds)) == 40


def test_a_rejected_row_is_kept_in_full(spark: SparkSession) -> None:
    hostile = 'nul \u0000, emoji \U0001f600, quote " and \\ ' + "x" * 1_000_000
    [row] = staging.rejects(rows_of(spark, click(bid="-3", ua=hostile))).collect()
    assert row.origin_key == f"2026-03-01T12:34Z/0/{EVENT_ID}"
    assert row.reason == "bid is negative: -3"
    payload = json.loads(row.payload)
    assert payload["ua"] == hostile and payload["bid"] == "-3" and payload["create_time"] == EVENT_ID
    assert "\u0000" not in row.payload  # written as an escape


def test_a_payload_that_is_too_long_for_a_statement_is_cut(spark: SparkSession) -> None:
    [row] = staging.rejects(rows_of(spark, click(bid="-3", ua="\u0000" * 2_000_000))).collect()
    assert len(row.payload) == 1_000_000 and row.payload.startswith(f'{{"create_time": "{EVENT_ID}"')


def test_a_payload_that_is_not_a_json_object_rejects_its_row_and_is_kept(spark: SparkSession) -> None:
    payloads = [
        "[1]",
        "{cut off",
        "",
        None,
        "7",
        '{"ts": "2026-03-01 12:34:55", "custom_track": "click", "job_id": 258}',
    ]
    key = {"minute": f"{MINUTE:%Y-%m-%dT%H:%M:%S}Z", "shard": 0, "create_time": EVENT_ID}
    rows = lake_frame(spark, *({**key, "payload": payload} for payload in payloads))
    result = run.materialized(rows, recruitment, PIPELINE, {})
    assert [row.fate for row in result.collect()] == ["rejected"] * 5 + ["counted"]
    rejected = staging.rejects(result).collect()
    assert [row.payload for row in rejected] == ["[1]", "{cut off", "", "", "7"]
    assert rejected[0].reason == "the event is not a JSON object: [1]"


def test_unknown_fields_are_kept_and_nested_values_are_kept_as_json(spark: SparkSession) -> None:
    row = click(ed={"customEvent": "click", "jobId": 259}, custom_track=None, job_id=None, mood={"a": [1, 2]}, bid=-3)
    [kept] = staging.rejects(rows_of(spark, row)).collect()
    assert json.loads(kept.payload)["mood"] == {"a": [1, 2]} and kept.reason == "bid is negative: -3"


def test_the_time_inside_an_event_id_is_read_to_the_microsecond(spark: SparkSession) -> None:
    [counted] = staging.count_minutes(rows_of(spark, click()), PIPELINE)
    assert counted.newest_us == EVENT_TIME_US
