"""Hand-written events through the DAG itself, then what may happen to them later. The tests build on each other
in the order of the file, because every run of the chain costs seconds."""

from __future__ import annotations

import csv
from datetime import datetime, timedelta

import pytest

from include.files.imports import import_events
from include.lake.session import lake
from include.lake.writer import EventWriter
from tests.e2e.comparison import must_conserve_rows, must_equal_reference
from tests.e2e.runs import CHAIN, RECRUITMENT, as_events, as_if_settled, change, count, published, query, text
from tests.reference.rows import click, page_view

pytestmark = pytest.mark.usefixtures("schemas")

NOON = datetime(2026, 3, 1, 12, 0, 5)
NEXT_MINUTE = NOON + timedelta(minutes=1)
JOBS = {7: 70, 9: None}  # company_id by job; job 8 is unknown

FIRST = [
    click(NOON, 1),
    click(NOON, 2, bid="2.25", custom_track="clicks"),
    click(NOON, 2, bid="2.25", custom_track="clicks"),  # delivered twice
    page_view(NOON, 3, job_id="7.0"),
    click(NOON, 4, custom_track=None, ed='{"customevent":"conversion"}'),  # lower-case key, kind only there
    click(NOON, 5, job_id=None, publisher_id=None, ed='{"customEvent":"click","jobId":"8","publisherId":"4,1,2"}'),
    # The hour of this fact is nine and a half days before the minute.
    click(NOON, 6, custom_track="qualified", ts="2026-02-19 23:59:59.999"),
    click(NOON, 7, custom_track="alive"),
    click(NOON, 8, custom_track=None, ev=None),
    click(NOON, 9, job_id=None),
    click(NOON, 10, ts="yesterday"),
    click(NOON, 11, job_id="job-17"),
    click(NOON, 12, bid="-1"),
    click(NEXT_MINUTE, 1, publisher_id=None, campaign_id="x", group_id=None, bid=None),
    click(NEXT_MINUTE, 2, custom_track="unqualified", job_id="9"),
]
LATE = click(NOON + timedelta(seconds=20), 20, bid="4")
LATER = click(NOON + timedelta(seconds=21), 21, bid="8")


@pytest.fixture(scope="module", autouse=True)
def jobs(schemas):
    for job, company in JOBS.items():
        change(f"INSERT INTO recruitment.job (id, company_id) VALUES ({job}, {company or 'NULL'})")


@pytest.fixture(scope="module")
def csv_file(tmp_path_factory):
    """FIRST as a file, with one more line that cannot be an event."""
    rows = [*FIRST, click(NOON, create_time="no-time-uuid")]
    file = tmp_path_factory.mktemp("import") / "events.csv"
    with file.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, ["create_time", *RECRUITMENT.fields])
        writer.writeheader()
        writer.writerows(rows)
    return file


@pytest.mark.both_servers
def test_events_become_the_facts_of_the_reference(airflow, csv_file):
    summary = import_events(RECRUITMENT, csv_file)
    assert (summary.written, summary.rejected) == (len(FIRST), 1)
    run = airflow.run().must_succeed()
    assert run.tasks == dict.fromkeys(CHAIN, "success")
    must_equal_reference(FIRST, JOBS)
    must_conserve_rows()


def test_a_rejected_row_keeps_its_payload_and_says_why(airflow):
    rejected = query("SELECT origin, reason, payload FROM etl.rejected_events ORDER BY reason")
    assert [(origin, reason.split()[0]) for origin, reason, _ in rejected] == [
        ("lake", "bid"),
        ("import", "create_time"),
        ("lake", "job_id"),
        ("lake", "ts"),
    ]
    broken = ("-1", "no-time-uuid", "job-17", "yesterday")
    assert all(value in payload for value, (*_, payload) in zip(broken, rejected, strict=True))


def test_staging_is_empty_after_a_merge(airflow):
    tables = ("recruitment.events_staged", "etl.staged_counts", "etl.staged_rejects")
    assert [count(table) for table in tables] == [0, 0, 0]


