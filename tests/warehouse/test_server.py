"""Settings of a warehouse's server and account that preflight reports, with the value that they must have."""

from __future__ import annotations

import pytest

from include.connections import WAREHOUSE_ETL, endpoint
from include.operations import preflight
from include.warehouse import server
from include.warehouse.session import warehouse


@pytest.fixture
def small_packets(warehouse_schema):
    """The server accepts packets of at most 1 MiB, from the next connection on."""
    with warehouse("warehouse_admin") as conn:
        cursor = conn.cursor()
        cursor.execute("SELECT @@GLOBAL.max_allowed_packet")
        (before,) = cursor.fetchone()
        cursor.execute("SET GLOBAL max_allowed_packet = 1048576")
        yield
        cursor.execute("SET GLOBAL max_allowed_packet = %s", (before,))


def test_a_server_with_its_default_settings_has_no_problem(warehouse_schema):
    assert preflight.connection_problems(WAREHOUSE_ETL) == []


def test_a_packet_limit_that_is_too_low_is_named_with_the_required_size(small_packets):
    (problem,) = preflight.connection_problems(WAREHOUSE_ETL)
    assert "warehouse_etl: the server has max_allowed_packet=1048576" in problem
    assert "max_allowed_packet=16777216" in problem


@pytest.mark.parametrize(
    ("log_bin", "binlog_format", "is_named"),
    [("ON", "STATEMENT", True), ("ON", "ROW", False), ("ON", "MIXED", False), ("OFF", "STATEMENT", False)],
)
def test_a_binary_log_of_statements_is_named(log_bin, binlog_format, is_named):
    result = list(server.setting_problems({"log_bin": log_bin, "binlog_format": binlog_format}))
    assert bool(result) is is_named
    assert not result or "binlog_format=ROW" in result[0]


def test_a_server_that_lacks_a_setting_has_no_problem():
    assert list(server.setting_problems({})) == []


@pytest.mark.parametrize(
    ("extra", "is_named"),
    [
        ("{}", True),
        ('{"ssl": {"cert": "client.pem"}}', False),
        ('{"ssl": {"ca": "ca.pem"}}', True),
        ('{"ssl": true}', True),
    ],
)
def test_an_account_without_a_password_is_named_unless_it_has_a_certificate(monkeypatch, extra, is_named):
    fields = '"conn_type": "mysql", "host": "127.0.0.1", "port": 1'
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_ETL", f'{{{fields}, "login": "etl", "extra": {extra}}}')
    target = endpoint(WAREHOUSE_ETL)
    assert bool(list(preflight._password_problem(target))) is is_named
    assert is_named is any("etl has no password" in problem for problem in preflight._password_problem(target))
