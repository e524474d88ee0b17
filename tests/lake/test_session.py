"""Sessions: the error of a broken connection, and the settings that every session has."""

import inspect
import subprocess
import sys
import time

import pytest
from cassandra import ConsistencyLevel, Unauthorized, protocol
from cassandra.cluster import EXEC_PROFILE_DEFAULT

from include.connections import ConnectionMissing, Endpoint
from include.lake.errors import LakeError, explain
from include.lake.session import lake
from local.process import free_port


def test_a_node_that_is_down_is_reported_with_host_and_remedy(connection):
    port = free_port()
    connection("lake_reader", port=port)
    match = f"connection lake_reader .*:{port}, account lake_reader.* cannot be reached.*make services"
    with pytest.raises(LakeError, match=match), lake():
        pass


def test_an_unknown_host_is_reported(connection):
    connection("lake_reader", host="nowhere.invalid")
    with pytest.raises(LakeError, match=r"nowhere\.invalid.*host and port of connection lake_reader"), lake():
        pass


def test_errors_name_the_connection_they_came_through(lake_schema):
    refusal = pytest.raises(LakeError, match="connection lake_writer.*GRANT SELECT ON .* TO lake_writer")
    with refusal, lake("lake_reader"), lake("lake_writer") as writer:
        writer.execute("SELECT * FROM bedan.tracking LIMIT 1")


def test_an_account_whose_name_needs_quotes_has_them_in_the_grant():
    """Without quotes, a hyphen is an error of syntax, and Etl is the account etl."""
    refused = Unauthorized("User has no SELECT permission on <table bedan.tracking> or any of its parents")
    for login, role in (("lake_reader", "lake_reader"), ("lake-reader", '"lake-reader"'), ("Etl", '"Etl"')):
        error = explain(refused, Endpoint("lake_reader", "cassandra", "c1", None, login=login))
        assert f"GRANT SELECT ON table bedan.tracking TO {role};" in str(error)


def test_a_wrong_password_is_reported_without_showing_it(connection):
    connection("lake_reader", password="hunter2")
    with pytest.raises(LakeError, match="refused the login.*password of connection lake_reader") as refused, lake():
        pass
    assert "hunter2" not in str(refused.value)


def test_a_missing_keyspace_is_reported_with_the_connection(connection):
    connection("lake_reader", schema="nowhere")
    with pytest.raises(LakeError, match="has no keyspace nowhere.*schema of connection lake_reader"), lake():
        pass


def test_a_missing_table_is_reported_with_the_set_up(lake_schema):
    with pytest.raises(LakeError, match="no such table or keyspace.*run the DAG"), lake() as session:
        session.execute("SELECT * FROM bedan.nothing")


def test_a_statement_with_wrong_syntax_is_reported(lake_schema):
    with pytest.raises(LakeError, match="refused a statement"), lake() as session:
        session.execute("SELEC * FROM bedan.tracking")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (protocol.OverloadedErrorMessage, "is overloaded.*too many hints.*Check its load"),
        (protocol.IsBootstrappingErrorMessage, "too few live replicas"),
        (protocol.ServerError, "failed internally"),
    ],
)
def test_an_error_that_the_driver_raises_as_the_nodes_message_is_reported(cassandra_node, error, message):
    with pytest.raises(LakeError, match=f"connection lake_reader.*{message}"), lake():
        raise error(error.error_code, "too many hints in flight", None)


def test_a_connection_without_host_is_reported(connection):
    connection("lake_reader", host="")
    with pytest.raises(LakeError, match="lake_reader has no host"), lake():
        pass


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        (
            {"ssl_options": {"ca_certs": "/etc/absent.pem", "password": "SECRETWORD"}},
            r"`ssl_options` cannot be used \(/etc/absent\.pem, .*No such file",
        ),
        ({"ssl_options": True}, "`ssl_options` cannot be used.*Make it an object"),
        ({"protocol_version": "five"}, "`protocol_version` is 'five', which is not a number"),
    ],
)
def test_an_extra_that_cannot_be_used_is_reported_with_its_name_and_no_secret(extra, problem):
    target = Endpoint("lake_reader", "cassandra", "127.0.0.1", free_port(), extra=extra)
    with pytest.raises(LakeError, match=f"Connection lake_reader: its extra {problem}") as refused, lake(target):
        pass
    assert "SECRETWORD" not in str(refused.value)


def test_a_connection_that_is_not_defined_is_reported(monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_LAKE_READER", raising=False)
    with pytest.raises(ConnectionMissing, match="AIRFLOW_CONN_LAKE_READER"), lake():
        pass


def test_every_session_leaves_timestamps_to_the_server_and_asks_for_a_local_quorum(cassandra_node):
    for conn_id in ("lake_reader", "lake_writer"):
        with lake(conn_id) as session:
            assert session.use_client_timestamp is False
            profile = session.get_execution_profile(EXEC_PROFILE_DEFAULT)
            assert profile.consistency_level == ConsistencyLevel.LOCAL_QUORUM
            assert profile.request_timeout == 10


def test_a_session_is_closed_at_exit_even_after_an_error(cassandra_node):
    with pytest.raises(RuntimeError), lake() as session:
        raise RuntimeError
    assert session.cluster.is_shutdown


def test_the_protocol_version_of_the_connection_is_used(connection):
    connection("lake_reader", extra={"protocol_version": 4})
    with lake() as session:
        assert session.cluster.protocol_version == 4


def test_connecting_takes_less_than_two_seconds(cassandra_node):
    with lake():
        pass
    started = time.monotonic()
    with lake() as session:
        session.execute("SELECT now() FROM system.local")
    assert time.monotonic() - started < 2  # 0.2 s on a quiet machine


def test_importing_the_lake_imports_neither_airflow_nor_the_driver():
    modules = (
        "include.lake.session, include.lake.writer, include.lake.change_log, include.lake.counts, include.lake.schema"
    )
    check = f"import sys, {modules}; sys.exit(bool({{'airflow', 'cassandra'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_too_few_live_replicas_are_reported_with_the_remedy(admin):
    """The retry policy accepts the driver's arguments as they are: Unavailable was once reported as a TypeError."""
    replication = "{'class': 'SimpleStrategy', 'replication_factor': 3}"
    admin.execute(f"CREATE KEYSPACE IF NOT EXISTS three WITH replication = {replication}")
    try:
        admin.execute("CREATE TABLE IF NOT EXISTS three.rows (key int PRIMARY KEY)")
        with pytest.raises(LakeError, match="too few live replicas.*Bring its nodes up"), lake("lake_admin") as session:
            session.execute("SELECT * FROM three.rows WHERE key = 1")
    finally:
        admin.execute("DROP KEYSPACE three")


def test_the_retry_policy_takes_the_drivers_arguments():
    """The driver passes them by name, and a TypeError in its thread would hide the cause."""
    from cassandra.policies import RetryPolicy

    from include.lake.session import _retry_once

    for name in ("on_read_timeout", "on_write_timeout", "on_unavailable", "on_request_error"):
        ours, drivers = getattr(type(_retry_once()), name), getattr(RetryPolicy, name)
        assert set(inspect.signature(ours).parameters) == set(inspect.signature(drivers).parameters)
