"""A statement on the warehouse or on BigQuery: its rows for people and programs, and what is rejected."""

import datetime as dt
import json
import os
from decimal import Decimal

import pytest

from include import cli
from include.bigquery.settings import BigQueryError
from include.listing import Rows, as_json
from include.operations.query import StatementRejected, query, query_bigquery
from include.warehouse.errors import WarehouseError
from tests.lakehouse.conftest import bigquery_emulator  # noqa: F401 - a fixture

ROWS = Rows(
    ["job_id", "spend_hour", "title", "at"],
    [(7, Decimal("1.50"), "a\tb", dt.datetime(2026, 1, 1)), (8, Decimal("2"), None, None)],
)


def test_json_keeps_integers_and_nulls_and_has_decimals_as_strings():
    assert json.loads(as_json(ROWS)) == [
        {"job_id": 7, "spend_hour": "1.50", "title": "a\tb", "at": "2026-01-01 00:00:00"},
        {"job_id": 8, "spend_hour": "2", "title": None, "at": None},
    ]


def test_json_numbers_columns_with_equal_names():
    rows = Rows(["minute", "minute", "minute_2", "minute"], [(1, 2, 3, 4)])
    assert json.loads(as_json(rows)) == [{"minute": 1, "minute_3": 2, "minute_2": 3, "minute_4": 4}]


def test_tsv_is_one_line_per_row_for_any_values():
    assert ROWS.in_format("tsv").splitlines() == [
        "job_id\tspend_hour\ttitle\tat",
        "7\t1.50\ta\\tb\t2026-01-01 00:00:00",
        "8\t2\t\\N\t\\N",
    ]


def test_a_table_shows_values_as_they_are():
    shown = str(Rows(["a"], [("[bold]x[/bold]",)]))
    assert "[bold]x[/bold]" in shown and shown.endswith("1 row")


def test_the_read_only_account_answers_on_the_command_line(warehouse_server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MINUTEMARK_STATE", str(tmp_path))
    assert cli.main(["query", "SELECT CURRENT_USER() AS me, 50 % 30 AS rest", "--format", "tsv"]) == 0
    assert capsys.readouterr().out == "me\trest\nbi@127.0.0.1\t20\n"


@pytest.mark.parametrize(
    ("statement", "remedy"),
    [
        ("SELEC 1", "Fix the statement. SHOW TABLES FROM etl lists etl's tables; SHOW DATABASES lists the databases."),
        (
            "CREATE DATABASE mine",
            "This account can only read, and has no access to payloads, staging or samples of checks.",
        ),
        ("SET GLOBAL max_connections = 1", "This account can only read"),
    ],
)
def test_a_rejection_by_the_server_is_reported_as_a_sentence(warehouse_server, statement, remedy):
    with pytest.raises(StatementRejected) as rejected:
        query(statement)
    assert str(rejected.value).startswith("The warehouse rejected the statement: ") and remedy in str(rejected.value)


@pytest.mark.parametrize("client", ["mysqlclient", "mysql-connector-python"])
@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("SELECT 1; SELECT 2", "near 'SELECT 2'"),
        ("COMMIT; SET SESSION TRANSACTION READ WRITE", "near 'SET SESSION TRANSACTION READ WRITE'"),
        ("SELECT 18446744073709551615 + 1", "out of range"),  # the server reports it when rows are read
    ],
)
def test_a_second_statement_and_an_error_in_a_row_are_rejections(
    warehouse_server, monkeypatch, client, statement, problem
):
    connection = json.loads(os.environ["AIRFLOW_CONN_WAREHOUSE_BI"])
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_BI", json.dumps(connection | {"extra": {"client": client}}))
    assert query("SELECT 1;").rows[0] == (1,)
    with pytest.raises(StatementRejected, match=problem):
        query(statement)


def test_an_unreachable_server_is_reported_with_its_address(monkeypatch):
    unreachable = '{"conn_type": "mysql", "host": "127.0.0.1", "port": 1, "login": "bi"}'
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_BI", unreachable)
    with pytest.raises(WarehouseError, match=r"connection warehouse_bi \(127.0.0.1:1, account bi\) cannot be reached"):
        query("SELECT 1")


@pytest.fixture
def bigquery_env(bigquery_emulator, monkeypatch):  # noqa: F811
    for name, value in bigquery_emulator.variables().items():
        monkeypatch.setenv(name, value)


def test_bigquery_answers_and_rejects_in_the_same_forms(bigquery_env):
    rows = query_bigquery("SELECT 1 AS one, TIMESTAMP '2026-03-01 10:00:00' AS hour")
    assert rows.in_format("tsv") == "one\thour\n1\t2026-03-01 10:00:00+00:00"
    with pytest.raises(StatementRejected, match=r"BigQuery rejected the statement: .*nowhere"):
        query_bigquery("SELECT * FROM nowhere.nothing")


def test_without_bigquery_the_command_that_starts_it_is_named(monkeypatch):
    monkeypatch.delenv("MINUTEMARK_BIGQUERY", raising=False)
    with pytest.raises(BigQueryError, match=r"MINUTEMARK_BIGQUERY is ''.*make run MINUTEMARK_LAKEHOUSE=local"):
        query_bigquery("SELECT 1")


def test_without_a_login_to_google_the_error_names_the_setting_for_it(monkeypatch):
    monkeypatch.setenv("MINUTEMARK_BIGQUERY", "my-project.lakehouse")
    monkeypatch.setenv("NO_GCE_CHECK", "true")  # no metadata server of Google answers here
    for name in ("BIGQUERY_EMULATOR_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(BigQueryError, match=r"BigQuery cannot be used.*GOOGLE_APPLICATION_CREDENTIALS"):
        query_bigquery("SELECT 1")
