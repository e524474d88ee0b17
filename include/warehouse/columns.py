"""Columns and keys that a newer version declares: added to the tables of an older one, out of the CREATE TABLE of new ones.

So warehouse.sql is the only description of a table, and set-up can be run again and again. Nothing is changed or dropped:
a column that is no longer declared stays. Why it is done so: docs/adr/0014-columns-from-the-create-table.md.
"""

from __future__ import annotations

import re

from include.warehouse.errors import LOCK_WAIT, WarehouseError, code_of
from include.warehouse.session import in_transaction

_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+\.\w+)\s*\((.*)\)\s*ENGINE\b", re.DOTALL)
_PIECE = re.compile(r"'(?:[^']|'')*'|[(),]|[^'(),]+")  # a comment's text may hold commas and brackets
_KEYS = frozenset({"PRIMARY", "UNIQUE", "KEY", "INDEX", "CONSTRAINT", "FOREIGN", "CHECK", "FULLTEXT", "SPATIAL"})
_KEY = re.compile(r"(?:KEY|INDEX) (\w+) ?\(.*\)", re.DOTALL)
_ALREADY_THERE = frozenset({1060, 1061})  # the column, the key: another set-up was quicker
# DDL waits for every reader of the table, and whoever comes later waits behind it: give up before that is noticed.
_PATIENCE = 10  # seconds


class ColumnRefused(RuntimeError):
    """A declared column that can't be given to rows that are there."""


def declared(statement: str) -> tuple[str, dict[str, str]] | None:
    """database.table and its columns, name to definition, of a CREATE TABLE; None for any other statement."""
    found = _TABLE.match(statement)
    if not found:
        return None
    parts = (part.split(maxsplit=1) for part in _split(found[2]))
    return found[1], {part[0]: part[1] for part in parts if part[0] not in _KEYS}


def declared_keys(statement: str) -> dict[str, str]:
    """The keys of a CREATE TABLE that are neither its primary one nor unique, name to definition."""
    found = _TABLE.match(statement)
    keys = (_KEY.fullmatch(part) for part in (_split(found[2]) if found else ()))
    return {key[1]: key[0] for key in keys if key}


def add_missing(conn, statement: str) -> list[str]:
    """Add what the table of this CREATE TABLE lacks of it, each column where it is declared, then keys; returns their names.

    Rows that are there get NULL or the default. DDL commits. Raises ColumnRefused for one that has neither, and
    WarehouseError for a table that is in use for too long.
    """
    found = declared(statement)
    if not found:
        return []
    table, columns = found
    there = _existing(conn, table)
    names = list(columns)
    missing = [name for name in names if name not in there]
    for name in missing:
        _check(table, name, columns[name])
    for name in missing:
        place = names.index(name)
        _add(conn, table, f"COLUMN {name} {columns[name]} {f'AFTER {names[place - 1]}' if place else 'FIRST'}")
    keys = declared_keys(statement)
    unindexed = [name for name in keys if name not in _existing(conn, table, of="key")] if keys else []
    for name in unindexed:
        _add(conn, table, keys[name])
    return missing + unindexed


def exists(conn, table: str) -> bool:
    """Whether there is such a table; `table` is database.table."""
    return bool(_existing(conn, table))


def _split(body: str) -> list[str]:
    """The parts of a list between its own commas."""
    parts, depth = [""], 0
    for piece in _PIECE.findall(body):
        depth += (piece == "(") - (piece == ")")
        if piece == "," and not depth:
            parts.append("")
        else:
            parts[-1] += piece
    return [part.strip() for part in parts]


def _existing(conn, table: str, of: str = "column") -> set[str]:
    """Names of its columns, or of its keys."""
    source, name_of = {
        "column": ("columns", "column_name"),
        "key": ("statistics", "index_name"),
    }[of]
    return {name for (name,) in described(conn, table, source, f"DISTINCT {name_of}")}


def described(conn, table: str, view: str, columns: str, order: str = "") -> list[tuple]:
    """What a view of information_schema says of database.table, such as its columns or partitions."""
    database, name = table.split(".")
    cursor = conn.cursor()
    cursor.execute(
        f"SELECT {columns} FROM information_schema.{view} "
        f"WHERE table_schema = %(database)s AND table_name = %(name)s {order}",
        {"database": database, "name": name},
    )
    found = list(cursor.fetchall())
    conn.rollback()
    return found


def _check(table: str, name: str, definition: str) -> None:
    without_texts = re.sub(r"'(?:[^']|'')*'", "''", definition)
    if "NOT NULL" in without_texts and " DEFAULT " not in without_texts:
        raise ColumnRefused(
            f"{table} has no column {name} yet, and its warehouse.sql declares it NOT NULL without a DEFAULT: the rows that "
            "are there would get a value that nobody has counted. Declare it NULL, or with a DEFAULT that is true of them."
        )


def _add(conn, table: str, what: str) -> None:
    def alter(cursor) -> None:
        cursor.execute("SET SESSION lock_wait_timeout = %(seconds)s", {"seconds": _PATIENCE})
        try:
            cursor.execute(f"ALTER TABLE {table} ADD {what}")
        except Exception as error:
            if code_of(error) not in _ALREADY_THERE:
                raise

    try:
        in_transaction(conn, alter)
    except Exception as error:
        if code_of(error) != LOCK_WAIT:
            raise
        raise WarehouseError(
            f"{table} was in use all the time, so that its new {' '.join(what.split()[:2])} could not be added. Run the set-up "
            "again when whoever reads it is done: SHOW PROCESSLIST tells who that is.",
            LOCK_WAIT,
        ) from error
