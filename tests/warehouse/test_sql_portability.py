"""SQL that runs on MySQL 8.4 to 9.7 and MariaDB 10.11 to 11.4, and check files that state purpose and severity."""

from __future__ import annotations

import re

import pytest

from include import pipelines
from include.warehouse import sql
from include.warehouse.columns import declared, declared_keys
from local.new_pipeline import SKELETON, sql_words

INCLUDE = sql.FOLDER.parent
# The SQL as it runs: templates of summed facts are filled from the declarations.
FILES = [
    *sql.control("**/*.sql"),
    *(file for pipeline in pipelines.all_pipelines().values() for file in sql.files(pipeline, "**/*.sql")),
]
FILE_ID = "{0.source.parent.name}/{0.name}".format  # the id of a test: folder and name of its file
# Python and boards contain statements too, with keywords in capitals, so that prose is not taken for SQL.
SOURCES = [
    *(file.source for file in FILES),
    *sorted(path for path in INCLUDE.rglob("*.sql") if sql.FOLDER not in path.parents),
    *sorted(SKELETON.rglob("*.sql")),
    *sorted(path for path in INCLUDE.rglob("*.py") if path.parent.name != "bigquery"),
    *sorted((INCLUDE.parent / "dashboards").rglob("*.json")),
    *sorted((INCLUDE.parent / "dashboards").rglob("*.yaml")),
]
# What may follow the AS of a CAST.
TYPES = {"binary", "char", "date", "datetime", "decimal", "signed", "time", "unsigned"}
FORBIDDEN = {
    r"\)\s*AS\s+new\b": "MariaDB has no row alias in upserts: insert from a derived table",
    r"(?<!KEY )\b(UPDATE|DELETE)\b(?=[^;]*\bJSON_TABLE\b)(?![^;]*\bFROM JSON_TABLE\(%\(keys\)s)": (
        "MySQL needs a default database for JSON_TABLE in an UPDATE or DELETE: only the refresh of a dimension has one"
    ),
    r"\bEXPLAIN (?!FORMAT=)": "MySQL 9 prints a tree: EXPLAIN FORMAT=TRADITIONAL",
    r"\b(ADD|DROP|MODIFY|CHANGE)\s+(COLUMN|INDEX|KEY|PARTITION)\s+IF\b": "MySQL has no IF EXISTS for parts of a table",
    r"\bCREATE\s+OR\s+REPLACE\s+(TABLE|INDEX|DATABASE|TRIGGER|PROCEDURE|FUNCTION)\b": "MySQL can replace only views",
    r"\bCREATE\s+(UNIQUE\s+)?INDEX\s+IF\b|\bPERSISTENT\b|\bCREATE\s+SEQUENCE\b": "MySQL has none of these",
    r"\bSET\s+STATEMENT\b|\bEXECUTE\s+IMMEDIATE\b|\bROWS\s+EXAMINED\b": "MySQL has none of these",
    r"->>?\s*'\$|\bMEMBER\s+OF\b|\bVALUES\s+ROW\b|\bJSON_STORAGE_": "MariaDB has none of these",
    r"\b(ANY_VALUE|GROUPING|UUID_TO_BIN|BIN_TO_UUID|REGEXP_LIKE|IS_UUID)\s*\(": "MariaDB has none of these functions",
    r"\bFOR\s+SHARE\b": "MariaDB has LOCK IN SHARE MODE instead: lock the pipeline's row FOR UPDATE",
    r"\bFOR\s+UPDATE\s+OF\b": "MariaDB has no FOR UPDATE OF",
    r"\bLATERAL\b": "MariaDB has no LATERAL",
    r"\bREPLACE\s+INTO\b": "REPLACE deletes the row first, and loses columns: write an upsert",
    r"\bWITH\s+\w+\s+AS\s*\([^;]*\)\s*(DELETE|INSERT|UPDATE)\b": "MariaDB allows WITH only before SELECT",
    r"\bRETURNING\b": "MySQL has no RETURNING",
    r"\b(\w+)\s*=\s*(\w+\.)?\1\s*\+\s*%": "absolute values only",
    r"\bCURDATE\(\)|\bSYSDATE\(\)": "time comes from the lake or from CURRENT_TIMESTAMP(6)",
    r"utf8mb4_0900": "MariaDB 10.11 does not know MySQL's newest collations",
}


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_no_forbidden_construct(pattern: str) -> None:
    matches = {
        path.name: match[0] for path in SOURCES if (match := re.search(pattern, re.sub(r"--.*", "", path.read_text())))
    }
    assert not matches, f"{matches}: {FORBIDDEN[pattern]}."


