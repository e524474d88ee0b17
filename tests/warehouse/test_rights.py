"""Set-up with an account that has limited rights: those that docs/deploy.md lists are enough, and each is needed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator

import pytest

from include.warehouse.errors import WarehouseError
from include.warehouse.schema import administrator_grants, apply_schema
from include.warehouse.session import warehouse
from tests.airflow_home import PROJECT

ACCOUNT = "'limited'@'%'"
RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP", "CREATE VIEW", "GRANT OPTION")


def run(conn_id: str, *statements: str) -> list[tuple]:
    with warehouse(conn_id) as conn:
        cursor = conn.cursor()
        for statement in statements:
            cursor.execute(statement)
        records = list(cursor.fetchall())
        conn.commit()
        return records


@pytest.fixture
def powerful(warehouse_schema: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Give warehouse_admin an account with only the documented rights; yields a connection that has all rights."""
    variable = "AIRFLOW_CONN_WAREHOUSE_ADMIN"
    connection = os.environ[variable]
    monkeypatch.setenv("AIRFLOW_CONN_POWERFUL", connection)
    run("powerful", f"CREATE USER {ACCOUNT} IDENTIFIED BY 'its-secret'", *administrator_grants(ACCOUNT))
    monkeypatch.setenv(variable, json.dumps(json.loads(connection) | {"login": "limited", "password": "its-secret"}))
    yield "powerful"
    run("powerful", f"DROP USER {ACCOUNT}")


def test_the_documented_rights_create_the_warehouse_and_grant_to_its_accounts(powerful: str) -> None:
    for grant in administrator_grants(ACCOUNT):
        if database := re.search(r" ON (\w+)\.\*", grant):
            run(powerful, f"DROP DATABASE {database[1]}")
    for user, host in run(powerful, "SELECT user, host FROM mysql.user WHERE user IN ('etl', 'bi')"):
        run(powerful, f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM '{user}'@'{host}'")
    apply_schema()
    apply_schema()
    run("warehouse_etl", "DELETE FROM etl.minute_ledger")
    assert run("warehouse_bi", "SELECT COUNT(*) FROM recruitment.events") == [(0,)]


def test_the_documented_rights_add_a_column_to_an_older_table(powerful: str) -> None:
    run(powerful, "ALTER TABLE ecommerce.visits_hourly DROP COLUMN removals")
    apply_schema()
    run("warehouse_bi", "SELECT removals FROM ecommerce.visits_hourly")


@pytest.mark.parametrize("right", RIGHTS)
def test_each_documented_right_is_needed(powerful: str, right: str) -> None:
    for grant in administrator_grants(ACCOUNT):
        if database := re.search(r" ON (\w+)\.\*", grant):
            run(powerful, f"REVOKE {right} ON {database[1]}.* FROM {ACCOUNT}")
    run(powerful, "DROP VIEW IF EXISTS etl.board_now")  # a view is created only if it is absent or has changed
    with pytest.raises(
        WarehouseError, match="connection warehouse_admin .*denied a permission that set-up needs"
    ) as raised:
        apply_schema()
    assert all(grant in str(raised.value) for grant in administrator_grants(ACCOUNT))


def test_the_list_of_accounts_must_be_readable(powerful: str) -> None:
    run(powerful, f"REVOKE SELECT ON mysql.user FROM {ACCOUNT}")
    with pytest.raises(WarehouseError, match=f"GRANT SELECT ON mysql.user TO {re.escape(ACCOUNT)};"):
        apply_schema()


def test_accounts_that_do_not_exist_need_one_more_right(powerful: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = json.loads(os.environ["AIRFLOW_CONN_WAREHOUSE_BI"]) | {"login": "new_reader"}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_BI", json.dumps(reader))
    with pytest.raises(WarehouseError, match=r"CREATE USER ON \*\.\*"):
        apply_schema()
    run(powerful, f"GRANT CREATE USER ON *.* TO {ACCOUNT}")
    apply_schema()
    run("warehouse_bi", "SELECT 1 FROM etl.minute_ledger")
    run(powerful, "DROP USER new_reader")


def test_without_an_administrator_the_message_names_its_connection_and_its_rights(
    warehouse_schema: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_WAREHOUSE_ADMIN")
    with pytest.raises(
        WarehouseError, match="connection warehouse_etl .*denied a permission that set-up needs"
    ) as raised:
        apply_schema()
    assert "Connection warehouse_admin is not defined: define it (AIRFLOW_CONN_WAREHOUSE_ADMIN" in str(raised.value)
    assert "ON mysql.user TO 'minutemark_admin'@'%';" in str(raised.value)


def test_the_documentation_lists_exactly_these_rights() -> None:
    section = (PROJECT / "docs" / "deploy.md").read_text().partition("\n## MySQL\n")[2].partition("\n## ")[0]
    granted = [line for line in section.splitlines() if line.startswith("GRANT")]
    assert granted == list(administrator_grants("'minutemark_admin'@'%'"))


@pytest.mark.parametrize("password", [{}, {"password": ""}], ids=["none", "empty"])
@pytest.mark.parametrize("conn_id", ["warehouse_etl", "warehouse_bi"])
def test_no_account_is_created_without_a_password(warehouse_schema: None, monkeypatch, conn_id: str, password) -> None:
    variable = f"AIRFLOW_CONN_{conn_id.upper()}"
    connection = json.loads(os.environ[variable])
    del connection["password"]
    monkeypatch.setenv(variable, json.dumps(connection | {"login": "newcomer"} | password))
    with pytest.raises(WarehouseError, match=f"no account 'newcomer', and connection {conn_id} has no password"):
        apply_schema()
    assert run("warehouse_admin", "SELECT user FROM mysql.user WHERE user = 'newcomer'") == []
