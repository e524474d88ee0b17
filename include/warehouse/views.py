"""Replaces views only if their definition has changed: a replacement waits for every reader of the view, and later readers
wait for the replacement.
"""

from __future__ import annotations

import re
from hashlib import sha256

from include.warehouse import ddl
from include.warehouse.columns import catalog_rows
from include.warehouse.statements import Statements

sql = Statements(__file__)

_VIEW = re.compile(r"CREATE OR REPLACE VIEW (\w+\.\w+)\s")


def view_name(statement: str) -> str | None:
    """database.view of a CREATE OR REPLACE VIEW; None for any other statement."""
    match = _VIEW.match(statement)
    return match[1] if match else None


def replace_changed(conn, statement: str) -> bool:
    """Run this CREATE OR REPLACE VIEW unless the view already has this definition; returns whether it ran. DDL commits.

    Raises WarehouseError for a view in use.
    """
    view, digest = view_name(statement) or "", _digest(statement)
    cursor = conn.cursor()
    cursor.execute(
        "SELECT stored_digest FROM etl.view_definitions WHERE view_name = %s AND statement_digest = %s", (view, digest)
    )
    recorded = cursor.fetchone()
    if recorded and recorded[0] == _stored_digest(conn, view):
        return False
    if not ddl.execute(conn, statement):
        raise ddl.in_use(conn, view, "its definition could not be replaced")
    cursor.execute(sql("keep_digest"), (view, digest, _stored_digest(conn, view)))
    conn.commit()
    return True


def _stored_digest(conn, view: str) -> str | None:
    """The digest of the definition as the server shows it; None if the view does not exist."""
    definition = catalog_rows(conn, view, "views", "view_definition")
    return _digest(definition[0][0]) if definition else None


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
