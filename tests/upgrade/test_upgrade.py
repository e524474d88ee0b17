"""An upgrade on real stores: set-up after the previous version, then what that version left open, then a clean verify.

The tests build on each other in the order of the file, as the steps of an upgrade do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import pytest

from bench.rigs import Rig
from include import pipelines
from include.lake import change_log
from include.lake.session import lake
from include.lake.writer import EventWriter
from include.operations.setup import set_up
from include.spark import run
from include.verify.verify import verify
from include.warehouse.errors import WarehouseError
from include.warehouse.session import warehouse
from tests.e2e import comparison, shop_comparison
from tests.e2e.runs import as_events, query
from tests.upgrade import events
from tests.upgrade.conftest import statements
from tests.upgrade.events import minute_of

pytestmark = [pytest.mark.usefixtures("former"), pytest.mark.both_servers]

PIPELINES = pipelines.all_pipelines()
RIGS = {name: Rig("upgraded", pipeline, {}) for name, pipeline in PIPELINES.items()}
MUST_EQUAL: Mapping[str, Callable] = {
    "recruitment": lambda rows: comparison.must_equal_reference(rows, jobs={}),
    "ecommerce": shop_comparison.must_equal_reference,
}
FACTS = ("recruitment.events", "ecommerce.operations", "ecommerce.sales_hourly", "ecommerce.visits_hourly")
RETIRED = {"ecommerce.event_hours", "ecommerce.hours_touched"}


def contents(tables: Mapping[str, str]) -> dict[str, list[tuple]]:
    """The rows of these tables, with the given columns of each."""
    with warehouse("warehouse_admin") as conn:
        cursor = conn.cursor()
        result = {}
        for table, columns in tables.items():
            cursor.execute(f"SELECT {columns} FROM {table}")
            result[table] = sorted(cursor.fetchall(), key=repr)
        return result


def columns_of_tables() -> dict[str, str]:
    """All tables of the warehouse, each with its columns."""
    with warehouse("warehouse_admin") as conn:
        cursor = conn.cursor()
        cursor.execute(
            "SELECT c.table_schema, c.table_name, c.column_name FROM information_schema.columns AS c "
            "JOIN information_schema.tables AS t ON t.table_schema = c.table_schema AND t.table_name = c.table_name "
            "WHERE t.table_type = 'BASE TABLE' AND c.table_schema IN ('etl', 'recruitment', 'ecommerce') "
            "ORDER BY c.table_schema, c.table_name, c.ordinal_position"
        )
        tables: dict[str, str] = {}
        for database, table, column in cursor.fetchall():
            name = f"{database}.{table}"
            tables[name] = f"{tables[name]}, {column}" if name in tables else column
        return tables


def definitions(tables: Mapping[str, str]) -> dict[str, str]:
    """The CREATE TABLE statements of these tables, without AUTO_INCREMENT and without the partitions named after a date."""
    with warehouse("warehouse_admin") as conn:
        cursor = conn.cursor()
        result = {}
        for table in tables:
            cursor.execute(f"SHOW CREATE TABLE {table}")
            result[table] = re.sub(r"PARTITION `?p\d+.*| AUTO_INCREMENT=\d+", "", cursor.fetchone()[1])
        return result


def states(pipeline: str) -> dict:
    """The state of each of the ledger's minutes, and whether it is pending."""
    rows = query("SELECT minute, state, pending FROM etl.minute_ledger WHERE pipeline = %(name)s", name=pipeline)
    return {minute: (state, pending) for minute, state, pending in rows}


def batches(pipeline: str) -> list[int]:
    """The batches that the previous version left open: the transformed one, then the one without an attempt."""
    rows = query(
        "SELECT batch_id FROM etl.batches WHERE pipeline = %(name)s AND state = 'open' ORDER BY batch_id", name=pipeline
    )
    return [batch_id for (batch_id,) in rows]


