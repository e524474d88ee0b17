"""Adds to existing tables the columns and keys that a newer version declares in its CREATE TABLE statements.

This keeps warehouse.sql the only description of a table, and set-up repeatable. Set-up neither changes nor drops a
column, even if it is no longer declared (docs/adr/0014-columns-from-the-create-table.md).
"""

from __future__ import annotations

import logging
import re

from include.errors import MinutemarkError
from include.warehouse import ddl
from include.warehouse.errors import code_of
from include.warehouse.session import reading
from include.warehouse.statements import Statements

sql = Statements(__file__)

log = logging.getLogger(__name__)

_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+\.\w+)\s*\((.*)\)\s*ENGINE\b", re.DOTALL)
_PIECE = re.compile(r"'(?:[^']|'')*'|[(),]|[^'(),]+")  # a comment's text may hold commas and brackets
_KEYS = frozenset({"PRIMARY", "UNIQUE", "KEY", "INDEX", "CONSTRAINT", "FOREIGN", "CHECK", "FULLTEXT", "SPATIAL"})
_KEY = re.compile(r"(?:KEY|INDEX) (\w+) ?\(.*\)", re.DOTALL)
_PRIMARY = re.compile(r"PRIMARY KEY \((.*)\)", re.DOTALL)
_ALREADY_DONE = frozenset({1060, 1061, 1091})  # another set-up has added the column or key, or dropped the key


class ColumnRefused(MinutemarkError):
    """A declared column that cannot be added to a table with rows."""


def declared(statement: str) -> tuple[str, dict[str, str]] | None:
    """database.table and its columns, name to definition, of a CREATE TABLE; None for any other statement."""
    match = _TABLE.match(statement)
    if not match:
        return None
    parts = (part.split(maxsplit=1) for part in _split(match[2]))
    return match[1], {part[0]: part[1] for part in parts if part[0] not in _KEYS}


def declared_keys(statement: str) -> dict[str, str]:
    """The keys of a CREATE TABLE, name to definition, without its primary and unique keys."""
    match = _TABLE.match(statement)
    keys = (_KEY.fullmatch(part) for part in (_split(match[2]) if match else ()))
    return {key[1]: key[0] for key in keys if key}


def declared_primary(statement: str) -> list[str]:
    """The columns of the primary key of a CREATE TABLE."""
    match = _TABLE.match(statement)
    keys = (_PRIMARY.fullmatch(part) for part in (_split(match[2]) if match else ()))
    return next(([column.strip() for column in key[1].split(",")] for key in keys if key), [])


def add_missing(conn, statement: str, patience: int | None = None) -> list[str]:
    """Add the columns and keys of this CREATE TABLE that the table lacks, each column in its place; returns their names.

    `patience` is the number of seconds to wait for a table in use. Existing rows get NULL or the default. A unique key that
    is now declared as the primary key becomes the primary key. DDL commits.
    Raises ColumnRefused for a NOT NULL column without a default, and WarehouseError for a table that is in use.
    """
    declaration = declared(statement)
    if not declaration:
        return []
    table, columns = declaration
    existing = _catalog_names(conn, table)
    names = list(columns)
    missing = [name for name in names if name not in existing]
    for name in missing:
        _check(table, name, columns[name])
    for name in missing:
        place = names.index(name)
        after = f"AFTER {names[place - 1]}" if place else "FIRST"
        _add(conn, table, f"COLUMN {name} {columns[name]} {after}", patience)
    keys = declared_keys(statement)
    unindexed = [name for name in keys if name not in _catalog_names(conn, table, "key")] if keys else []
    for name in unindexed:
        _add(conn, table, keys[name], patience)
    return missing + unindexed + _promote(conn, table, declared_primary(statement))


def exists(conn, table: str) -> bool:
    """Whether the table exists; `table` is database.table."""
    return bool(_catalog_names(conn, table))


def _split(body: str) -> list[str]:
    """The parts of a list, split at its own commas and not at those inside brackets or string literals."""
    parts, depth = [""], 0
    for piece in _PIECE.findall(body):
        depth += (piece == "(") - (piece == ")")
        if piece == "," and not depth:
            parts.append("")
        else:
            parts[-1] += piece
    return [part.strip() for part in parts]


def _catalog_names(conn, table: str, kind: str = "column") -> set[str]:
    """The names of the table's columns, or of its keys."""
    source, name_of = {
        "column": ("columns", "column_name"),
        "key": ("statistics", "index_name"),
    }[kind]
    return {name for (name,) in catalog_rows(conn, table, source, f"DISTINCT {name_of}")}


def catalog_rows(conn, table: str, view: str, columns: str, order: str = "") -> list[tuple]:
    """The rows of a view of information_schema about database.table, such as its columns or partitions."""
    database, name = table.split(".")
    query = sql("catalog_rows", view=view, columns=columns, order=order)
    with reading(conn) as cursor:
        cursor.execute(query, {"database": database, "name": name})
        return [tuple(_text(value) for value in row) for row in cursor.fetchall()]


def _text(value):
    """The value as text: client libraries return some columns of information_schema as bytes."""
    return value.decode() if isinstance(value, bytes | bytearray) else value


def _check(table: str, name: str, definition: str) -> None:
    without_texts = re.sub(r"'(?:[^']|'')*'", "''", definition)
    # A generated column may have IS NOT NULL in its expression.
    own = re.sub(r"\(.*\)", "()", without_texts, flags=re.DOTALL)
    if "NOT NULL" in own and " DEFAULT " not in own:
        raise ColumnRefused(
            f"{table} has no column {name} yet, and its declaration is NOT NULL without a DEFAULT: existing rows would get a "
            "value that was never counted. Declare the column NULL, or with a DEFAULT that is correct for existing rows."
        )


def _promote(conn, table: str, primary: list[str]) -> list[str]:
    """Make the unique key of these columns the primary key, which locks no gaps when a row is inserted again."""
    keys: dict[str, list[str]] = {}
    unique = "AND non_unique = 0 ORDER BY index_name, seq_in_index"
    for name, column in catalog_rows(conn, table, "statistics", "index_name, column_name", unique):
        keys.setdefault(name, []).append(column)
    former = next((name for name, columns in keys.items() if columns == primary and name != "PRIMARY"), None)
    if former is None or keys.get("PRIMARY") == primary:
        return []
    log.info("Rebuilding %s with another primary key. It can be read and written while this is done.", table)
    what = f"DROP PRIMARY KEY, DROP KEY {former}, ADD PRIMARY KEY ({', '.join(primary)})"
    _alter(conn, table, what, "its new primary key could not be created", ddl.REBUILD_PATIENCE)
    return ["PRIMARY KEY"]


def _add(conn, table: str, what: str, patience: int | None) -> None:
    _alter(conn, table, f"ADD {what}", f"its new {' '.join(what.split()[:2])} could not be added", patience)


def _alter(conn, table: str, what: str, problem: str, patience: int | None = None) -> None:
    try:
        done = ddl.execute(conn, f"ALTER TABLE {table} {what}", patience)
    except Exception as error:
        if code_of(error) not in _ALREADY_DONE:
            raise
        done = True
    if not done:
        raise ddl.in_use(conn, table, problem)
