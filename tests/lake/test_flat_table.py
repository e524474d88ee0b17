"""Copying a flat table, such as other pipelines of this kind keep, into the lake."""

import time
from datetime import datetime

import pytest

from include.lake.errors import LakeError, LakeTableMismatch
from include.lake.session import lake
from include.lake.writer import EventWriter
from include.operations import imports
from tests.lake.conftest import event_id

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
    return list(session.execute("SELECT * FROM bedan.tracking WHERE minute = %s AND shard IN (0, 1, 2, 3)", (minute,)))


def test_every_row_is_copied_as_text(recruitment, flat, reader):
    fill(flat, 30, "2026-08-01")
    summary = imports.import_table(recruitment, "flat.events")
    assert (summary.written, summary.rejected, summary.ignored_columns) == (30, 0, ("mood",))
    rows = lake_rows(reader, "2026-08-01")
    assert len(rows) == 30
    assert {(row.custom_track, row.bid, row.job_id) for row in rows} == {("click", "1.5", None)}


def test_a_stopped_copy_goes_on_where_it_was(recruitment, flat, reader, monkeypatch):
    fill(flat, 30, "2026-08-02")
    monkeypatch.setattr(imports, "_ROWS_PER_CHUNK", 10)
    write, written = EventWriter.write, []

    def stop_in_the_third_chunk(self, events):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.extend([events])
        return write(self, events)

    monkeypatch.setattr(EventWriter, "write", stop_in_the_third_chunk)
    with pytest.raises(KeyboardInterrupt):
        imports.import_table(recruitment, "flat.events")
    assert len(lake_rows(reader, "2026-08-02")) == 20
    monkeypatch.setattr(EventWriter, "write", lambda self, events: written.append(events) or write(self, events))
    summary = imports.import_table(recruitment, "flat.events")
    assert summary.resumed_at is not None
    assert sum(len(events) for events in written[2:]) <= 11  # the row at the recorded token may come twice
    assert len(lake_rows(reader, "2026-08-02")) == 30


def test_keys_that_are_no_time_uuids_are_rejected(recruitment, flat):
    flat.execute("INSERT INTO flat.odd (create_time, ev) VALUES ('yesterday', '1')")
    flat.execute(f"INSERT INTO flat.odd (create_time, ev) VALUES ('{event_id('2026-08-03 10:00:00')}', '1')")
    summary = imports.import_table(recruitment, "flat.odd")
    assert (summary.written, summary.rejected) == (1, 1)


def test_a_reader_without_permission_is_told_the_grant(recruitment, flat):
    flat.execute("REVOKE SELECT ON KEYSPACE flat FROM lake_reader")
    time.sleep(1.5)  # the node caches permissions for half a second
    with pytest.raises(LakeError, match=r"GRANT SELECT ON table flat\.events TO lake_reader;"):
        imports.import_table(recruitment, "flat.events")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("flat.keyed", r"primary key \(create_time, day\).*cqlsh: COPY flat.keyed"),
        ("flat.nothing", "no table flat.nothing"),
        ("bedan.tracking", "is the lake table of pipeline recruitment itself"),
        ("flat.events; DROP", "names no table"),
    ],
)
def test_a_table_that_cannot_be_copied_is_refused(recruitment, flat, name, told):
    with pytest.raises(LakeTableMismatch, match=told), lake():
        imports.import_table(recruitment, name)
