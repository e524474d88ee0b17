"""The lake's schema: a second run changes nothing, accounts have only the permissions they need, a wrong table is reported."""

import json
import os
from dataclasses import replace
from datetime import datetime

import pytest

from include.lake import schema
from include.lake.errors import LakeError, LakeTableMismatch
from include.lake.session import lake
from include.lake.writer import EventWriter
from tests.lake.conftest import event


@pytest.fixture
def odd_tables(admin):
    admin.execute(
        "CREATE KEYSPACE IF NOT EXISTS odd WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"
    )
    key = "minute timestamp, shard int, create_time timeuuid"
    for table in (
        f"odd.short ({key}, ev text, PRIMARY KEY ((minute, shard), create_time))",
        f"odd.with_id ({key}, id text, payload text, PRIMARY KEY ((minute, shard), create_time, id))",
        "odd.flat (create_time timeuuid PRIMARY KEY, ev text, bid text)",
    ):
        admin.execute(f"CREATE TABLE IF NOT EXISTS {table}")
    yield
    admin.execute("DROP KEYSPACE odd")


def test_applying_the_schema_again_changes_nothing(recruitment, writer, reader):
    EventWriter(writer, recruitment).write([event("2026-06-01 08:00:00", ev="1")])
    schema.apply_schema()
    count = "SELECT count(*) AS n FROM bedan.tracking WHERE minute = %s AND shard IN (0, 1, 2, 3)"
    assert reader.execute(count, (datetime(2026, 6, 1, 8),)).one().n == 1
    schema.check_table(reader, recruitment)


@pytest.mark.parametrize(
    ("conn_id", "statement", "grant"),
    [
        ("lake_reader", "INSERT INTO bedan.tracking (minute, shard, create_time) VALUES (0, 0, now())", "GRANT MODIFY"),
        ("lake_reader", "TRUNCATE minutemark.minute_changes", "GRANT MODIFY"),
        ("lake_reader", "DROP TABLE bedan.tracking", "GRANT DROP"),
        ("lake_writer", "SELECT * FROM bedan.tracking LIMIT 1", "GRANT SELECT"),
        ("lake_writer", "CREATE TABLE bedan.mine (a int PRIMARY KEY)", "GRANT CREATE"),
        ("lake_writer", "ALTER TABLE bedan.tracking ADD mine text", "GRANT ALTER"),
    ],
)
def test_what_an_account_must_not_do_is_refused_with_the_grant_it_lacks(lake_schema, conn_id, statement, grant):
    with pytest.raises(LakeError, match=f"connection {conn_id}.*{grant} ON .* TO {conn_id};"), lake(conn_id) as session:
        session.execute(statement)


def test_a_table_of_the_former_layout_is_refused_with_the_command_that_copies_it(recruitment, reader, odd_tables):
    short = replace(recruitment, keyspace="odd", table="short")
    with pytest.raises(
        LakeTableMismatch, match=r"payload is missing.*./minutemark import --pipeline recruitment --from odd\.short"
    ):
        schema.check_table(reader, short)


def test_a_missing_table_is_reported_with_the_set_up(recruitment, reader):
    with pytest.raises(LakeTableMismatch, match=r"no table bedan\.nothing.*run the DAG"):
        schema.check_table(reader, replace(recruitment, table="nothing"))


def test_a_table_with_another_key_is_reported(recruitment, reader, odd_tables):
    flat = replace(recruitment, keyspace="odd", table="flat")
    with pytest.raises(LakeTableMismatch, match="minute is missing.*--from odd.flat"):
        schema.check_table(reader, flat)


def test_a_different_number_of_shards_is_refused_and_the_tables_number_is_named(recruitment, reader):
    with pytest.raises(LakeTableMismatch, match=r"declares shards=8, but bedan\.tracking was created with shards=4"):
        schema.check_table(reader, replace(recruitment, shards=8))


def test_a_key_with_an_extra_column_is_refused(recruitment, reader, odd_tables):
    with pytest.raises(LakeTableMismatch, match="id is in its key"):
        schema.check_table(reader, replace(recruitment, keyspace="odd", table="with_id"))


def test_without_an_administrators_connection_the_writers_account_applies_the_schema(
    monkeypatch, lake_schema, cassandra_node
):
    admin = os.environ["AIRFLOW_CONN_LAKE_ADMIN"]
    unknown = json.loads(os.environ["AIRFLOW_CONN_LAKE_READER"]) | {"login": "never_granted"}
    monkeypatch.delenv("AIRFLOW_CONN_LAKE_ADMIN")
    monkeypatch.setenv("AIRFLOW_CONN_LAKE_WRITER", admin)  # an account with permission to create
    monkeypatch.setenv("AIRFLOW_CONN_LAKE_READER", json.dumps(unknown))  # granting it permissions would fail
    schema.apply_schema()
