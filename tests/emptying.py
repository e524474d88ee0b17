"""Empties stores between test modules: truncates the lake's tables that have rows, and drops the warehouse's databases."""

from __future__ import annotations

import json
import os

from local import connections
from local.servers import cassandra

_SYSTEM_DATABASES = {"information_schema", "mysql", "performance_schema", "sys"}


def _connection(conn_id: str) -> dict:
    return json.loads(os.environ[connections.variable(conn_id)])


def empty_lake() -> None:
    """Truncate every table outside Cassandra's own keyspaces that has rows."""
    admin = _connection("lake_admin")
    cluster, session = cassandra.connect(admin["port"], admin["login"], admin["password"])
    try:
        tables = session.execute("SELECT keyspace_name, table_name FROM system_schema.tables")
        for keyspace, table in [(row.keyspace_name, row.table_name) for row in tables]:
            if keyspace.startswith("system"):
                continue
            # As text, since the driver cannot read every value: tests write minutes beyond Python's calendar.
            if session.execute(f'SELECT JSON * FROM "{keyspace}"."{table}" LIMIT 1').one() is not None:
                session.execute(f'TRUNCATE "{keyspace}"."{table}"')
    finally:
        cluster.shutdown()


def drop_warehouse() -> None:
    """Drop every database but the server's own."""
    import MySQLdb

    admin = _connection("warehouse_admin")
    server = MySQLdb.connect(
        host=admin["host"], port=admin["port"], user=admin["login"], passwd=admin["password"], autocommit=True
    )
    try:
        cursor = server.cursor()
        cursor.execute("SHOW DATABASES")
        for (name,) in cursor.fetchall():
            if name not in _SYSTEM_DATABASES:
                cursor.execute(f"DROP DATABASE `{name}`")
    finally:
        server.close()
