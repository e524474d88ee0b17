"""Copying a flat table, such as other pipelines of this kind keep, into the lake."""

import time
from dataclasses import replace
from datetime import datetime

import pytest

from include.files import imports
from include.files.flat_table import flat_table
from include.lake.errors import LakeError, LakeTableMismatch
from include.lake.session import lake
from include.lake.writer import EventWriter
from tests.lake.conftest import event_id
from tests.lake_rows import LakeRow

pytestmark = pytest.mark.usefixtures("schemas")


@pytest.fixture
def flat(admin):
    admin.execute(
        "CREATE KEYSPACE IF NOT EXISTS flat WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"
    )
    admin.execute(
        "CREATE TABLE flat.events (create_time timeuuid PRIMARY KEY, custom_track text, bid double, mood text)"
    )
    admin.execute("CREATE TABLE flat.keyed (day date, create_time timeuuid, ev text, PRIMARY KEY (day, create_time))")
    admin.execute(
        "CREATE TABLE flat.doubles (create_time text PRIMARY KEY, custom_track text, job_id double, ed map<text, text>)"
    )
    admin.execute(
        "CREATE TABLE flat.tracking (minute timestamp, shard int, create_time timeuuid, custom_track text, job_id text, "
        "PRIMARY KEY ((minute, shard), create_time))"
    )
    admin.execute("CREATE TABLE flat.odd (create_time text PRIMARY KEY, ev text)")
    admin.execute("GRANT SELECT ON KEYSPACE flat TO lake_reader")
    yield admin
    admin.execute("DROP KEYSPACE flat")


def fill(session, count, day):
    insert = session.prepare(
        "INSERT INTO flat.events (create_time, custom_track, bid, mood) VALUES (?, 'click', 1.5, 'x')"
    )
    for _ in range(count):
        session.execute(insert, (event_id(f"{day} 10:00:00"),))


def lake_rows(session, day):
    minute = datetime.fromisoformat(f"{day} 10:00:00")
    query = "SELECT * FROM bedan.tracking WHERE minute = %s AND shard IN (0, 1, 2, 3)"
    return [LakeRow(row) for row in session.execute(query, (minute,))]


def test_every_row_is_copied_as_text(recruitment, flat, reader):
    fill(flat, 30, "2026-08-01")
    summary = imports.import_table(recruitment, "flat.events")
    assert (summary.written, summary.rejected, summary.unknown_columns) == (30, 0, ("mood",))
    rows = lake_rows(reader, "2026-08-01")
    assert len(rows) == 30
    assert {(row.custom_track, row.bid, row.mood, row.job_id) for row in rows} == {("click", "1.5", "x", None)}


def test_columns_of_any_type_are_copied(recruitment, flat, reader):
    flat.execute(
        f"INSERT INTO flat.doubles (create_time, custom_track, job_id, ed) VALUES ('{event_id('2026-08-05 10:00:00')}', "
        "'click', 12345678, {'publisherId': '7'})"
    )
    assert imports.import_table(recruitment, "flat.doubles").written == 1
    [row] = lake_rows(reader, "2026-08-05")
    assert (row.custom_track, row.job_id, row.ed) == ("click", "1.2345678E7", '{"publisherId": "7"}')


def test_a_column_of_a_user_defined_type_is_copied(recruitment, flat, reader):
    flat.execute("CREATE TYPE flat.publisher (id text, paid boolean)")
    flat.execute(
        "CREATE TABLE flat.typed (create_time timeuuid PRIMARY KEY, ed publisher, custom_track frozen<publisher>)"
    )
    created = event_id("2026-08-08 10:00:00")
    flat.execute(
        f"INSERT INTO flat.typed (create_time, ed, custom_track) VALUES ({created}, {{id: '7'}}, {{paid: true}})"
    )
    assert imports.import_table(recruitment, "flat.typed").written == 1
    [row] = lake_rows(reader, "2026-08-08")
    assert (row.ed, row.custom_track) == ('{"id": "7", "paid": null}', '{"id": null, "paid": true}')


