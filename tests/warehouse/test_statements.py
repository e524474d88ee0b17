"""SQL is in a file next to its module: Python concatenates no SQL, and every statement states its purpose."""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from include.warehouse.session import column, reading, value, warehouse
from include.warehouse.sql import FOLDER
from include.warehouse.statements import Statements
from tests.warehouse.lab import Lab

INCLUDE = FOLDER.parent
FILES = sorted(path for path in INCLUDE.rglob("*.sql") if FOLDER not in path.parents)
# These have statements in CQL, or queries of DataFrames, instead of the warehouse's SQL.
OTHER_LANGUAGES = ("lake", "spark", "kafka")
CQL = {
    "files/flat_table.py",
    "housekeeping/demo_events.py",
    "lakehouse/events.py",
    "verify/identities.py",
    "verify/unread.py",
}
MODULES = sorted(
    path
    for path in INCLUDE.rglob("*.py")
    if path.relative_to(INCLUDE).parts[0] not in OTHER_LANGUAGES and path.relative_to(INCLUDE).as_posix() not in CQL
)
_SQL = re.compile(r"\s*\(?(SELECT|INSERT|UPDATE|DELETE|REPLACE|WITH)\s")


def name_of(path: Path) -> str:
    return str(path.relative_to(INCLUDE.parent))


@pytest.fixture
def sql(tmp_path: Path) -> Statements:
    """The statements of a module that has two of them."""
    (tmp_path / "events.sql").write_text(
        "{% macro day() %}\nday = %(day)s\n{%- endmacro %}\n\n"
        "-- name: of_day\n-- Events of a day: one row per event.\nSELECT id FROM {{ table }}\n-- by key\nWHERE {{ day() }};\n\n"
        "-- name: newest\n-- The newest event: one row.\nSELECT MAX(id) FROM etl.events;\n"
    )
    return Statements(str(tmp_path / "events.py"))


def test_a_statement_is_filled_and_has_no_comments(sql: Statements) -> None:
    assert sql("of_day", table="shop.events") == "SELECT id FROM shop.events\nWHERE day = %(day)s"
    assert sql("newest") == "SELECT MAX(id) FROM etl.events"


def test_an_unknown_name_is_refused_with_the_known_ones(sql: Statements) -> None:
    with pytest.raises(LookupError, match=r"events\.sql has no statement 'oldest'\. It has: of_day, newest\."):
        sql("oldest")


def test_a_missing_identifier_is_refused(sql: Statements) -> None:
    with pytest.raises(UndefinedError, match="table"):
        sql("of_day")


@pytest.mark.parametrize("client", ["mysqlclient", "mysql-connector-python"])
@pytest.mark.parametrize(("values", "numbers"), [((1, 3, 4), [1, 3]), ((), [])])
def test_a_bound_list_stands_for_its_values(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, client: str, values: tuple[int, ...], numbers: list[int]
) -> None:
    connection = json.loads(os.environ["AIRFLOW_CONN_WAREHOUSE_ETL"])
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_ETL", json.dumps(connection | {"extra": {"client": client}}))
    query = "SELECT d.n FROM (SELECT 1 AS n UNION SELECT 2 UNION SELECT 3) AS d WHERE d.n IN (%(values)s) ORDER BY d.n"
    with warehouse() as conn:
        assert column(conn.cursor(), query, {"values": values}) == numbers


def test_a_read_ends_its_transaction(lab: Lab) -> None:
    with warehouse() as conn:
        with reading(conn) as cursor:
            cursor.execute("INSERT INTO etl.minute_ledger (pipeline, minute) VALUES ('recruitment', '2026-03-01')")
        conn.commit()
        assert value(conn.cursor(), "SELECT COUNT(*) FROM etl.minute_ledger") == 0


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_statement_states_its_purpose_and_is_used(path: Path) -> None:
    texts = re.split(r"^-- name: (\w+)\n", path.read_text(), flags=re.MULTILINE)
    names, bodies = texts[1::2], texts[2::2]
    assert len(set(names)) == len(names) > 0
    for name, body in zip(names, bodies, strict=True):
        assert re.match(r"-- [A-Z].*\.\n", body.replace("\n-- ", " ")), (
            f"{path}: {name} does not begin with a sentence."
        )
        assert body.rstrip().endswith(";"), f"{path}: {name} does not end with a semicolon."
    uses = {name for module in INCLUDE.rglob("*.py") for name in re.findall(r'\bsql\(\s*"(\w+)"', module.read_text())}
    assert not set(names) - uses, f"{path}: {set(names) - uses} are not used. Delete them."
    called = set(re.findall(r'(?<!\.)\bsql\(\s*"(\w+)"', path.with_suffix(".py").read_text()))
    assert not called - set(names), f"{path} lacks {called - set(names)}."


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_percent_signs_are_binds(path: Path) -> None:
    sql = Statements(str(path))
    for name in sql.texts:
        text = re.split(rf"^-- name: {name}\n", path.read_text(), flags=re.MULTILINE)[1].partition("-- name:")[0]
        stray = re.findall(r"(?<!%)%(?!\([\w{} ]+\)s|s\b|%).?", re.sub(r"\{%.*?%\}", "", text))
        assert not stray, f"{path}: {name} has {stray}. Write a literal percent sign as %%."


def concatenated_statements(path: Path) -> Iterator[str]:
    """A module's statements that are formatted, or longer than a line."""
    tree = ast.parse(path.read_text())
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
            text, is_short = node.values[0].value, False
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            text, is_short = node.value, node.lineno == node.end_lineno
        else:
            continue
        if _SQL.match(text) and not is_short:
            yield f"line {node.lineno}: {text[:60]}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_statement_is_concatenated_in_python(path: Path) -> None:
    result = list(concatenated_statements(path))
    assert not result, (
        f"{name_of(path)}: {result}. Move it to the .sql file next to the module; see include/warehouse/statements.py."
    )


def test_concatenated_statements_are_found(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text('a = f"DELETE FROM {t}"\nb = ("SELECT a "\n "FROM t")\nc = "SELECT 1"\nd = "Update the\\ntable"\n')
    assert [line[:6] for line in concatenated_statements(path)] == ["line 1", "line 2"]
