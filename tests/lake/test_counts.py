"""Counts of lake minutes, as the reconcile DAG compares them with the ledger."""

import zlib
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from cassandra import InvalidRequest, ReadFailure

from include.connections import LAKE_READER, endpoint
from include.lake import counts, schema
from include.lake.counts import minute_counts
from include.lake.errors import explain, is_partition_error
from include.lake.writer import EventWriter
from tests.lake.conftest import event
from tests.unreadable import unreadable_partition


def test_rows_and_checksum_of_every_requested_minute(recruitment, writer, reader):
    full = [event("2026-05-01 08:00:00", ev="1") for _ in range(25)]
    EventWriter(writer, recruitment).write([*full, event("2026-05-01 08:02:00", ev="1")])
    minutes = [datetime(2026, 5, 1, 8, 0), datetime(2026, 5, 1, 8, 1)]
    assert minute_counts(reader, recruitment, minutes) == {
        minutes[0]: (25, sum(zlib.crc32(str(row.create_time).encode()) for row in full)),
        minutes[1]: (0, 0),
    }
    assert minute_counts(reader, recruitment, []) == {}


def test_a_sample_gives_every_minute_the_rows_of_a_nearby_one(recruitment, writer, reader):
    first = datetime(2026, 5, 3, 8, 0)
    minutes = [first + timedelta(minutes=number) for number in range(600)]
    EventWriter(writer, recruitment).write(
        [event(str(minute), ev="1") for minute in minutes[300:] for _ in range(3)]  # nothing before
    )
    result = counts.sampled_rows(reader, recruitment, reversed(minutes))
    assert list(result) == minutes
    assert set(result.values()) == {0, 3} and sum(result.values()) == 900
    assert counts.sampled_rows(reader, recruitment, minutes[299:301]) == {minutes[299]: 0, minutes[300]: 3}
    assert counts.sampled_rows(reader, recruitment, []) == {}


def test_a_sample_counts_no_more_than_a_page_of_a_minute(recruitment, writer, reader, monkeypatch):
    monkeypatch.setattr(counts, "_MAX_SAMPLED", 7)
    minute = datetime(2026, 5, 4, 8, 0)
    EventWriter(writer, recruitment).write([event(str(minute), ev="1") for _ in range(20)])
    assert counts.sampled_rows(reader, recruitment, [minute]) == {minute: 7}


def test_every_minute_is_counted_for_any_number_of_minutes_and_any_page_size(recruitment, writer, reader, monkeypatch):
    monkeypatch.setattr(reader, "default_fetch_size", 3)
    monkeypatch.setattr(counts, "_REQUESTS_AT_ONCE", 2)
    first = datetime(2026, 5, 2, 8, 0)
    minutes = [first + timedelta(minutes=number) for number in range(30)]
    rows = {minute: number % 5 * 4 for number, minute in enumerate(minutes)}
    EventWriter(writer, recruitment).write(
        [event(str(minute), ev="1") for minute, number in rows.items() for _ in range(number)]
    )
    result = minute_counts(reader, recruitment, minutes)
    assert {minute: number for minute, (number, _) in result.items()} == rows


def test_a_minute_of_many_shards_is_counted_and_sampled_in_full(recruitment, writer, reader):
    """The tests' node refuses a statement for more than ten partitions, as a cluster with that guardrail does."""
    wide = replace(recruitment, shards=23)
    minute = datetime(2026, 5, 5, 8, 0)
    EventWriter(writer, wide).write([event(str(minute), ev="1") for _ in range(200)])
    assert minute_counts(reader, wide, [minute])[minute][0] == 200
    assert counts.sampled_rows(reader, wide, [minute]) == {minute: 200}


def test_the_tests_node_refuses_a_request_for_more_partitions_than_the_guardrail_allows(reader):
    query = "SELECT minute FROM bedan.tracking WHERE minute IN (1, 2, 3) AND shard IN (0, 1, 2, 3)"
    with pytest.raises(InvalidRequest, match="partition_keys_in_select|partition keys"):
        reader.execute(query)


def test_a_partition_that_cannot_be_read_is_named_and_the_others_are_counted(recruitment, writer, reader):
    first = datetime(2026, 5, 6, 8, 0)
    minutes = [first + timedelta(minutes=number) for number in range(4)]
    EventWriter(writer, recruitment).write([event(str(minute), ev="1") for minute in minutes for _ in range(5)])
    with unreadable_partition(writer, recruitment, minutes[1], 2):
        with pytest.raises(ReadFailure):
            minute_counts(reader, recruitment, minutes)
        unreadable, ids = [], []
        result = minute_counts(
            reader, recruitment, minutes, lambda minute, _: ids.append(minute), lambda *place: unreadable.append(place)
        )
        assert {minute: rows for minute, (rows, _) in result.items()} == {minutes[0]: 5, minutes[2]: 5, minutes[3]: 5}
        assert [(minute, shard) for minute, shard, _ in unreadable] == [(minutes[1], 2)]
        assert isinstance(unreadable[0][2], ReadFailure)
        assert {minute: ids.count(minute) for minute in result} == dict.fromkeys(result, 5), "Each row once."
        assert counts.sampled_rows(reader, recruitment, minutes) == {minutes[0]: 5, minutes[2]: 5, minutes[3]: 5}


def test_an_error_of_all_hosts_is_a_partition_error_if_a_replica_failed_or_no_cause_is_recorded():
    from cassandra import Unauthorized, Unavailable
    from cassandra.cluster import NoHostAvailable

    assert is_partition_error(NoHostAvailable("no host is left", {}))
    assert is_partition_error(NoHostAvailable("no host is left", {"host": Unavailable("too few")}))
    assert not is_partition_error(NoHostAvailable("no host is left", {"host": Unauthorized("no")}))


def test_partitions_whose_replicas_are_down_are_named(recruitment, reader, admin):
    """A replication factor of 3 on a single node: a quorum needs two replicas, and only one exists."""
    replication = "{'class': 'SimpleStrategy', 'replication_factor': 3}"
    admin.execute(f"CREATE KEYSPACE IF NOT EXISTS away WITH replication = {replication}")
    try:
        away = replace(recruitment, keyspace="away", table="tracking")
        for statement in schema.table_statements(away):
            admin.execute(statement)
        admin.execute('GRANT SELECT ON KEYSPACE away TO "lake_reader"')
        unreadable, minute = [], datetime(2026, 5, 7, 8, 0)
        assert minute_counts(reader, away, [minute], on_unreadable=lambda *place: unreadable.append(place)) == {}
        assert [(at, shard) for at, shard, _ in unreadable] == [(minute, shard) for shard in range(away.shards)]
        assert "too few live replicas" in str(explain(unreadable[0][2], endpoint(LAKE_READER)))
    finally:
        admin.execute("DROP KEYSPACE away", timeout=60)
