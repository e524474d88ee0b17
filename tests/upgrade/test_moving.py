"""Moving to another warehouse or lake on real stores, as docs/backup.md describes it for a history older than the change log.

The tests build on each other in the order of the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from include import pipelines, planner
from include.lake.session import lake
from include.lake.writer import EventWriter
from include.operations.setup import set_up
from include.spark import run
from include.verify.verify import verify
from include.warehouse.batches import RunInfo
from include.warehouse.session import warehouse
from tests import emptying
from tests.e2e.runs import as_events, query
from tests.upgrade import events
from tests.upgrade.test_upgrade import MUST_EQUAL, RIGS, catch_up

pytestmark = pytest.mark.usefixtures("schemas")

PIPELINES = pipelines.all_pipelines()
NAMES = sorted(PIPELINES)
MIDNIGHT = events.EIGHT.replace(hour=0, second=0)
CHANGE_LOG = ("minutemark.minute_changes", "minutemark.changed_days")


@pytest.fixture(scope="module")
def lake_admin(schemas: None) -> Iterator:
    with lake("lake_admin") as session:
        yield session


def write(name: str, rows: list[events.Row]) -> None:
    with lake("lake_writer") as session:
        EventWriter(session, PIPELINES[name]).write(as_events(rows))


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_warehouse_gets_all_facts_from_a_backfill_of_reconcile(name: str, spark, lake_admin) -> None:
    """Even if retention has removed the days from the change log, which alone lists the minutes that the lake has."""
    rows = events.all_rows(name)
    write(name, rows)
    for table in CHANGE_LOG:
        lake_admin.execute(f"TRUNCATE {table}")
    assert RIGS[name].run(spark) is None, "The minute DAG already finds these minutes, so this test shows nothing."
    reconcile(name, spark)
    MUST_EQUAL[name](rows)
    assert verify([PIPELINES[name]], patience=0).clean


def reconcile(name: str, spark) -> None:
    """What a backfill of <pipeline>_reconcile does in its runs, for the day of these events."""
    pipeline = PIPELINES[name]
    with lake("lake_reader") as session, warehouse() as conn:
        info = RunInfo(f"{name}_reconcile", "backfill", None, kind="reconcile", options=pipeline.options)
        end = MIDNIGHT + timedelta(days=1)
        batch_id = planner.open_reconcile(pipeline, session, conn, info, start=MIDNIGHT, end=end)
    _, submitted = RIGS[name].submission(batch_id)
    assert run.attempt(spark, run.Job.read(submitted.job_file)) == 0
    RIGS[name].publish(batch_id)


@pytest.fixture
def other_lake(lake_admin) -> None:
    """A lake with the same events and without a change log, as copying only the event tables leaves it."""
    copies = {
        pipeline.lake_table: [row.json for row in lake_admin.execute(f"SELECT JSON * FROM {pipeline.lake_table}")]
        for pipeline in PIPELINES.values()
    }
    for keyspace in {"minutemark", *(pipeline.keyspace for pipeline in PIPELINES.values())}:
        lake_admin.execute(f"DROP KEYSPACE {keyspace}", timeout=60)
    set_up()
    for table, rows in copies.items():
        for row in rows:
            lake_admin.execute(f"INSERT INTO {table} JSON %s", (row,))


def test_another_lake_with_the_same_events_passes_verify_and_its_new_events_are_merged(spark, other_lake) -> None:
    report = verify(list(PIPELINES.values()), patience=0)
    assert report.clean, str(report)
    for name in NAMES:
        assert RIGS[name].run(spark) is None
        write(name, events.LATE[name])
        catch_up(name, spark)
        MUST_EQUAL[name]([*events.all_rows(name), *events.LATE[name]])


def test_verify_reports_a_row_that_the_other_lake_lacks_and_its_minute_stays_merged(lake_admin) -> None:
    [pipeline, *_] = PIPELINES.values()
    before = query("SELECT COUNT(*) FROM etl.minute_ledger WHERE state = 'merged'")
    row = lake_admin.execute(f"SELECT minute, shard, create_time FROM {pipeline.lake_table} LIMIT 1").one()
    where = "minute = %s AND shard = %s AND create_time = %s"
    lake_admin.execute(f"DELETE FROM {pipeline.lake_table} WHERE {where}", row)
    report = verify(
        [replace(pipeline, settle=timedelta(seconds=1))], patience=0, poll=0.1
    )  # a difference is compared again after it
    assert "vanished_rows" in str(report)
    assert query("SELECT COUNT(*) FROM etl.minute_ledger WHERE state = 'merged'") == before


@pytest.fixture(scope="module", autouse=True)
def _empty_lake_afterwards(schemas: None) -> Iterator[None]:
    yield
    emptying.empty_lake()