def test_the_column_of_the_id_is_neither_unknown_nor_missing(recruitment, flat, reader):
    by_id = replace(recruitment, event_id="ed", fields=tuple(set(recruitment.fields) - {"ed"}))
    assert "ed" not in flat_table(reader, by_id, "flat.doubles").unknown
    assert "bid" not in flat_table(reader, replace(recruitment, event_id="bid"), "flat.doubles").missing


def test_a_lake_table_of_the_former_layout_is_copied(recruitment, flat, reader):
    created = event_id("2026-08-06 10:00:00")
    insert = flat.prepare(
        "INSERT INTO flat.tracking (minute, shard, create_time, custom_track, job_id) VALUES (?, 3, ?, 'click', '7')"
    )
    flat.execute(insert, (datetime(2026, 8, 6, 10), created))
    assert imports.import_table(recruitment, "flat.tracking").written == 1
    [row] = lake_rows(reader, "2026-08-06")
    assert (row.row["create_time"], row.custom_track, row.job_id) == (created, "click", "7")


def test_a_lake_table_of_the_current_layout_is_copied_unchanged(recruitment, flat, reader):
    created, text = event_id("2026-08-07 10:00:00"), '{"custom_track": "click", "bid": 1.50, "mood": {"a": 1}}'
    flat.execute(
        "CREATE TABLE flat.cells (minute timestamp, shard int, create_time timeuuid, payload text, "
        "PRIMARY KEY ((minute, shard), create_time))"
    )
    insert = flat.prepare("INSERT INTO flat.cells (minute, shard, create_time, payload) VALUES (?, 7, ?, ?)")
    flat.execute(insert, (datetime(2026, 8, 7, 10), created, text))
    assert imports.import_table(recruitment, "flat.cells").written == 1
    [row] = lake_rows(reader, "2026-08-07")
    assert (row.row["create_time"], row.payload) == (created, text)


def test_a_stopped_copy_resumes_where_it_stopped(recruitment, flat, reader, monkeypatch):
    fill(flat, 30, "2026-08-02")
    monkeypatch.setattr(imports, "_ROWS_PER_CHUNK", 10)
    write, written = EventWriter.write, []

    def stop_in_the_third_chunk(self, events, **stamp):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.extend([events])
        return write(self, events, **stamp)

    monkeypatch.setattr(EventWriter, "write", stop_in_the_third_chunk)
    with pytest.raises(KeyboardInterrupt):
        imports.import_table(recruitment, "flat.events")
    assert len(lake_rows(reader, "2026-08-02")) == 20
    monkeypatch.setattr(
        EventWriter, "write", lambda self, events, **stamp: written.append(events) or write(self, events, **stamp)
    )
    summary = imports.import_table(recruitment, "flat.events")
    assert summary.resumed_at is not None
    assert sum(len(events) for events in written[2:]) <= 11  # the row at the recorded token may be written twice
    assert len(lake_rows(reader, "2026-08-02")) == 30


def test_keys_that_are_not_time_uuids_are_rejected(recruitment, flat):
    flat.execute("INSERT INTO flat.odd (create_time, ev) VALUES ('yesterday', '1')")
    flat.execute(f"INSERT INTO flat.odd (create_time, ev) VALUES ('{event_id('2026-08-03 10:00:00')}', '1')")
    summary = imports.import_table(recruitment, "flat.odd")
    assert (summary.written, summary.rejected) == (1, 1)


def test_a_missing_permission_is_reported_with_the_grant(recruitment, flat):
    flat.execute("REVOKE SELECT ON KEYSPACE flat FROM lake_reader")
    time.sleep(1.5)  # the node caches permissions for half a second
    with pytest.raises(LakeError, match=r"GRANT SELECT ON table flat\.events TO lake_reader;"):
        imports.import_table(recruitment, "flat.events")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("flat.keyed", r"primary key \(day, create_time\).*cqlsh: COPY flat.keyed"),
        ("flat.nothing", "no table flat.nothing"),
        ("minutemark.minute_changes", "has the primary key"),
        ("bedan.tracking", "is the lake table of pipeline recruitment itself"),
        ("flat.events; DROP", "does not name a table"),
    ],
)
def test_a_table_that_cannot_be_copied_is_refused(recruitment, flat, name, message):
    with pytest.raises(LakeTableMismatch, match=message), lake():
        imports.import_table(recruitment, name)