def test_clearing_the_merge_or_the_transform_of_a_merged_batch_changes_nothing(airflow):
    before = published()
    [(run_id,)] = query("SELECT run_id FROM etl.batches WHERE state = 'merged'")
    for first in ("merge_into_warehouse", "transform_delta"):
        airflow.run(run_id=run_id, clear=list(CHAIN[CHAIN.index(first) :])).must_succeed()
        assert published() == before


def test_a_second_import_changes_nothing(airflow, csv_file):
    before = published()
    as_if_settled()
    assert count("etl.minute_ledger WHERE pending = 1") == 0
    import_events(RECRUITMENT, csv_file)
    airflow.run().must_succeed()
    assert published() == before


@pytest.mark.parametrize(
    ("late", "clock_is_off_by"),
    [
        pytest.param(LATE, timedelta(hours=3), id="from a clock that is ahead"),
        pytest.param(LATER, timedelta(hours=-3), id="then from a clock that is behind"),
    ],
)
def test_a_late_event_appears_after_the_next_run_for_any_writer_clock(airflow, late, clock_is_off_by):
    """If touches had the time of their writer, one from a clock that is ahead would hide every later touch."""
    as_if_settled()
    assert count("etl.minute_ledger WHERE pending = 1") == 0  # so that only the late event's touch marks its minute
    with lake("lake_writer") as session:
        clock = session.cluster.timestamp_generator
        session.cluster.timestamp_generator = lambda: clock() + clock_is_off_by // timedelta(microseconds=1)
        EventWriter(session, RECRUITMENT).write(as_events([late]))
    airflow.run().must_succeed()
    must_equal_reference([*FIRST, LATE] if late is LATE else [*FIRST, LATE, LATER], JOBS)


def test_a_manual_run_with_from_and_to_repairs_what_was_deleted_by_hand(airflow):
    before = published()
    change(
        "DELETE FROM recruitment.events_by_minute WHERE publisher_id = 2",
        "DELETE FROM recruitment.events WHERE job_id = 7",
        "UPDATE recruitment.events SET clicks = clicks + 100",
        "DELETE FROM etl.rejected_events WHERE origin = 'lake' LIMIT 1",
    )
    assert published() != before
    minute = NOON.replace(second=0)
    airflow.run(conf={"from": text(minute), "to": text(minute + timedelta(minutes=2))}).must_succeed()
    assert published() == before


def test_a_backfill_run_repairs_exactly_the_minute_of_its_interval(airflow):
    before = published()
    minute = NEXT_MINUTE.replace(second=0)
    change(
        f"DELETE FROM recruitment.events_by_minute WHERE minute = '{minute}'",
        "DELETE FROM recruitment.events WHERE job_id = 9",
    )
    assert published() != before
    run = airflow.run(interval=[text(minute), text(minute + timedelta(minutes=1))]).must_succeed()
    taken = "SELECT minute FROM etl.batches JOIN etl.batch_minutes USING (batch_id) WHERE run_id = %(run_id)s"
    assert query(taken, run_id=run.run_id) == [(minute,)]
    assert published() == before


def test_a_second_attempt_at_a_staged_batch_counts_nothing_twice(airflow):
    before = published()
    minute = NOON.replace(second=0)
    staged = airflow.run(
        conf={"from": text(minute), "to": text(minute + timedelta(minutes=2))},
        skip=["merge_into_warehouse", "check_warehouse"],
    ).must_succeed()
    assert count("recruitment.events_staged") > 0  # rows of the first attempt, which is never merged
    airflow.run(run_id=staged.run_id, clear=list(CHAIN[1:])).must_succeed()
    [(batch_id,)] = query("SELECT batch_id FROM etl.batches WHERE run_id = %(run_id)s", run_id=staged.run_id)
    assert query("SELECT COUNT(*) FROM etl.attempts WHERE batch_id = %(batch)s", batch=batch_id) == [(2,)]
    assert published() == before


def test_from_after_to_fails_and_says_what_to_enter(airflow):
    refused = airflow.run(conf={"from": text(NEXT_MINUTE), "to": text(NOON)})
    assert refused.tasks["wait_for_changes"] == "failed"
    assert "must be before `to`" in refused.log
