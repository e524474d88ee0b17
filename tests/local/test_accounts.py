"""The stores as they start: only the project's accounts can log in, and until set-up only the administrator has permissions."""

import json

import pytest

from local import connections, waiting
from local.servers import cassandra


def test_the_default_account_of_cassandra_is_disabled(cassandra_node):
    from cassandra.cluster import NoHostAvailable

    port = json.loads(cassandra_node["AIRFLOW_CONN_LAKE_ADMIN"])["port"]

    def assert_refused():
        with pytest.raises(NoHostAvailable, match="cassandra"):
            cassandra.connect(port, "cassandra", "cassandra")

    # A node caches permissions for half a second, and a busy one times out instead of refusing the login.
    waiting.until(
        assert_refused,
        what="the refusal of the default account",
        seconds=10,
        errors=(pytest.fail.Exception, AssertionError),
    )


def test_accounts_can_be_set_up_again(cassandra_node, tmp_path):
    admin = json.loads(cassandra_node["AIRFLOW_CONN_LAKE_ADMIN"])
    passwords = {
        login: json.loads(cassandra_node[connections.variable(conn_id)])["password"]
        for conn_id, login in connections.LAKE_LOGINS.items()
    }
    cassandra.Node(tmp_path, admin["port"], passwords).wait_until_ready(seconds=10)


@pytest.mark.parametrize("conn_id", ["lake_reader", "lake_writer"])
def test_lake_accounts_cannot_create_keyspaces_or_roles(cassandra_node, conn_id):
    from cassandra import Unauthorized

    account = json.loads(cassandra_node[connections.variable(conn_id)])
    cluster, session = cassandra.connect(account["port"], account["login"], account["password"])
    try:
        for statement in (
            "CREATE KEYSPACE intruder WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
            "CREATE ROLE intruder",
        ):
            with pytest.raises(Unauthorized):
                session.execute(statement)
    finally:
        cluster.shutdown()


def _open(account):
    import MySQLdb

    return MySQLdb.connect(
        host=account["host"], port=account["port"], user=account["login"], passwd=account["password"]
    )


@pytest.mark.both_servers
@pytest.mark.parametrize("conn_id", ["warehouse_etl", "warehouse_bi"])
def test_warehouse_accounts_cannot_create_databases_or_accounts(warehouse_server, conn_id):
    import MySQLdb

    conn = _open(json.loads(warehouse_server[connections.variable(conn_id)]))
    for statement in ("CREATE DATABASE intruder", "CREATE USER intruder"):
        with pytest.raises(MySQLdb.Error):
            conn.cursor().execute(statement)
    conn.close()


@pytest.mark.both_servers
def test_root_cannot_log_in_over_the_network(warehouse_server):
    import MySQLdb

    admin = json.loads(warehouse_server["AIRFLOW_CONN_WAREHOUSE_ADMIN"])
    for password in ("", "root"):
        with pytest.raises(MySQLdb.Error, match="Access denied|not allowed"):
            _open({**admin, "login": "root", "password": password})


def test_mariadb_is_set_to_utc_binary_utf8_and_strict_sql(mariadb_server):
    conn = _open(json.loads(mariadb_server["AIRFLOW_CONN_WAREHOUSE_ADMIN"]))
    cursor = conn.cursor()
    cursor.execute("SELECT @@global.time_zone, @@global.collation_server, @@global.local_infile, @@global.sql_mode")
    zone, collation, infile, mode = cursor.fetchone()
    assert (zone, collation, infile) == ("+00:00", "utf8mb4_bin", 0)
    assert "STRICT_TRANS_TABLES" in mode
    conn.close()
