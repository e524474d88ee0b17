"""SQL that MySQL 8.4 and MariaDB 10.11 to 11.4 both run, and check files that say what they are."""

from __future__ import annotations

import re

import pytest

from include import pipelines
from include.warehouse import sql

FILES = sorted(sql.FOLDER.rglob("*.sql"))
SOURCES = FILES + sorted((sql.FOLDER.parent / "warehouse").glob("*.py"))
FORBIDDEN = {
    r"\)\s*AS\s+new\b": "MariaDB has no row alias in upserts: insert from a derived table",
    r"\bFOR\s+SHARE\b": "MariaDB says LOCK IN SHARE MODE; lock the pipeline's row FOR UPDATE",
    r"\bFOR\s+UPDATE\s+OF\b": "MariaDB has no FOR UPDATE OF",
    r"\bLATERAL\b": "MariaDB has no LATERAL",
    r"\bREPLACE\s+INTO\b": "REPLACE deletes first and loses columns: upsert",
    r"\bWITH\s+\w+\s+AS\s*\([^;]*\)\s*(DELETE|INSERT|UPDATE)\b": "MariaDB allows WITH only before SELECT",
    r"\bEXCEPT\s+ALL\b|\bINTERSECT\b|\bRETURNING\b": "not in every version of both",
    r"=\s*(\w+\.)?(\w+)\s*=\s*\2\s*\+\s*%": "absolute values only",
    r"\bCURDATE\(\)|\bSYSDATE\(\)": "time comes from the lake or from CURRENT_TIMESTAMP(6)",
    r"utf8mb4_0900": "MariaDB 10.11 does not know MySQL's newest collations",
}


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_no_construct_that_only_one_server_knows(pattern: str) -> None:
    found = {
        path.name: match[0]
        for path in SOURCES
        if (match := re.search(pattern, re.sub(r"--.*", "", path.read_text()), re.IGNORECASE))
    }
    assert not found, f"{found}: {FORBIDDEN[pattern]}."


def test_the_patterns_find_what_they_forbid() -> None:
    samples = (
        "INSERT INTO t VALUES (1) AS new ON",
        "SELECT 1 FOR SHARE",
        "SELECT 1 FOR UPDATE OF t",
        "JOIN LATERAL (",
        "REPLACE INTO t",
        "WITH x AS (SELECT 1) DELETE FROM t",
    )
    for sample in samples:
        assert any(re.search(pattern, sample, re.IGNORECASE) for pattern in FORBIDDEN), sample


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_percent_signs_are_binds(path) -> None:
    statements = sql.statements(path)
    assert statements, f"{path} has no statement."
    stray = [found for text in statements for found in re.findall(r"%(?!\([a-z_]+\)s).?", text)]
    assert not stray, f"{path}: the drivers take every other percent sign for a bind: {stray}."


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_file_says_what_it_is_for(path) -> None:
    assert path.read_text().startswith("-- "), f"{path}: begin with `-- ` and its purpose."


@pytest.mark.parametrize("gate", ["staging", "warehouse"])
@pytest.mark.parametrize("folder", ["control", *pipelines.all_pipelines()])
def test_every_check_is_one_select_with_purpose_and_severity(folder: str, gate: str) -> None:
    found = sql.checks(folder, gate)
    assert found, f"include/sql/{folder}/checks has no {gate}_*.sql."
    for check in found:
        assert check.severity in ("fail", "warn")
        assert check.purpose, f"{check.name}: say in its header what is right."
        assert check.query.startswith("SELECT"), f"{check.name}: a check is a SELECT of the offending rows."


def test_no_check_file_is_left_out() -> None:
    folders = [folder.name for folder in sql.FOLDER.iterdir()]
    known = {
        check.name for folder in folders for gate in ("staging", "warehouse") for check in sql.checks(folder, gate)
    }
    assert {path.stem for path in sql.FOLDER.glob("*/checks/*.sql")} == known, "A check's name begins with its gate."


@pytest.mark.parametrize(("text", "found"), [("SELECT 1;", "None"), ("-- severity: fatal\nSELECT 1;", "'fatal'")])
def test_a_check_without_severity_is_refused(tmp_path, text: str, found: str) -> None:
    path = tmp_path / "staging_x.sql"
    path.write_text(text)
    with pytest.raises(sql.MisnamedCheck, match=f"severity: fail.*{found}"):
        sql._check(path)


def test_a_check_of_two_statements_is_refused(tmp_path) -> None:
    path = tmp_path / "staging_y.sql"
    path.write_text("-- severity: fail\nSELECT 1; SELECT 2;")
    with pytest.raises(sql.MisnamedCheck, match="one SELECT"):
        sql._check(path)
