"""`make query`: what it prints, and what it refuses."""

import datetime as dt
import json
from decimal import Decimal

import pytest

from local import environment, query
from local.problems import Problem
from tests.lakehouse.conftest import bigquery_emulator  # noqa: F401 - a fixture

NAMES = ["job_id", "spend_hour", "title", "at"]
ROWS = [(7, Decimal("1.50"), "a\tb", dt.datetime(2026, 1, 1)), (8, Decimal("2"), None, None)]


def test_json_keeps_numbers_and_nulls(capsys):
    query.show(NAMES, ROWS, "json")
    first, second = json.loads(capsys.readouterr().out)
    assert (first["job_id"], first["spend_hour"], first["at"]) == (7, 1.5, "2026-01-01 00:00:00")
    assert (second["spend_hour"], second["title"]) == (2, None)


def test_tsv_is_one_line_per_row_for_any_values(capsys):
    query.show(NAMES, ROWS, "tsv")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "7\t1.50\ta\\tb\t2026-01-01 00:00:00"
    assert lines[2] == "8\t2\t\\N\t\\N"


def test_a_table_shows_values_as_they_are(capsys):
    query.show(["a"], [("[bold]x[/bold]",)], "table")
    shown = capsys.readouterr().out
    assert "[bold]x[/bold]" in shown and "1 row" in shown


@pytest.mark.parametrize(("sql", "form", "found"), [("", "table", "no statement"), ("SELECT 1", "xml", "FORMAT=xml")])
def test_invalid_arguments_are_refused_before_any_query(sql, form, found):
    with pytest.raises(Problem, match=found):
        query.query(sql, form)


@pytest.fixture
def warehouse_env(warehouse_server, monkeypatch):
    monkeypatch.setattr(environment, "read", lambda: warehouse_server)


def test_it_answers_from_the_real_server(warehouse_env, capsys):
    query.query("SELECT CURRENT_USER() AS me", "tsv")
    assert capsys.readouterr().out == "me\nbi@127.0.0.1\n"


@pytest.mark.parametrize("sql", ["SELEC 1", "CREATE DATABASE mine", "SET GLOBAL max_connections = 1"])
def test_the_server_s_refusal_comes_as_a_sentence(warehouse_env, sql):
    with pytest.raises(Problem, match="the warehouse rejected the statement"):
        query.query(sql, "tsv")


def test_an_unreachable_server_is_reported_with_its_address(monkeypatch):
    away = {"AIRFLOW_CONN_WAREHOUSE_BI": '{"conn_type": "mysql", "host": "127.0.0.1", "port": 1, "login": "bi"}'}
    monkeypatch.setattr(environment, "read", lambda: away)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_BI", away["AIRFLOW_CONN_WAREHOUSE_BI"])
    with pytest.raises(Problem, match="Warehouse on 127.0.0.1:1, as bi"):
        query.query("SELECT 1", "tsv")


@pytest.fixture
def bigquery_env(bigquery_emulator, monkeypatch):  # noqa: F811
    for name, value in bigquery_emulator.variables().items():
        monkeypatch.setenv(name, value)


def test_bigquery_answers_and_refuses_in_the_same_forms(bigquery_env, capsys):
    query.on_bigquery("SELECT 1 AS one, TIMESTAMP '2026-03-01 10:00:00' AS hour", "tsv")
    assert capsys.readouterr().out == "one\thour\n1\t2026-03-01 10:00:00+00:00\n"
    with pytest.raises(Problem, match="BigQuery rejected the statement: .*nowhere"):
        query.on_bigquery("SELECT * FROM nowhere.nothing", "tsv")


def test_without_bigquery_the_command_that_starts_it_is_named(monkeypatch):
    monkeypatch.delenv("MINUTEMARK_BIGQUERY", raising=False)
    with pytest.raises(Problem, match=r"MINUTEMARK_BIGQUERY is ''(.|\n)*make run MINUTEMARK_LAKEHOUSE=local"):
        query.on_bigquery("SELECT 1", "tsv")


def test_without_a_login_to_google_the_setting_that_names_it_is_named(monkeypatch):
    monkeypatch.setenv("MINUTEMARK_BIGQUERY", "my-project.lakehouse")
    monkeypatch.setenv("NO_GCE_CHECK", "true")  # no machine of Google answers here
    for name in ("BIGQUERY_EMULATOR_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Problem, match=r"BigQuery cannot be used(.|\n)*GOOGLE_APPLICATION_CREDENTIALS"):
        query.on_bigquery("SELECT 1", "tsv")
