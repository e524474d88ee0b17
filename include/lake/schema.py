"""The lake's schema: the change log, a table for each pipeline, the grants, and checks of existing tables."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from include.connections import LAKE_ADMIN, LAKE_READER, LAKE_WRITER, ConnectionMissing, Endpoint, endpoint
from include.errors import SET_UP
from include.lake import change_log
from include.lake.cluster import SINGLE, replication
from include.lake.errors import LakeError, LakePermissionMissing, LakeTableMismatch
from include.lake.session import lake
from include.pipelines import Pipeline, all_pipelines

if TYPE_CHECKING:
    from cassandra.cluster import Session

log = logging.getLogger(__name__)

SQL = Path(__file__).parents[1] / "sql"
CHANGE_LOG = ("minutemark.minute_changes", "minutemark.changed_days")
_KEY = {
    "minute": ("partition_key", "timestamp"),
    "shard": ("partition_key", "int"),
    "create_time": ("clustering", "timeuuid"),
}
_KEY_KINDS = ("partition_key", "clustering")
_SHARDS = "shards="  # begins the table's comment, where every account can read it
_PAYLOAD = {"payload": ("regular", "text")}


def administrator_grants(role: str) -> Iterator[str]:
    """The statements that grant the permissions that set-up needs.

    Those on a keyspace are needed only if it exists already: a role has all permissions on keyspaces that it created.
    """
    yield f"GRANT CREATE ON ALL KEYSPACES TO {role};"
    for keyspace in _keyspaces():
        for permission in ("AUTHORIZE", "SELECT", "MODIFY"):
            yield f"GRANT {permission} ON KEYSPACE {keyspace} TO {role};"


def apply_schema() -> None:
    """Create what is missing in the lake, then grant permissions. Applying it again changes nothing.

    Uses connection lake_admin. If it is not defined, uses lake_writer, whose account then needs CREATE, and grants nothing.
    If a permission is missing, raises LakePermissionMissing with all that set-up needs.
    """
    try:
        account = endpoint(LAKE_ADMIN)
    except ConnectionMissing:
        account = endpoint(LAKE_WRITER)
        log.info(
            "Connection %s is not defined: applying the schema with connection %s, without grants.",
            LAKE_ADMIN,
            LAKE_WRITER,
        )
    try:
        _apply(account)
    except LakePermissionMissing as error:
        raise _with_grants(error, account) from error


def _apply(account: Endpoint) -> None:
    with lake(account) as session:
        for statement in _schema_statements(replication(session, account, _keyspaces())):
            session.execute(statement, timeout=60)
        if day_count := change_log.copy_former_days(session, session):
            log.info("Copied %d days of the change log to minutemark.changed_days, where polls read them.", day_count)
        for pipeline in all_pipelines().values():
            check_table(session, pipeline)
        if account.conn_id == LAKE_ADMIN:
            _grant(session)


def _with_grants(error: LakePermissionMissing, account: Endpoint) -> LakePermissionMissing:
    """The error with the statements that grant all permissions that set-up needs."""
    if account.conn_id == LAKE_ADMIN:
        role, remedy = (
            f'"{account.login}"',
            f"All permissions that the account of connection {LAKE_ADMIN} needs for set-up:",
        )
    else:
        role = "minutemark_admin"
        remedy = (
            f"Or define connection {LAKE_ADMIN} (AIRFLOW_CONN_{LAKE_ADMIN.upper()}, or in Airflow under Admin, Connections) "
            "with an account that has these permissions:"
        )
    grants = "\n".join(administrator_grants(role))
    return LakePermissionMissing(
        f"{error} {remedy}\n{grants}\nPermissions on a keyspace are needed only if it already exists."
    )


def _keyspaces() -> list[str]:
    return sorted({"minutemark", *(pipeline.keyspace for pipeline in all_pipelines().values())})


def _schema_statements(replication: str) -> Iterator[str]:
    yield from _statements((SQL / "control" / "lake.cql").read_text().replace("<replication>", replication))
    for pipeline in all_pipelines().values():
        yield from table_statements(pipeline, replication)


def table_statements(pipeline: Pipeline, replication: str = SINGLE) -> Iterator[str]:
    """The statements that create the pipeline's lake table and its keyspace if they are missing."""
    text = (SQL / "control" / "lake_table.cql").read_text()
    yield from _statements(text.format(**_names(pipeline), replication=replication))


def _statements(text: str) -> Iterator[str]:
    import sqlparse

    for statement in sqlparse.split(sqlparse.format(text, strip_comments=True)):
        if statement := statement.strip().rstrip(";"):
            yield statement


def _names(pipeline: Pipeline) -> dict[str, str]:
    own_id = [name for name in _key_of(pipeline) if name not in _KEY]
    return {
        "keyspace": pipeline.keyspace,
        "lake_table": pipeline.lake_table,
        "id_column": "".join(f"\n  {name} text," for name in own_id),
        "clustering": ", ".join(["create_time", *own_id]),
        "shards": f"{_SHARDS}{pipeline.shards}",
    }


