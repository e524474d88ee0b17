"""The job as Airflow submits it, against a real Cassandra node and a real MySQL-compatible server."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from include import pipelines
from include.connections import endpoint
from include.spark import lake, recruitment, run
from tests.spark.rows import EVENT_ID, MINUTE, PIPELINE
from tests.spark.submitting import NEXT_MINUTE, submit

BY_KEY, SCAN = "datasource.CassandraInJoin", "datasource.CassandraScan"  # how a plan shows the connector's reads


def test_an_attempt_fills_staging_under_its_number(four_events: None, query) -> None:
    # More minutes than one statement of counts takes.
    empty = [NEXT_MINUTE + timedelta(minutes=number) for number in range(2_500)]
    done = submit(41, minutes=[MINUTE, *empty])
    assert done.returncode == 0, done.stdout + done.stderr
    counts = "minute, raw_rows, counted_rows, ignored_rows, rejected_rows, ignored_by_kind, newest_create_time"
    [busy, idle, *others] = query(f"SELECT {counts} FROM etl.staged_counts WHERE attempt = 41 ORDER BY minute")
    assert busy[:5] == (MINUTE, 4, 2, 1, 1) and json.loads(busy[5]) == {"alive": 1}
    assert busy[6] == MINUTE + timedelta(seconds=56, microseconds=789_012)
    assert idle == (NEXT_MINUTE, 0, 0, 0, 0, None, None)
    assert [other[0] for other in others] == empty[1:]
    events = "minute, job_id, dates, hours, event_count, clicks, impressions, bid_sum, bid_count"
    [contribution] = query(f"SELECT {events} FROM recruitment.events_staged WHERE attempt = 41")
    assert contribution[:7] == (MINUTE, 258, MINUTE.date(), 12, 2, 1, 1)
    assert (float(contribution[7]), contribution[8]) == (1.5, 1)
    [(origin_key, reason, payload)] = query("SELECT origin_key, reason, payload FROM etl.staged_rejects")
    assert origin_key.startswith("2026-03-01T12:34Z/") and origin_key.endswith(EVENT_ID[:-1] + "3")
    assert reason == "bid is negative: -3" and json.loads(payload)["bid"] == "-3"
    for line in ("read: ", "stage events: ", "stage rejected rows: ", "stage counts: "):
        assert line in done.stdout + done.stderr


def test_shop_events_are_staged_with_times_to_the_microsecond_and_ids_that_repeat(
    schemas: None, query, warm_drivers
) -> None:
    from include.lake.session import lake as connected
    from include.lake.writer import Event, EventWriter

    values = {"id": "1", "event_type": "view", "product_id": "7", "event_time": "2026-03-01 12:00:00.250001 UTC"}
    with connected("lake_writer") as session:
        EventWriter(session, pipelines.get("ecommerce")).write([Event(UUID(EVENT_ID), values)])
    done = submit(45, pipeline="ecommerce", keep=True)
    assert done.returncode == 0, done.stdout + done.stderr
    staged = query("SELECT minute, event_time, hour FROM ecommerce.operations_staged WHERE attempt = 45")
    assert staged == [(MINUTE, datetime(2026, 3, 1, 12, 0, 0, 250_001), datetime(2026, 3, 1, 12))]
    assert query("SELECT COUNT(*) FROM etl.staged_repeats WHERE attempt = 45") == [(0,)]
    later = EVENT_ID.replace("0e207ccf", "0e207cd0")
    with connected("lake_writer") as session:
        EventWriter(session, pipelines.get("ecommerce")).write([Event(UUID(later), values)])
    assert submit(46, pipeline="ecommerce", keep=True).returncode == 0
    repeats = "SELECT minute, event_id, create_time, first_create_time FROM etl.staged_repeats WHERE attempt = 46"
    assert query(repeats) == [(MINUTE, "1", later, EVENT_ID)]


def test_an_attempt_number_is_never_used_twice(four_events: None, query, warm_drivers) -> None:
    """⚑ A zombie driver or a second submit of one attempt stops at the primary key."""
    assert submit(42, keep=True).returncode == 0
    assert submit(42, keep=True).returncode != 0
    assert query("SELECT COUNT(*), SUM(raw_rows) FROM etl.staged_counts WHERE attempt = 42") == [(2, 4)]


@pytest.mark.parametrize("minutes", [[MINUTE], [MINUTE, NEXT_MINUTE]])
def test_the_lake_is_read_by_partition_key_and_once(lake_session, minutes) -> None:
    """No scan; and ⚑ rows stay as they were read: the plan of later steps does not contain the lake."""
    raw = lake.read_minutes(lake_session, PIPELINE, minutes)
    plan = raw._jdf.queryExecution().executedPlan().toString()
    assert BY_KEY in plan and SCAN not in plan and "Filter " not in plan, plan
    rows = run.materialized(raw, recruitment, PIPELINE, {})
    after = rows._jdf.queryExecution().executedPlan().toString()
    assert "Cassandra" not in after and "ExistingRDD" in after, after


def test_a_lake_table_of_another_layout_is_named_with_the_command_that_copies_it(lake_session) -> None:
    other = replace(PIPELINE, event_id="referrer")
    with pytest.raises(
        run.JobFailed, match=r"lacks referrer.*./minutemark import --pipeline recruitment --from bedan\.tracking"
    ):
        lake.read_minutes(lake_session, other, [MINUTE])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"warehouse": {"password": "hunter2"}}, "refuses the account of connection warehouse_etl"),
        ({"warehouse": {"port": 1}}, "The warehouse does not answer at 127.0.0.1:1"),
        ({"source": {"password": "hunter2"}}, "refuses the account of connection lake_reader"),
        ({"source": {"port": 1}}, "The lake does not answer at 127.0.0.1:1"),
    ],
)
def test_a_store_that_refuses_is_named_and_no_password_shows(four_events: None, changes, message: str) -> None:
    endpoints = {
        name: replace(endpoint(conn_id), **changes[name])
        for name, conn_id in (("warehouse", "warehouse_etl"), ("source", "lake_reader"))
        if name in changes
    }
    done = submit(43, **endpoints)
    output = done.stdout + done.stderr
    assert done.returncode != 0 and message in output, output
    passwords = {"hunter2", endpoint("warehouse_etl").password, endpoint("lake_reader").password}
    assert not [password for password in passwords if password in output]