def test_set_up_keeps_every_row_of_the_previous_version() -> None:
    kept = {table: columns for table, columns in columns_of_tables().items() if table not in RETIRED}
    before = contents(kept)
    set_up()
    assert contents(kept) == before
    assert RETIRED.isdisjoint(columns_of_tables())
    with lake("lake_reader") as session:
        for pipeline in PIPELINES.values():
            touched = change_log.minutes_of_day(session, pipeline.lake_table, events.EIGHT.date())
            assert minute_of(events.TOUCHED) in touched
            assert list(change_log.changed_days(session, pipeline.lake_table)) == [events.EIGHT.date()]


def test_set_up_again_changes_nothing() -> None:
    tables = columns_of_tables()
    before = contents(tables), definitions(tables)
    with lake("lake_reader") as session:
        days = {name: change_log.changed_days(session, pipeline.lake_table) for name, pipeline in PIPELINES.items()}
    set_up()
    assert columns_of_tables() == tables
    assert (contents(tables), definitions(tables)) == before
    with lake("lake_reader") as session:
        assert {
            name: change_log.changed_days(session, pipeline.lake_table) for name, pipeline in PIPELINES.items()
        } == days


def test_a_merge_of_the_previous_version_fails_as_a_whole_if_its_tables_are_retired() -> None:
    """An older worker that is still running cannot publish operations without their contributions."""
    batch_id, _ = batches("ecommerce")
    [attempt] = query("SELECT MAX(attempt) FROM etl.attempts WHERE batch_id = %(id)s", id=batch_id)[0]
    before = contents(dict.fromkeys(FACTS, "*"))
    binds = {"pipeline": "ecommerce", "batch_id": batch_id, "attempt": attempt}
    with pytest.raises(WarehouseError, match="hours_touched' doesn't exist"), warehouse() as conn:
        for statement in statements("merge.sql"):
            conn.cursor().execute(statement, binds)
        conn.commit()
    assert contents(dict.fromkeys(FACTS, "*")) == before


@pytest.mark.parametrize("name", sorted(PIPELINES))
def test_a_batch_that_the_previous_version_has_transformed_is_merged(name: str) -> None:
    transformed, _ = batches(name)
    RIGS[name].publish(transformed)
    assert states(name)[minute_of(events.STAGED)][0] == "merged"


@pytest.mark.parametrize("name", sorted(PIPELINES))
def test_a_batch_that_the_previous_version_has_only_opened_is_transformed_and_merged(name: str, spark) -> None:
    [opened] = batches(name)
    batch, submitted = RIGS[name].submission(opened)
    assert run.attempt(spark, run.Job.read(submitted.job_file)) == 0
    RIGS[name].publish(opened)
    assert states(name)[minute_of(events.OPENED)][0] == "merged"


@pytest.mark.parametrize("name", sorted(PIPELINES))
def test_pending_minutes_are_merged_and_a_held_one_stays_held(name: str, spark) -> None:
    catch_up(name, spark)
    after = states(name)
    held = minute_of(events.HELD)
    assert after.pop(held) == ("held", 0)
    assert set(after.values()) == {("merged", 0)}
    assert minute_of(events.TOUCHED) in after


@pytest.mark.parametrize("name", sorted(PIPELINES))
def test_facts_equal_the_reference_when_the_lost_row_is_back(name: str, spark) -> None:
    with lake("lake_writer") as session:
        EventWriter(session, PIPELINES[name]).write(as_events(events.HELD_ROWS[name][-1:]))
    catch_up(name, spark)
    MUST_EQUAL[name](events.all_rows(name))


@pytest.mark.parametrize("name", sorted(PIPELINES))
def test_an_event_of_a_folded_hour_is_added_after_the_upgrade(name: str, spark) -> None:
    late = events.LATE[name]
    with lake("lake_writer") as session:
        EventWriter(session, PIPELINES[name]).write(as_events(late))
    catch_up(name, spark)
    MUST_EQUAL[name]([*events.all_rows(name), *late])


def test_verify_finds_no_difference() -> None:
    report = verify(list(PIPELINES.values()), patience=0)
    assert report.clean, str(report)


def catch_up(name: str, spark) -> None:
    """Run the pipeline until no minute is pending."""
    RIGS[name].settle()
    while RIGS[name].run(spark):
        RIGS[name].settle()
