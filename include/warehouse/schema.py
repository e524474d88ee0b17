"""Creates or upgrades the warehouse's schema: control tables, the tables of each pipeline and of its facts; then views, a lock
row for each pipeline, and grants.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from include.connections import WAREHOUSE_ADMIN, WAREHOUSE_BI, WAREHOUSE_ETL, ConnectionMissing, Endpoint, endpoint
from include.pipelines import Pipeline, all_pipelines
from include.pipelines.summed_fact import SummedFact
from include.warehouse import partitions, reporting_zone, views
from include.warehouse.columns import add_missing, declared, exists
from include.warehouse.errors import DENIED, WarehouseError, place
from include.warehouse.pipeline_lock import lock
from include.warehouse.session import value, warehouse
from include.warehouse.sql import FOLDER, SqlFile, control, files
from include.warehouse.statements import Statements

sql = Statements(__file__)

log = logging.getLogger(__name__)

# What the bi account can read besides the pipelines' own `readable` tables. Samples of check_results are excluded: they show
# rows of staging.
_BI_READS = {
    "etl.minute_ledger": "",
    "etl.batches": "",
    "etl.batch_minutes": "",
    "etl.holds": "",
    "etl.releases": "",
    "etl.release_passes": "",
    "etl.folded_hours": "",
    "etl.lakehouse_hours": "",
    "etl.lakehouse_tables": "",
    "etl.hours": "",
    "etl.minute_fields": "",
    "etl.drifts": "",
    "etl.rejected_summary": "",
    "etl.looks": "",
    "etl.freshness": "",
    "etl.alerts": "",
    "etl.board_pipelines": "",
    "etl.board_now": "",
    "etl.board_lag": "",
    "etl.board_minutes": "",
    "etl.board_rejected": "",
    "etl.board_batches": "",
    "etl.check_results": (
        " (check_result_id, batch_id, attempt, gate, check_name, severity, outcome, offending_rows, checked_at)"
    ),
}


def administrator_grants(account: str) -> Iterator[str]:
    """The statements that grant the permissions that set-up needs; `account` is in the server's form, such as `'admin'@'%'`."""
    for database in _databases():
        yield (
            f"GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, CREATE VIEW ON {database}.* TO {account} "
            "WITH GRANT OPTION;"
        )
    yield f"GRANT SELECT ON mysql.user TO {account};"


def apply_schema() -> None:
    """Create missing tables, columns and partitions, update views, then grant permissions.

    Applying it again only creates partitions ahead.

    Uses connection warehouse_admin. If it is not defined, uses warehouse_etl, whose account then needs to create tables, and
    grants nothing. If a permission is missing, raises WarehouseError with all that set-up needs.
    """
    try:
        account = endpoint(WAREHOUSE_ADMIN)
    except ConnectionMissing:
        account = endpoint(WAREHOUSE_ETL)
        log.info(
            "Connection %s is not defined: applying the schema with connection %s, without grants.",
            WAREHOUSE_ADMIN,
            WAREHOUSE_ETL,
        )
    try:
        _apply(account)
    except WarehouseError as error:
        if error.code not in DENIED:
            raise
        raise _with_grants(error, account) from error


def _with_grants(error: WarehouseError, account: Endpoint) -> WarehouseError:
    """The error with the statements that grant all permissions that set-up needs."""
    problem = f"The warehouse of {place(account)} denied a permission that set-up needs: {error.__cause__.args[-1]}."
    if account.conn_id == WAREHOUSE_ADMIN:
        login, remedy = account.login, "As a user with all permissions, run:"
    else:
        login = "minutemark_admin"
        remedy = (
            f"Connection {WAREHOUSE_ADMIN} is not defined: define it (AIRFLOW_CONN_{WAREHOUSE_ADMIN.upper()}, or in Airflow "
            "under Admin, Connections) with an account that has these permissions:"
        )
    grants = "\n".join(administrator_grants(f"'{login}'@'%'"))
    accounts = (
        f"Account {login} also needs CREATE USER ON *.* if the accounts of {WAREHOUSE_ETL} and {WAREHOUSE_BI} do not exist "
        "yet."
    )
    return WarehouseError(f"{problem} {remedy}\n{grants}\n{accounts}", error.code)


def _databases() -> list[str]:
    return sorted({"etl", *(pipeline.database for pipeline in all_pipelines().values())})


def _apply(account: Endpoint) -> None:
    pipelines = all_pipelines().values()
    with warehouse(account) as conn:
        cursor = conn.cursor()
        _apply_files(conn, control("warehouse.sql"))
        for pipeline in pipelines:
            _tables_of(conn, account, pipeline)
            partitions.convert_to_ranges(conn, pipeline)
            partitions.make_ahead(conn, pipeline)
        reporting_zone.write(cursor)
        conn.commit()
        _apply_files(conn, control("views.sql"))
        for pipeline in pipelines:
            _apply_files(conn, files(pipeline, "*views.sql"))
        for pipeline in pipelines:
            _add_pipeline(conn, pipeline)
        if account.conn_id == WAREHOUSE_ADMIN:
            for conn_id in (WAREHOUSE_ETL, WAREHOUSE_BI):
                _grant(cursor, conn_id, account)