def test_the_patterns_find_what_they_forbid() -> None:
    samples = (
        "INSERT INTO t VALUES (1) AS new ON",
        "SELECT 1 FOR SHARE",
        "SELECT 1 FOR UPDATE OF t",
        "JOIN LATERAL (",
        "REPLACE INTO t",
        "WITH x AS (SELECT 1) DELETE FROM t",
        "UPDATE t JOIN JSON_TABLE(",
        "EXPLAIN SELECT 1",
        "ALTER TABLE t ADD COLUMN IF NOT EXISTS x INT",
        "CREATE OR REPLACE TABLE t",
        "CREATE INDEX IF NOT EXISTS k",
        "SET STATEMENT max_statement_time = 1 FOR SELECT 1",
        "SELECT d->'$.x'",
        "SELECT ANY_VALUE(x)",
        "DELETE FROM t RETURNING n",
        "UPDATE t SET n = n + %(more)s",
        "SELECT CURDATE()",
        "COLLATE utf8mb4_0900_ai_ci",
    )
    assert {sample for sample in samples if not any(re.search(pattern, sample) for pattern in FORBIDDEN)} == set()
    assert {pattern for pattern in FORBIDDEN if not any(re.search(pattern, sample) for sample in samples)} == set()


def names_in(text: str) -> set[str]:
    """Aliases and names of common table expressions, as they are declared: AS word, WITH word AS."""
    text = re.sub(r"--.*", "", text)
    aliases = {word.lower() for word in re.findall(r"\bAS\s+([A-Za-z_]\w*)", text)} - TYPES - {"select", "with"}
    return aliases | {word.lower() for word in re.findall(r"(?:\bWITH|\),)\s+([a-z_]\w*)\s+AS\s*\(", text)}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(INCLUDE.parent)))
def test_no_name_is_reserved_by_either_server(path) -> None:
    _refuse_reserved(path, names_in(path.read_text()))


@pytest.mark.parametrize("file", FILES, ids=FILE_ID)
def test_no_name_of_a_table_or_column_is_reserved_by_either_server(file) -> None:
    result = names_in(file.text)
    for statement in file.statements:
        if table := declared(statement):
            result |= {*table[0].split("."), *table[1], *declared_keys(statement)}
    _refuse_reserved(file.source, result)


def _refuse_reserved(path, names: set[str]) -> None:
    reserved = {word for word in names if word.lower() in sql_words()}
    assert not reserved, f"{path}: {sorted(reserved)} is reserved by MySQL or MariaDB (local/sql_words.txt): rename it."


def test_reserved_names_are_found() -> None:
    assert names_in("SELECT COUNT(*) AS stored, CAST(x AS DECIMAL) AS x FROM t AS rank -- AS row") & sql_words() == {
        "stored",
        "rank",
    }


@pytest.mark.parametrize("file", FILES, ids=FILE_ID)
def test_percent_signs_are_binds(file) -> None:
    assert file.statements, f"{file.source} has no statement."
    stray = [match for text in file.statements for match in re.findall(r"%(?!\([a-z_]+\)s).?", text)]
    assert not stray, f"{file.source}: the drivers read every other percent sign as a bind: {stray}."


@pytest.mark.parametrize("file", FILES, ids=FILE_ID)
def test_every_file_states_its_purpose(file) -> None:
    assert file.text.startswith("-- "), f"{file.source}: begin with `-- ` and its purpose."


@pytest.mark.parametrize("gate", ["staging", "warehouse"])
@pytest.mark.parametrize("pipeline", pipelines.all_pipelines().values(), ids=lambda pipeline: pipeline.name)
def test_every_check_is_one_select_with_purpose_and_severity(pipeline, gate: str) -> None:
    result = sql.checks(pipeline, gate)
    assert len({check.name for check in result}) == len(result) > 1
    for check in result:
        assert check.severity in ("fail", "warn")
        assert check.purpose, f"{check.name}: state in its header what must be true."
        assert check.query.startswith("SELECT"), f"{check.name}: a check is a SELECT of the offending rows."


def test_no_check_file_is_left_out() -> None:
    known = {
        check.name
        for pipeline in pipelines.all_pipelines().values()
        for gate in ("staging", "warehouse")
        for check in sql.checks(pipeline, gate)
    }
    written = {file.name for file in FILES if file.source.parent.name == "checks"}
    assert written == known, "A check's name begins with its gate."


@pytest.mark.parametrize(("text", "severity"), [("SELECT 1;", "None"), ("-- severity: fatal\nSELECT 1;", "'fatal'")])
def test_a_check_without_severity_is_refused(tmp_path, text: str, severity: str) -> None:
    path = tmp_path / "staging_x.sql"
    path.write_text(text)
    with pytest.raises(sql.InvalidCheck, match=f"severity: fail.*{severity}"):
        sql._check(sql._read(path))


def test_a_check_of_two_statements_is_refused(tmp_path) -> None:
    path = tmp_path / "staging_y.sql"
    path.write_text("-- severity: fail\nSELECT 1; SELECT 2;")
    with pytest.raises(sql.InvalidCheck, match="one SELECT"):
        sql._check(sql._read(path))
