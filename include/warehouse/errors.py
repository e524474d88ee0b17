"""Errors of the warehouse, whose messages say where, what was found, and what to do."""

from __future__ import annotations

from include.connections import Endpoint
from include.errors import SET_UP, MinutemarkError

DEADLOCK, LOCK_WAIT = 1213, 1205
LOST = frozenset({2006, 2013, 2055, 4031, 1927, 1053})  # the session has ended; its uncommitted changes are rolled back
_UNREACHABLE = frozenset({2002, 2003, 2005, 2026})
_REFUSED_LOGIN = frozenset({1045, 1130, 1251, 1820, 1862, 2059, 2061, 3118, 4151})
DENIED = frozenset({1044, 1142, 1143, 1227, 1370, 1410})
_MISSING = frozenset({1049, 1054, 1146, 1176})
_PREVENTED = frozenset({1290, 1836, 1874})  # by an option, such as read_only
_NO_SPACE = frozenset({3, 1021, 1026, 1030, 1114})
_LIMITED = frozenset({1040, 1203, 1226})
_BLOCKED = frozenset({1129})
# The same statement may succeed later.
TEMPORARY = LOST | _NO_SPACE | _LIMITED | {DEADLOCK, LOCK_WAIT}
_STATEMENT_ERRORS = frozenset({"ProgrammingError", "IntegrityError", "DataError", "NotSupportedError"})
# Errors of a statement that mysqlclient raises as OperationalError, like most codes that it does not know.
_STATEMENT_CODES = frozenset({1052, 1055, 1241, 1242, 1264, 1305, 1318, 1364, 1366, 1406, 1525, 1690, 3140, 3819})


class WarehouseError(MinutemarkError):
    """The warehouse could not be reached, or refused a request. `code` is the server's or the client library's number."""

    is_retried = True

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class BatchRefused(MinutemarkError):
    """A batch is not in the state that a task needs; the message says what to clear or start."""


def code_of(error: BaseException) -> int | None:
    """The error number of either driver's exception, or of a WarehouseError."""
    for candidate in (getattr(error, "code", None), getattr(error, "errno", None), *error.args[:1]):
        if isinstance(candidate, int):
            return candidate
    return None


def is_driver_error(error: BaseException) -> bool:
    """Whether the error is an exception of either driver."""
    return type(error).__module__.startswith(("MySQLdb", "mysql.connector"))


def place(target: Endpoint) -> str:
    """`connection warehouse_etl (host:3306, account etl)`."""
    return f"connection {target.conn_id} ({target.host or '(no host)'}:{target.port or 3306}, account {target.login})"


def explain(error: BaseException, target: Endpoint) -> WarehouseError | None:
    """The driver's exception as a WarehouseError with its remedy; None for an error of a statement, or of anything else."""
    if not is_driver_error(error):
        return None
    code = code_of(error)
    remedy = _remedy(code, target)
    if remedy is None:
        if type(error).__name__ in _STATEMENT_ERRORS or code in _STATEMENT_CODES:
            return None
        remedy = f"failed (error {code})", "Read the server's log."
    text = getattr(error, "msg", None) or (error.args[-1] if error.args else error)  # mysql-connector-python has msg
    message = " ".join(str(text).split())[:400].rstrip(".")  # empty for a session that is closed
    found = f"{remedy[0]}: {message}" if message else remedy[0]
    return WarehouseError(f"The warehouse of {place(target)} {found}. {remedy[1]}", code)


def _remedy(code: int | None, target: Endpoint) -> tuple[str, str] | None:
    if code in _UNREACHABLE:
        return (
            "cannot be reached",
            f"Start it (`make services`), or correct host, port and TLS settings (extra `ssl`) of connection {target.conn_id}.",
        )
    if code in _REFUSED_LOGIN:
        return (
            "refused the login",
            f"Correct the login and password of connection {target.conn_id}. If the account is locked, or its password has "
            "expired, an administrator must change that.",
        )
    if code in DENIED:
        return "denied permission", f"As an administrator, {SET_UP}, which grants what each account needs."
    if code in _MISSING:
        return "lacks a table, column, key or database", f"To create it, {SET_UP}."
    if code in LOST:
        return (
            "closed the session",
            "Uncommitted changes are rolled back: run the task again, and read the server's log.",
        )
    if code in _PREVENTED:
        return (
            "refused a statement",
            f"If the server is read-only, make it writable, or correct the host and port of connection {target.conn_id}.",
        )
    if code in _NO_SPACE:
        return "cannot read or write its files", "Free disk space on the server, and read its log."
    if code in _BLOCKED:
        return (
            "has blocked this host",
            "As an administrator, run FLUSH HOSTS (MySQL: TRUNCATE TABLE performance_schema.host_cache).",
        )
    if code in _LIMITED:
        return "has reached a limit", "End other sessions, or raise the limit."
    if code in (DEADLOCK, LOCK_WAIT):
        return "gave up waiting for another session", "Try again. SHOW FULL PROCESSLIST lists the sessions."
    return None