def _apply_files(conn, sources: Iterable[SqlFile]) -> None:
    for file in sources:
        for statement in file.statements:
            if views.view_name(statement):
                views.replace_changed(conn, statement)
                continue
            table = declared(statement)
            if not table or not exists(conn, table[0]):  # MySQL waits for readers even with IF NOT EXISTS
                conn.cursor().execute(statement)
            for name in add_missing(conn, statement):
                log.info("Added %s, which %s declares.", name, file.source.relative_to(FOLDER))


def _tables_of(conn, account: Endpoint, pipeline: Pipeline) -> None:
    """Create the pipeline's tables. New contributions of an output start with the sums of the rows that it has published."""
    conn.cursor().execute(
        f"CREATE DATABASE IF NOT EXISTS {pipeline.database} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    )
    _apply_files(conn, files(pipeline, "retired.sql"))
    if _to_fill(conn, pipeline):
        _add_pipeline(conn, pipeline)  # a set-up that was killed may have created tables, but not the row to lock
        with warehouse(account) as lock_conn:
            lock(lock_conn.cursor(), pipeline)  # merges and another set-up wait
            for fact in _to_fill(conn, pipeline):
                _fill(conn, pipeline, fact)
    _apply_files(conn, files(pipeline, "warehouse.sql"))


def _add_pipeline(conn, pipeline: Pipeline) -> None:
    conn.cursor().execute(sql("add_pipeline"), {"pipeline": pipeline.name})
    conn.commit()


def _to_fill(conn, pipeline: Pipeline) -> list[SummedFact]:
    """Facts without a table of contributions whose output has a table of published rows."""
    return [
        fact
        for fact in pipeline.facts
        if fact.output and exists(conn, pipeline.output_of(fact).published) and not exists(conn, fact.contributions)
    ]


def _fill(conn, pipeline: Pipeline, fact: SummedFact) -> None:
    """Fill the fact's contributions under another name, and rename the table at the end: set-up may be killed at any point."""
    published, unfinished = pipeline.output_of(fact).published, f"{fact.contributions}_unfinished"
    log.info("Filling %s from %s. Merges of %s wait until this is done.", fact.contributions, published, pipeline.name)
    cursor = conn.cursor()
    query = "SELECT rows_kept_from FROM etl.pipelines WHERE pipeline = %(pipeline)s"
    if (kept_from := value(cursor, query, {"pipeline": pipeline.name})) is not None:
        log.warning("%s starts at %s: earlier rows of %s were removed.", fact.table, kept_from, published)
    cursor.execute(f"DROP TABLE IF EXISTS {unfinished}")
    pipeline_of_fact = replace(pipeline, facts=(fact,), lakehouse=None)
    for file in (*files(pipeline_of_fact, "warehouse.sql"), *files(pipeline_of_fact, "from_output.sql")):
        for statement in file.statements:
            if f" {fact.contributions} (" in statement:
                cursor.execute(statement.replace(f" {fact.contributions} (", f" {unfinished} (", 1))
    conn.commit()
    cursor.execute(f"RENAME TABLE {unfinished} TO {fact.contributions}")


def _grant(cursor, conn_id: str, admin: Endpoint) -> None:
    try:
        target = endpoint(conn_id)
    except ConnectionMissing as missing:
        log.info("Nothing is granted for connection %s: %s", conn_id, missing)
        return
    if not target.login or target.login == admin.login:
        log.info("Connection %s has the administrator's account: nothing to grant.", conn_id)
        return
    grants = _etl_grants if conn_id == WAREHOUSE_ETL else _bi_grants
    for host in _hosts(cursor, target):
        for grant in grants(all_pipelines().values()):
            cursor.execute(f"{grant} TO %(login)s@%(host)s", {"login": target.login, "host": host})


def _hosts(cursor, target: Endpoint) -> list[str]:
    """The hosts from which the account can connect; an account that does not exist yet is created for any host."""
    cursor.execute("SELECT host FROM mysql.user WHERE user = %(login)s ORDER BY host", {"login": target.login})
    hosts = [row[0].decode() if isinstance(row[0], bytes | bytearray) else row[0] for row in cursor.fetchall()]
    if not hosts:
        if not target.password:
            raise WarehouseError(
                f"The warehouse has no account {target.login!r}, and connection {target.conn_id} has no password: an account "
                f"is not created without one. Set the password of connection {target.conn_id}, or create the account yourself."
            )
        cursor.execute(
            "CREATE USER %(login)s@%(host)s IDENTIFIED BY %(password)s",
            {"login": target.login, "host": "%", "password": target.password},
        )
        hosts = ["%"]
    return hosts


def _etl_grants(pipelines: Collection[Pipeline]) -> Iterator[str]:
    """Grants for rows of all tables, without CREATE, ALTER or DROP, except on tables that get a partition for each day."""
    for database in _databases():
        yield f"GRANT SELECT, INSERT, UPDATE, DELETE ON {database}.*"
    for pipeline in pipelines:
        for table in partitions.tables_by_day(pipeline):
            yield f"GRANT ALTER, CREATE ON {table}"  # MySQL requires CREATE, although the table exists
            if pipeline.retention.rows_by_day:
                yield f"GRANT DROP ON {table}"  # for its partitions


def _bi_grants(pipelines: Collection[Pipeline]) -> Iterator[str]:
    for table, columns in _BI_READS.items():
        yield f"GRANT SELECT{columns} ON {table}"
    for table in sorted({table for pipeline in pipelines for table in pipeline.readable}):
        yield f"GRANT SELECT ON {table}"
