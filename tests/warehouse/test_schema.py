"""Schema and accounts on a real server: what set-up creates, and what each account can and cannot do."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from include.pipelines import all_pipelines
from include.warehouse import views
from include.warehouse.errors import WarehouseError
from include.warehouse.schema import apply_schema
from include.warehouse.session import warehouse
from tests.warehouse.lab import Lab, contribution, minute


def run(conn_id: str, statement: str) -> list:
    with warehouse(conn_id) as conn:
        cursor = conn.cursor()
        cursor.execute(statement)
        return list(cursor.fetchall())


def test_applying_again_changes_nothing(lab: Lab) -> None:
    lab.publish({minute(0): [contribution()]})
    apply_schema()
    assert lab.facts() == {(7, 0): 1}
    assert {name for (name,) in lab.query("SELECT pipeline FROM etl.pipelines")} == set(all_pipelines())


READABLE = [
    "SELECT * FROM recruitment.events",
    "SELECT * FROM recruitment.job",
    "SELECT * FROM ecommerce.operations",
    "SELECT * FROM ecommerce.sales_hourly",
    "SELECT * FROM ecommerce.visits_hourly",
    "SELECT * FROM etl.minute_ledger",
    "SELECT * FROM etl.batches",
    "SELECT * FROM etl.folded_hours",
    "SELECT * FROM etl.rejected_summary",
    "SELECT * FROM etl.holds",
    "SELECT * FROM etl.releases",
    "SELECT * FROM etl.release_passes",
    "SELECT * FROM etl.looks",
    "SELECT * FROM etl.freshness",
    "SELECT * FROM etl.alerts",
    "SELECT * FROM etl.board_now",
    "SELECT * FROM recruitment.board_events",
    "SELECT * FROM recruitment.board_contributions",
    "SELECT * FROM ecommerce.board_sales",
    "SELECT * FROM recruitment.bi_events",
    "SELECT * FROM ecommerce.bi_sales",
    "SELECT * FROM ecommerce.bi_visits",
    "SELECT check_name, outcome, offending_rows FROM etl.check_results",
]


@pytest.mark.parametrize("statement", READABLE)
def test_bi_reads_facts_and_bookkeeping(warehouse_schema: None, statement: str) -> None:
    run("warehouse_bi", statement)


@pytest.fixture
def short_lock_wait(warehouse_schema: None) -> Iterator[None]:
    """DDL that waits without its own bound fails after a second, not after a day or a year."""
    with warehouse("warehouse_admin") as admin:
        cursor = admin.cursor()
        cursor.execute("SELECT @@GLOBAL.lock_wait_timeout")
        before = cursor.fetchone()[0]
        cursor.execute("SET GLOBAL lock_wait_timeout = 1")
        yield
        cursor.execute(f"SET GLOBAL lock_wait_timeout = {before}")


def test_set_up_again_waits_for_no_reader(short_lock_wait: None) -> None:
    with warehouse("warehouse_bi") as reader, warehouse("warehouse_etl") as poll:
        for statement in READABLE:
            reader.cursor().execute(statement)  # and no commit
        poll.cursor().execute("SELECT * FROM etl.rejected_events")
        apply_schema()


VIEW = "etl.board_pipelines"


def definition() -> str:
    return run("warehouse_admin", f"SHOW CREATE VIEW {VIEW}")[0][1]


def test_a_view_that_was_changed_or_dropped_is_recreated(warehouse_schema: None) -> None:
    before = definition()
    for change in (f"ALTER VIEW {VIEW} AS SELECT 1 AS pipeline", f"DROP VIEW {VIEW}"):
        run("warehouse_admin", change)
        apply_schema()
        assert definition() == before


def test_replacing_a_view_does_not_wait_for_a_reader_and_the_error_names_the_reader(short_lock_wait: None) -> None:
    """Later readers would wait behind the set-up."""
    new = f"CREATE OR REPLACE VIEW {VIEW} AS SELECT pipeline, 'UTC' AS reporting_zone FROM etl.pipelines"
    with warehouse("warehouse_admin") as admin:
        with warehouse("warehouse_bi") as reader, warehouse("warehouse_bi") as later:
            cursor = reader.cursor()
            cursor.execute(f"SELECT CONNECTION_ID(), v.* FROM {VIEW} AS v")  # and no commit
            session = cursor.fetchone()[0]
            with pytest.raises(WarehouseError, match=f"{VIEW} is in use.*session {session} of bi .*run set-up again"):
                views.replace_changed(admin, new)
            later.cursor().execute(f"SELECT * FROM {VIEW}")
        assert views.replace_changed(admin, new)
        assert "'UTC'" in definition()
        assert not views.replace_changed(admin, new)
    apply_schema()
    assert "'UTC'" not in definition()


FORBIDDEN_TO_BI = [
    "SELECT payload FROM etl.rejected_events",
    "SELECT * FROM etl.staged_rejects",
    "SELECT sample FROM etl.check_results",
    "SELECT * FROM etl.staged_counts",
    "SELECT * FROM recruitment.events_staged",
    "SELECT * FROM recruitment.events_by_minute",
    "SELECT * FROM ecommerce.operations_staged",
    "SELECT * FROM mysql.user",
    "DELETE FROM recruitment.events",
    "DELETE FROM etl.alerts",
    "DELETE FROM recruitment.board_events",
    "SELECT * FROM etl.reporting_days",
    "UPDATE recruitment.events SET clicks = 0",
    "INSERT INTO recruitment.job (id) VALUES (1)",
    "INSERT INTO etl.pipelines (pipeline) VALUES ('x')",
    "UPDATE etl.rejected_summary SET reason = ''",
    "INSERT INTO etl.releases (pipeline, minute, released_by) VALUES ('recruitment', '2026-03-01', 'me')",
    "CREATE TABLE recruitment.mine (id INT)",
    "DROP TABLE recruitment.events",
    "TRUNCATE TABLE recruitment.events",
]


@pytest.mark.parametrize("statement", FORBIDDEN_TO_BI)
def test_bi_neither_sees_payloads_nor_writes(warehouse_schema: None, statement: str) -> None:
    with pytest.raises(WarehouseError, match="account bi.*denied permission"):
        run("warehouse_bi", statement)


FORBIDDEN_TO_ETL = [
    "DROP TABLE recruitment.events",
    "DROP TABLE ecommerce.operations",
    "ALTER TABLE ecommerce.operations DROP PARTITION future",
    "TRUNCATE TABLE ecommerce.operations",
    "ALTER TABLE ecommerce.sales_hourly ADD COLUMN x INT",
    "DROP DATABASE recruitment",
    "TRUNCATE TABLE recruitment.events",
    "CREATE TABLE recruitment.mine (id INT)",
    "CREATE DATABASE mine",
    "ALTER TABLE recruitment.events ADD COLUMN x INT",
    "SELECT * FROM mysql.user",
    "GRANT SELECT ON recruitment.events TO bi@'127.0.0.1'",
    "CREATE USER mallory",
]


@pytest.mark.parametrize("statement", FORBIDDEN_TO_ETL)
def test_etl_writes_rows_but_owns_no_table(warehouse_schema: None, statement: str) -> None:
    with pytest.raises(WarehouseError, match="account etl.*denied permission"):
        run("warehouse_etl", statement)


def test_an_account_that_does_not_exist_is_created(warehouse_schema: None, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = json.loads(os.environ["AIRFLOW_CONN_WAREHOUSE_BI"]) | {
        "login": "new_reader",
        "password": "its-own-secret",
    }
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_BI", json.dumps(connection))
    try:
        apply_schema()
        run("warehouse_bi", "SELECT * FROM recruitment.events")
        with pytest.raises(WarehouseError, match="denied permission"):
            run("warehouse_bi", "SELECT * FROM etl.rejected_events")
    finally:
        run("warehouse_admin", "DROP USER IF EXISTS new_reader")


def test_without_an_administrator_set_up_reports_the_missing_permission(warehouse_schema: None, monkeypatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_WAREHOUSE_ADMIN")
    with pytest.raises(WarehouseError, match="(?s)warehouse_etl.*denied a permission.*AIRFLOW_CONN_WAREHOUSE_ADMIN"):
        apply_schema()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"password": "hunter2"}, "refused the login.*Correct the login and password of connection warehouse_etl"),
        ({"port": 1}, "127.0.0.1:1.*cannot be reached.*make services"),
        ({"host": ""}, "has no host"),
    ],
)
def test_a_connection_that_does_not_work_is_reported_with_its_address_and_a_remedy(
    warehouse_server, monkeypatch, change, message
) -> None:
    connection = json.loads(os.environ["AIRFLOW_CONN_WAREHOUSE_ETL"]) | change
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_ETL", json.dumps(connection))
    with pytest.raises(WarehouseError, match=message) as raised, warehouse():
        pass
    assert connection["password"] not in str(raised.value)


@pytest.mark.parametrize("table", ["etl.no_such_table", "etl.batches FORCE INDEX (no_such_key)"])
def test_the_error_for_a_missing_table_or_key_names_the_set_up(warehouse_schema: None, table: str) -> None:
    with pytest.raises(WarehouseError, match="lacks a table.*To create it, run"):
        run("warehouse_admin", f"SELECT * FROM {table}")


# ⚑ sessions use UTC, and columns DATETIME(6)
def test_times_keep_their_microseconds_in_utc(lab: Lab) -> None:
    lab.publish({minute(0): [contribution()]})
    precise = minute(0).replace(second=59, microsecond=123_456)
    lab.query("UPDATE recruitment.events SET latest_update_time = %s", precise)
    assert lab.facts("latest_update_time") == {(7, 0): precise}
    assert abs(lab.one("SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(6), CURRENT_TIMESTAMP(6))")) == 0


# ⚑ key columns are NOT NULL, text keys utf8mb4_bin
def test_keys_of_facts_and_contributions_are_never_null(lab: Lab) -> None:
    nullable = lab.query(
        "SELECT c.table_name, c.column_name FROM information_schema.columns AS c JOIN information_schema.statistics AS s "
        "ON s.table_schema = c.table_schema AND s.table_name = c.table_name AND s.column_name = c.column_name "
        "WHERE c.table_schema IN ('recruitment', 'ecommerce') AND s.index_name = 'PRIMARY' AND c.is_nullable = 'YES'"
    )
    assert nullable == []
    collations = lab.query(
        "SELECT DISTINCT table_collation FROM information_schema.tables "
        "WHERE table_schema IN ('etl', 'recruitment', 'ecommerce') AND table_collation IS NOT NULL"
    )
    assert collations == [("utf8mb4_bin",)]
