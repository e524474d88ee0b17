"""DDL on tables in use. DDL waits for every open transaction on the table, and later statements wait for the DDL.
Therefore DDL gives up soon, and the error lists the sessions to wait for.
"""

from __future__ import annotations

from include.warehouse.errors import DENIED, LOCK_WAIT, WarehouseError, code_of
from include.warehouse.session import in_transaction, reading, value
from include.warehouse.statements import Statements

sql = Statements(__file__)

_TRIES = 8  # without patience: MariaDB itself uses a table for a moment after a DELETE, and these tries block nothing
REBUILD_PATIENCE = 10  # seconds: the last step of a rebuild waits too, and the new copy is lost if that step gives up
_MAX_SESSIONS = 5  # in a message


def execute(conn, statement: str, patience: int | None = None) -> bool:
    """Run the statement and commit; False if its table or view was in use for `patience` seconds."""
    seconds = value(conn.cursor(), sql("patience")) if patience is None else patience

    def run(cursor) -> None:
        cursor.execute("SET SESSION lock_wait_timeout = %(seconds)s", {"seconds": seconds})
        try:
            cursor.execute(statement)
        finally:
            cursor.execute("SET SESSION lock_wait_timeout = DEFAULT")

    try:
        in_transaction(conn, run, tries=1 if seconds else _TRIES)
    except Exception as error:
        if code_of(error) != LOCK_WAIT:
            raise
        return False
    return True


def in_use(conn, name: str, what: str) -> WarehouseError:
    """The error for a table or view in use, with the consequence (`what`) and the sessions to wait for."""
    return WarehouseError(
        f"{name} is in use, and {what}. Set-up gave up, because a longer wait would block reads and merges. "
        f"{_blocking_sessions(conn)} "
        "End them or wait for them, then run set-up again.",
        LOCK_WAIT,
    )


def _blocking_sessions(conn) -> str:
    try:
        with reading(conn) as cursor:
            cursor.execute(sql("sessions"), {"limit": _MAX_SESSIONS})
            sessions = cursor.fetchall()
    except Exception as error:
        if code_of(error) not in DENIED:
            raise
        sessions = []  # this account does not see the sessions of others
    if not sessions:
        return "SHOW PROCESSLIST, as an account with the PROCESS privilege, lists the sessions."
    listed = "; ".join(
        f"session {session} of {user} ({'idle' if command == 'Sleep' else command} for {seconds} s)"
        for session, user, command, seconds in sessions
    )
    return f"Sessions with an open transaction, the oldest first: {listed}."