def _grant(session: Session) -> None:
    """Grant the reader SELECT, and the writer MODIFY on event tables and the change log; nothing else."""
    from cassandra import InvalidRequest

    logins = _login(LAKE_READER), _login(LAKE_WRITER)
    try:
        for statement in _grants(*logins):
            session.execute(statement)
    except InvalidRequest as error:
        if "AllowAllAuthorizer" in str(error):
            log.info(
                "This lake has no authorizer (AllowAllAuthorizer): any account has all permissions, so nothing is granted."
            )
        elif "doesn't exist" in str(error) or "does not exist" in str(error):
            raise LakeError(
                f"Granting on the lake failed: {error}. Create the accounts that connections {LAKE_READER} and "
                f"{LAKE_WRITER} name: {' '.join(_role_statements(logins))}"
            ) from error
        else:
            raise


def _role_statements(logins: Iterable[str | None]) -> Iterator[str]:
    """A statement that creates the account, for each login that is defined."""
    for login in dict.fromkeys(filter(None, logins)):
        yield f"CREATE ROLE IF NOT EXISTS \"{login}\" WITH PASSWORD = '…' AND LOGIN = true;"


def _login(conn_id: str) -> str | None:
    try:
        return endpoint(conn_id).login
    except ConnectionMissing as error:
        log.info("Nothing is granted for connection %s: %s", conn_id, error)
        return None


def _grants(reader: str | None, writer: str | None) -> Iterator[str]:
    pipelines = all_pipelines().values()
    if reader:
        for keyspace in _keyspaces():
            yield f'GRANT SELECT ON KEYSPACE {keyspace} TO "{reader}"'
    if writer:
        for table in sorted({*CHANGE_LOG, *(pipeline.lake_table for pipeline in pipelines)}):
            yield f'GRANT MODIFY ON TABLE {table} TO "{writer}"'


def columns_of(session: Session, keyspace: str, table: str) -> dict[str, tuple[str, str]]:
    """Column name to (kind, type) of a table; empty when there is no such table."""
    rows = session.execute(
        "SELECT column_name, kind, type FROM system_schema.columns WHERE keyspace_name = %s AND table_name = %s",
        (keyspace, table),
    )
    return {row.column_name: (row.kind, row.type) for row in rows}


def _key_of(pipeline: Pipeline) -> dict[str, tuple[str, str]]:
    """The key of the lake table, with the id if the pipeline declares one: two events may have the same create_time."""
    return _KEY if pipeline.event_id in _KEY else {**_KEY, pipeline.event_id: ("clustering", "text")}


def check_table(session: Session, pipeline: Pipeline) -> None:
    """Raise LakeTableMismatch, with the command to run, unless the lake table has the expected layout and shards."""
    columns = columns_of(session, pipeline.keyspace, pipeline.table)
    if not columns:
        raise LakeTableMismatch(
            f"Pipeline {pipeline.name}: there is no table {pipeline.lake_table} in the lake. Create it: {SET_UP}."
        )
    expected = _key_of(pipeline) | _PAYLOAD
    differences = [
        f"{column} is {' '.join(columns[column])}, not {' '.join(kind)}"
        if column in columns
        else f"{column} is missing (expected: {' '.join(kind)})"
        for column, kind in expected.items()
        if columns.get(column) != kind
    ]
    differences += [
        f"{column} is in its key, but should not be"
        for column, (kind, _) in columns.items()
        if kind in _KEY_KINDS and column not in expected
    ]
    if differences:
        raise LakeTableMismatch(
            f"Pipeline {pipeline.name}: {pipeline.lake_table} has a different layout: {'; '.join(differences)}. It needs "
            f"PRIMARY KEY ((minute, shard), {', '.join(list(_key_of(pipeline))[2:])}), and a column `payload text` for events. "
            f"Declare another `table` in include/pipelines/{pipeline.name}.py, {SET_UP}, and copy the old table: "
            f"./minutemark import --pipeline {pipeline.name} --from {pipeline.lake_table}"
        )
    _check_shards(session, pipeline)


def _check_shards(session: Session, pipeline: Pipeline) -> None:
    """Raise LakeTableMismatch for another number of shards: events would be written twice, or never read."""
    query = "SELECT comment FROM system_schema.tables WHERE keyspace_name = %s AND table_name = %s"
    comment = session.execute(query, (pipeline.keyspace, pipeline.table)).one().comment
    if comment.startswith(_SHARDS) and comment != f"{_SHARDS}{pipeline.shards}":
        raise LakeTableMismatch(
            f"Pipeline {pipeline.name} declares shards={pipeline.shards}, but {pipeline.lake_table} was created with {comment}. "
            f"The number is fixed for the life of a table. Either declare {comment} in include/pipelines/{pipeline.name}.py; "
            f"or declare another `table` and copy the old one: ./minutemark import --pipeline {pipeline.name} --from "
            f"{pipeline.lake_table}"
        )
