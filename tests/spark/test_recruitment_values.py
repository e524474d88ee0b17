"""The values that a transform reads from the texts of a raw row."""

from __future__ import annotations

from decimal import Decimal

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from include.spark import recruitment
from tests.spark.rows import EVENT_TIME_US, classify, click, custom_event, fields_of, raw_frame


def test_numbers_are_read_as_producers_write_them(spark: SparkSession) -> None:
    rows = classify(
        spark,
        click(job_id="258", publisher_id="1", campaign_id="2", group_id="3"),
        click(job_id="258.0", publisher_id="1.0", campaign_id=" 2 ", group_id="3.00"),  # a float's text, spaces
        click(
            publisher_id="-1", campaign_id="x", group_id="9223372036854775808"
        ),  # not positive whole numbers that fit: 0
        click(),  # absent: 0
    )
    keys = [(r.event.job_id, r.event.publisher_id, r.event.campaign_id, r.event.group_id) for r in rows]
    assert keys == [(258, 1, 2, 3), (258, 1, 2, 3), (258, 0, 0, 0), (258, 0, 0, 0)]


def test_bids_are_exact_decimals(spark: SparkSession) -> None:
    rows = classify(spark, click(bid="1.4"), click(bid="0"), click(bid="1e-05"), click(bid=" 7 "), click(bid=None))
    assert [row.event.bid for row in rows] == [Decimal("1.4"), Decimal(0), Decimal("0.00001"), Decimal(7), None]


@pytest.mark.parametrize("recover", [True, False])
def test_the_machines_time_zone_changes_nothing(spark: SparkSession, recover: bool) -> None:
    """⚑ UTC everywhere: the session's machine is in Newfoundland (tests/spark/conftest.py)."""
    rows = raw_frame(
        spark,
        click(ts="2022-07-18 07:05:11.130"),
        click(ts="2022-07-18T07:05:11Z"),
        click(ts="2022-07-18T00:35:11-06:30"),  # the same second, in another zone
        click(ts="2022-03-13 02:30:00"),  # a time that Newfoundland skipped
    )
    frame = recruitment.classify(fields_of(rows), {"recover": recover})
    result = frame.select(F.col("event.dates").cast("string"), "event.hours", F.unix_micros("created_at")).collect()
    assert [tuple(row) for row in result] == [
        ("2022-07-18", 7, EVENT_TIME_US),
        ("2022-07-18", 7, EVENT_TIME_US),
        ("2022-07-18", 7, EVENT_TIME_US),
        ("2022-03-13", 2, EVENT_TIME_US),
    ]


def test_recover_fills_gaps_from_ed(spark: SparkSession) -> None:
    rows = classify(
        spark,
        custom_event(customEvent="click", jobId=10, publisherId=0),
        custom_event(customEvent="click", jobId="191", publisherId="4,1,2,3,5"),  # a list as text: its first item
        custom_event(customevent="conversion", jobid=7, publisherid=[5, 6]),  # lower-case keys, a list
        custom_event(customEvent="click", jobId=8.0, publisherId="1\\"),  # a float, and nonsense
        custom_event(customEvent="click", jobId=12345678.0, publisherId=10000000.0),  # Java writes 1.2345678E7
        click(custom_track=None, job_id=None, ed='{"customEvent": "click", "jobId": 1, "publisherId": 3, "jobId": 2}'),
    )
    assert [(r.fate, r.kind, r.event.job_id, r.event.publisher_id) for r in rows] == [
        ("counted", "click", 10, 0),
        ("counted", "click", 191, 4),
        ("counted", "conversion", 7, 5),
        ("counted", "click", 8, 0),
        ("counted", "click", 12345678, 10000000),
        ("counted", "click", 2, 3),
    ]


def test_recover_overwrites_nothing_and_reads_a_kind_only_where_ev_is_2(spark: SparkSession) -> None:
    event = custom_event(customEvent="conversion", jobId=10, publisherId=11)
    rows = classify(
        spark,
        {**event, "custom_track": "click", "job_id": "1", "publisher_id": "2"},  # the row's own values win
        {**event, "ev": "1"},  # a page view stays a page view
        {**event, "ev": None},  # no kind
    )
    assert [(r.kind, r.event.job_id, r.event.publisher_id) for r in rows] == [
        ("click", 1, 2),
        ("impression", 10, 11),
        ("none", 10, 11),
    ]


def test_a_job_in_ed_follows_the_rules_of_job_id(spark: SparkSession) -> None:
    rows = classify(
        spark,
        custom_event(customEvent="click", jobId="52fe1ea5de"),  # present, but not a number
        custom_event(customEvent="click", jobId=None),  # no job
        custom_event(customEvent="click", jobId=""),  # no job
        custom_event(customEvent="click"),  # no job
        click(job_id=None, ed="{no json"),  # nothing to recover from
    )
    assert [(r.fate, r.kind if r.fate == "ignored" else r.reason) for r in rows] == [
        ("rejected", "job_id is not a whole number: 52fe1ea5de"),
        ("ignored", "no_job"),
        ("ignored", "no_job"),
        ("ignored", "no_job"),
        ("ignored", "no_job"),
    ]


def test_without_recover_ed_is_ignored(spark: SparkSession) -> None:
    rows = classify(
        spark,
        custom_event(customEvent="click", jobId=10),
        click(job_id=None, ed='{"jobId": 10}'),
        recover=False,
    )
    assert [(r.fate, r.kind) for r in rows] == [("ignored", "none"), ("ignored", "no_job")]
