"""Errors of the warehouse's drivers: which become a WarehouseError with a remedy, and which stay as they are."""

from __future__ import annotations

import json
import os

import pytest

from include.warehouse.errors import DEADLOCK, LOCK_WAIT, WarehouseError
from include.warehouse.session import warehouse
from tests.warehouse.lab import Lab, minute

DRIVERS = ["mysqlclient", "mysql-connector-python"]


@pytest.fixture
def driver(request, lab: Lab, monkeypatch) -> None:
    """Sessions of the etl account use the driver that the test's parameter names."""
    connection = json.loads(os.environ["AIRFLOW_CONN_WAREHOUSE_ETL"])
    connection["extra"] = {"client": request.param}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_ETL", json.dumps(connection))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            1290,
            "If the server is read-only, make it writable, or correct the host and port of connection warehouse_etl",
        ),
        (1836, "If the server is read-only"),
        (1021, "Free disk space"),
        (1114, "Free disk space"),
        (1203, "End other sessions, or raise the limit"),
        (1226, "End other sessions, or raise the limit"),
        (DEADLOCK, "SHOW FULL PROCESSLIST"),
        (4151, "refused the login.*connection warehouse_etl"),
        (1047, r"failed \(error 1047\): the reason of the server.*Read the server's log"),
    ],
)
@pytest.mark.parametrize("driver", DRIVERS, indirect=True)
def test_what_the_server_cannot_do_now_is_reported_with_a_remedy(lab: Lab, driver, code, message):
    signal = f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = 'the reason of the server'"
    with pytest.raises(WarehouseError, match=message) as raised, warehouse() as conn:
        conn.cursor().execute(signal)
    assert raised.value.code == code


@pytest.mark.parametrize("driver", DRIVERS, indirect=True)
def test_a_row_that_another_session_has_locked_is_reported_with_its_code(lab: Lab, driver):
    lab.see(minute(0))
    lock = "DELETE FROM etl.minute_ledger"
    lab.conn.cursor().execute(lock)
    with pytest.raises(WarehouseError, match="SHOW FULL PROCESSLIST lists the sessions") as raised, warehouse() as conn:
        conn.cursor().execute("SET SESSION innodb_lock_wait_timeout = 1")
        conn.cursor().execute(lock)
    assert raised.value.code == LOCK_WAIT


@pytest.mark.parametrize("driver", DRIVERS, indirect=True)
@pytest.mark.parametrize(
    "statement",
    [
        "SELEC 1",
        "INSERT INTO etl.pipelines SELECT * FROM etl.pipelines",
        "SELECT minute FROM etl.minute_ledger AS one JOIN etl.minute_ledger AS other",
    ],
)
def test_an_error_of_a_statement_keeps_its_class(lab: Lab, driver, statement):
    with pytest.raises(Exception, match="SQL syntax|Duplicate entry|ambiguous") as raised, warehouse() as conn:
        conn.cursor().execute(statement)
    assert not isinstance(raised.value, WarehouseError)
