"""Errors of the lake, whose messages say where, what was found, and what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from include.connections import Endpoint
from include.errors import SET_UP, MinutemarkError

_NO_PERMISSION = re.compile(r"no (\w+) permission on <([^>]+)>")
_PLAIN_NAME = re.compile(r"[a-z][a-z0-9_]*")  # other names of accounts need quotes in CQL


class LakeError(MinutemarkError):
    """The lake could not be reached, or refused a request. The message says where, what was found, and the remedy."""

    is_retried = True


class LakePermissionMissing(LakeError):
    """The account lacks a permission."""


class LakeUnreadable(LakeError):
    """Partitions of a lake table that cannot be read; all others were read."""


class LakeTableMismatch(LakeError):
    """A lake table that is not what its pipeline declares, or a table that cannot be copied into it."""


_PARTITION_ERRORS = {"ReadFailure", "ReadTimeout", "OperationTimedOut", "Unavailable"}


def is_partition_error(error: BaseException) -> bool:
    """Whether a read failed because of the partition that it read, or its replicas, so that other partitions may answer."""
    innermost = _innermost(error)
    # The driver may report that no host is left before it has recorded why: NoHostAvailable without errors.
    return type(innermost).__name__ in _PARTITION_ERRORS or getattr(innermost, "errors", None) == {}


def place(endpoint: Endpoint) -> str:
    """`connection lake_reader (host:9042, account etl)`."""
    where = f"{endpoint.host or '(no host)'}:{endpoint.port or 9042}"
    account = f"account {endpoint.login}" if endpoint.login else "no account"
    keyspace = f", keyspace {endpoint.schema}" if endpoint.schema else ""
    return f"connection {endpoint.conn_id} ({where}, {account}{keyspace})"


def explain(error: BaseException, endpoint: Endpoint) -> LakeError:
    """The driver's exception as a LakeError with its remedy."""
    cause = _innermost(error)
    text = " ".join(str(cause).split())[:400]
    kind = type(cause).__name__
    error_class = LakePermissionMissing if kind == "Unauthorized" else LakeError
    return error_class(f"The lake of {place(endpoint)} {_what_and_remedy(kind, text, endpoint)}")


def unreadable_minutes(
    table: str, errors: Mapping[datetime, BaseException], endpoint: Endpoint, others: str
) -> LakeUnreadable:
    """The error that names these minutes and the outcome of the others, and explains the first of the driver's errors."""
    minutes = sorted(errors)
    first_minutes = ", ".join(f"{minute:%Y-%m-%d %H:%M}" for minute in minutes[:10])
    more = f" and {len(minutes) - 10} more" if len(minutes) > 10 else ""
    why = explain(errors[minutes[0]], endpoint)
    return LakeUnreadable(f"Minutes of {table} cannot be read: {first_minutes}{more}. {others} {why}")


def _what_and_remedy(kind: str, text: str, endpoint: Endpoint) -> str:
    lower = text.lower()
    if kind == "AuthenticationFailed" or "bad credentials" in lower or "requires authentication" in lower:
        return f"refused the login ({text}). Correct the login and password of connection {endpoint.conn_id}."
    if kind == "Unauthorized":
        return f"denied permission ({text}). As an administrator: {_grant(text, endpoint)}"
    if kind in {"InvalidRequest", "SyntaxException", "ConfigurationException"}:
        quotes_cql = kind == "SyntaxException"  # such as IF NOT EXISTS
        if not quotes_cql and ("exist" in lower or "unconfigured table" in lower):
            return f"has no such table or keyspace ({text}). Create it: {SET_UP}."
        if "undefined column" in lower or "unknown identifier" in lower:
            return f"lacks a column ({text}). To see all differences and the remedy, {SET_UP}."
        return f"refused a statement ({text}). Compare the table with include/sql/control/lake_table.cql."
    if "using keyspace" in lower:
        return f"has no keyspace {endpoint.schema} ({text}). Correct the schema of connection {endpoint.conn_id}."
    if kind in {"Unavailable", "IsBootstrappingErrorMessage"}:
        return f"has too few live replicas ({text}). Bring its nodes up; every read and write needs LOCAL_QUORUM."
    if kind == "OverloadedErrorMessage":
        return f"is overloaded ({text}). Check its load and the log of its nodes, then try again."
    if kind in {"ReadTimeout", "WriteTimeout", "OperationTimedOut", "CoordinationFailure"}:
        return f"did not answer in time ({text or kind}). Check its load and its log, then try again."
    if "too_many_tombstones" in lower or "tombstone" in lower:
        return (
            f"has too many deleted rows in one place ({text}). After gc_grace_seconds of the table, `nodetool garbagecollect` "
            "removes them. Until then, raise tombstone_failure_threshold in cassandra.yaml to read past them."
        )
    if kind in {"ReadFailure", "WriteFailure", "ServerError", "TruncateError", "CDCWriteException"}:
        return f"failed internally ({text}). Read the log of its nodes."
    return (
        f"cannot be reached ({kind}: {text}). Start it (`make services`), "
        f"or correct the host and port of connection {endpoint.conn_id}."
    )


def _grant(text: str, endpoint: Endpoint) -> str:
    match = _NO_PERMISSION.search(text)
    if not match:
        return f"grant it to {endpoint.login}."
    role = endpoint.login if _PLAIN_NAME.fullmatch(endpoint.login or "") else f'"{endpoint.login}"'
    return f"GRANT {match[1]} ON {match[2].upper() if match[2].startswith('all') else match[2]} TO {role};"


def _innermost(error: BaseException) -> BaseException:
    """NoHostAvailable hides one error per host: the first one explains it."""
    per_host = getattr(error, "errors", None)
    if isinstance(per_host, dict) and per_host:
        first = next(iter(per_host.values()))
        return _innermost(first) if isinstance(first, BaseException) else error
    return error
