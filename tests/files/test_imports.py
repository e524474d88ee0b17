"""Imports on the real stores: everything arrives or is kept with a reason, and a stopped import resumes."""

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import psutil
import pytest

from include.files import import_log, imports
from include.files.dimension_rows import UnknownDimension, typed_rows
from include.files.import_log import ImportLog, ImportRunning
from include.files.record_files import FileRefused, open_records
from include.files.survey import checked_fingerprint
from include.lake import change_log
from include.lake.errors import LakeTableMismatch
from include.lake.session import lake
from include.lake.writer import EventWriter
from include.pipelines import Dimension
from include.warehouse.session import rows as fetch
from include.warehouse.session import value, warehouse
from local.layout import ROOT
from tests.lake.conftest import event_id
from tests.lake_rows import LakeRow

pytestmark = pytest.mark.usefixtures("schemas")


def query(sql, **binds):
    with warehouse("warehouse_etl") as conn:
        return fetch(conn.cursor(), sql, binds)


def lake_rows(minute):
    with lake("lake_reader") as session:
        result = session.execute(
            "SELECT * FROM bedan.tracking WHERE minute = %s AND shard IN (0, 1, 2, 3)",
            (datetime.fromisoformat(minute),),
        )
        return {str(row.create_time): LakeRow(row) for row in result}


def rejected():
    return query(
        "SELECT origin, origin_key, minute, reason, payload FROM etl.rejected_events ORDER BY rejected_id DESC"
    )


@pytest.fixture
def csv_file(tmp_path):
    def write(*lines, header="create_time,custom_track,job_id,ed"):
        path = tmp_path / "events.csv"
        path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
        return path

    return write


def test_events_arrive_and_their_minutes_are_touched(recruitment, csv_file):
    ids = [event_id("2026-07-01 10:00:00"), event_id("2026-07-01 10:03:00")]
    summary = imports.import_events(recruitment, csv_file(f'{ids[0]},click,7,"{{""a"":1}}"', f"{ids[1]},,,"))
    assert (summary.written, summary.rejected, len(summary.minutes)) == (2, 0, 2)
    row = lake_rows("2026-07-01 10:00")[str(ids[0])]
    assert (row.custom_track, row.job_id, row.ed, row.bid) == ("click", "7", '{"a":1}', None)
    with lake("lake_reader") as session:
        minutes = change_log.minutes_of_day(session, "bedan.tracking", datetime(2026, 7, 1).date())
    assert {datetime(2026, 7, 1, 10, 0), datetime(2026, 7, 1, 10, 3)} <= set(minutes)


# ⚑ two imports of one file at once overwrote each other's position and counts
def test_a_second_import_of_a_file_stops_and_a_successor_takes_over(recruitment, csv_file):
    lines = [f"{event_id('2026-07-01 11:00:00')},click,7," for _ in range(3)]
    path = csv_file(*lines)
    digest, _ = checked_fingerprint(path)
    with warehouse("warehouse_etl") as conn:
        first = ImportLog(conn, "recruitment", digest, path.name)
        first.begin()
        first.advance(2, 1, [])
        running = r"events\.csv is being read by another import or replay \(connection \d+ .* 1 rows written, 0 rejected\).*KILL"
        with pytest.raises(ImportRunning, match=running):
            imports.import_events(recruitment, path)
        assert first.begin().resumed, "The connection that has the lock can begin again."
        other = csv_file(*lines[:2])
        assert imports.import_events(recruitment, other).written == 2, "Another file is another import."
        path = csv_file(*lines)
    summary = imports.import_events(recruitment, path)  # the connection of the first import has ended
    assert (summary.resumed_at, summary.written) == (2, 3)


def test_an_import_starts_if_the_other_one_ends_before_it_is_named(recruitment, monkeypatch):
    monkeypatch.setattr(import_log, "TAKE_OVER_SECONDS", 0)
    reading = import_log.reading
    with warehouse("warehouse_etl") as conn, warehouse("warehouse_etl") as other:
        ImportLog(other, "recruitment", "a" * 64, "events.csv").begin()

        def end_the_other_import(conn):
            with contextlib.suppress(Exception):  # the second time, it has ended
                value(other.cursor(), "SELECT RELEASE_ALL_LOCKS()")
                other.close()
            return reading(conn)

        monkeypatch.setattr(import_log, "reading", end_the_other_import)
        assert not ImportLog(conn, "recruitment", "a" * 64, "events.csv").begin().resumed


def test_rows_without_a_usable_id_are_kept_with_line_reason_and_payload(recruitment, csv_file):
    good = event_id("2026-07-02 10:00:00")
    path = csv_file(
        "not-an-id,click,7,", f"{good},click,7,", "too,few", f"{good},too,many,fields,here", ',click,8,"𝄞\x00"'
    )
    summary = imports.import_events(recruitment, path)
    assert (summary.written, summary.rejected) == (1, 4)
    result = {row["origin_key"].split(":")[1]: row for row in rejected()[:4]}
    assert sorted(result) == ["2", "4", "5", "6"]
    assert {row["origin"] for row in result.values()} == {"import"}
    assert result["2"]["reason"] == "create_time 'not-an-id' is not a time-UUID (version 1, 36 characters)"
    assert json.loads(result["2"]["payload"]) == {"create_time": "not-an-id", "custom_track": "click", "job_id": "7"}
    assert "2 fields, but the header has 4" in result["4"]["reason"]
    assert json.loads(result["4"]["payload"]) == {"line": "too,few\n"}
    assert json.loads(result["6"]["payload"]) == {"custom_track": "click", "job_id": "8", "ed": "𝄞\x00"}


def test_importing_a_file_again_changes_nothing(recruitment, csv_file):
    ids = [event_id("2026-07-03 10:00:00") for _ in range(3)]
    path = csv_file(*(f"{id},click,7," for id in ids), "no-id,,,")
    first = imports.import_events(recruitment, path)
    before = lake_rows("2026-07-03 10:00"), len(rejected())
    again = imports.import_events(recruitment, path)
    assert (again.written, again.rejected) == (first.written, first.rejected) == (3, 1)
    assert again.resumed_at is None  # a new import, not a resumed one: the lake table may have changed
    assert (lake_rows("2026-07-03 10:00"), len(rejected())) == before


def test_a_stopped_import_resumes_where_it_stopped(recruitment, csv_file, monkeypatch):
    ids = [event_id("2026-07-04 10:00:00") for _ in range(10)]
    path = csv_file("no-id,,,", *(f"{id},click,7," for id in ids))
    monkeypatch.setattr(imports, "_ROWS_PER_CHUNK", 4)
    write, written = EventWriter.write, []

    def stop_in_the_third_chunk(self, events, **stamp):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(events)
        return write(self, events, **stamp)

    monkeypatch.setattr(EventWriter, "write", stop_in_the_third_chunk)
    with pytest.raises(KeyboardInterrupt):
        imports.import_events(recruitment, path)
    assert len(lake_rows("2026-07-04 10:00")) == 7
    (progress,) = query("SELECT * FROM etl.imports ORDER BY import_id DESC LIMIT 1")
    assert (progress["position"], progress["state"]) == (9, "running")

    monkeypatch.setattr(
        EventWriter, "write", lambda self, events, **stamp: written.append(events) or write(self, events, **stamp)
    )
    summary = imports.import_events(recruitment, path)
    assert summary.resumed_at == 9
    assert [len(events) for events in written[2:]] == [3]  # only the rows after the recorded position
    assert (summary.written, summary.rejected) == (10, 1)
    assert len(lake_rows("2026-07-04 10:00")) == 10


def test_several_processes_write_the_same_as_one(recruitment, csv_file):
    ids = [event_id(f"2026-07-04 12:0{number % 3}:00") for number in range(38_000)]
    lines = [f"{id},click,7," for id in ids]
    lines.insert(30_000, "no-id,,,")
    summary = imports.import_events(recruitment, csv_file(*lines))
    assert (summary.written, summary.rejected, len(summary.minutes)) == (38_000, 1, 3)
    assert set().union(*(lake_rows(f"2026-07-04 12:0{minute}") for minute in range(3))) == {str(id) for id in ids}
    assert rejected()[0]["origin_key"].endswith(":30002")
    with lake("lake_reader") as session:
        assert summary.minutes <= set(change_log.minutes_of_day(session, "bedan.tracking", datetime(2026, 7, 4).date()))


@pytest.mark.parametrize("victim", ["the import", "one of its processes"])
def test_a_killed_import_leaves_no_process_behind_and_resumes(recruitment, csv_file, victim):
    hour = {"the import": 13, "one of its processes": 14}[victim]
    ids = [event_id(f"2026-07-04 {hour}:{number // 4_000:02}:00") for number in range(40_000)]
    path = csv_file(*(f"{id},click,7," for id in ids))
    command = [sys.executable, "-m", "include.cli", "import", "--pipeline", "recruitment", str(path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    parent = psutil.Process(process.pid)
    while not (writers := [child for child in parent.children() if "spawn_main" in " ".join(child.cmdline())]):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    (parent if victim == "the import" else writers[0]).kill()
    _, output = process.communicate(timeout=60)
    assert psutil.wait_procs(writers, timeout=30)[1] == []
    if victim != "the import":
        assert (
            process.returncode == 2 and "Run the same command again to resume" in output and "Traceback" not in output
        )
    summary = imports.import_events(recruitment, path)
    assert summary.resumed_at and summary.resumed_at < 40_001
    assert summary.written == 40_000
    for minute in range(10):
        expected = {str(id) for id in ids[minute * 4_000 : (minute + 1) * 4_000]}
        assert set(lake_rows(f"2026-07-04 {hour}:{minute:02}")) == expected


def test_progress_is_recorded_after_the_events_never_before(recruitment, csv_file, monkeypatch):
    path = csv_file(f"{event_id('2026-07-05 10:00:00')},click,7,")
    monkeypatch.setattr(imports.ImportLog, "advance", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        imports.import_events(recruitment, path)
    assert len(lake_rows("2026-07-05 10:00")) == 1
    (progress,) = query("SELECT * FROM etl.imports ORDER BY import_id DESC LIMIT 1")
    assert (progress["position"], progress["state"]) == (0, "running")


def test_rows_of_closed_minutes_are_rejected(recruitment, csv_file):
    keeps_a_day = replace(recruitment, lake_retention=timedelta(days=1))
    with lake() as session:
        recent = event_id(str(change_log.clock(session).replace(microsecond=0)))
    summary = imports.import_events(
        keeps_a_day, csv_file(f"{event_id('2026-07-06 10:00:00')},click,7,", f"{recent},,,")
    )
    assert (summary.written, summary.rejected) == (1, 1)
    assert rejected()[0]["minute"] == datetime(2026, 7, 6, 10)
    assert "past the lake's retention: bedan.tracking keeps events for 1 day" in rejected()[0]["reason"]
    assert "1 row is rejected: its minute, 2026-07-06 10:00:00 UTC, is closed" in str(summary)


def test_unknown_columns_are_reported_and_kept(recruitment, csv_file):
    path = csv_file(f"{event_id('2026-07-07 10:00:00')},click,9", header="create_time,custom_track,mood")
    summary = imports.import_events(recruitment, path)
    assert summary.unknown_columns == ("mood",)
    assert "bid" in summary.missing_columns
    assert "does not declare, kept with each event: mood" in str(summary)
    [row] = lake_rows("2026-07-07 10:00").values()
    assert row.mood == "9"


@pytest.mark.parametrize("header", ["id,custom_track,job_id,ed", "create_time,mood,weather,price"])
def test_a_file_without_the_needed_columns_is_refused_before_anything_is_written(recruitment, csv_file, header):
    before = query("SELECT count(*) AS n FROM etl.imports")
    with pytest.raises(
        FileRefused, match="it has no column .*, which pipeline recruitment needs.* such as create_time"
    ):
        imports.import_events(recruitment, csv_file("a,b,c,d", header=header))
    with pytest.raises(FileRefused) as refused:
        imports.import_events(recruitment, csv_file("a,b,c,d", header=header))
    assert "mood" not in str(refused.value) and "job_id,ed" not in str(refused.value), "It may be a file of secrets."
    assert query("SELECT count(*) AS n FROM etl.imports") == before


def test_a_lake_table_with_a_different_layout_is_refused_before_anything_is_written(recruitment, csv_file):
    with pytest.raises(LakeTableMismatch, match=r"bedan\.tracking has a different layout: mood is missing"):
        imports.import_events(
            replace(recruitment, event_id="mood"), csv_file(f"{event_id('2026-07-09 10:00:00')},click,7,")
        )


def test_a_dimension_is_typed_and_rows_without_an_integer_id_are_rejected(recruitment, tmp_path):
    path = tmp_path / "job.csv"
    path.write_text(
        "id,title,status,group_id,campaign_id,company_id,created_date,last_modified_date,mood\n"
        "1,Baker,1,,4,77.0,2026-01-01 10:00:00.5,,x\n"  # as spreadsheets write whole numbers
        ",Nameless,1,,,,,,\n"
        "seven,Baker,1,,,,,,\n"
        "8,Baker,1,,,,yesterday,,\n"
        "9,Baker\n"
        "1,Baker and more,1,,4,78,2026-01-01T12:00:00+02:00,,x\n"  # the same job again: the last row stays
    )
    summary = imports.import_dimension("job", path)
    assert (summary.written, summary.rejected, summary.ignored_columns) == (3, 3, ("mood",))
    job, other = query("SELECT * FROM recruitment.job ORDER BY id")
    assert (other["id"], other["title"], other["created_date"]) == (8, "Baker", None)
    assert "1 value cannot be read and is stored as null: line 5: created_date 'yesterday' is not a time" in str(
        summary
    )
    assert (job["id"], job["title"], job["company_id"], job["group_id"]) == (1, "Baker and more", 78, None)
    assert job["created_date"] == datetime(2026, 1, 1, 10)
    reasons = [row["reason"] for row in reversed(rejected()[:3])]
    assert reasons[0] == "id is empty"
    assert reasons[1] == "id 'seven' is not a whole number"
    assert "2 fields" in reasons[2]


@pytest.mark.both_servers
@pytest.mark.parametrize("client", ["mysqlclient", "mysql-connector-python"])
def test_a_value_that_its_column_cannot_hold_is_stored_as_null(tmp_path, monkeypatch, client):
    connection = json.loads(os.environ["AIRFLOW_CONN_WAREHOUSE_ADMIN"])
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_ADMIN", json.dumps(connection | {"extra": {"client": client}}))
    path = tmp_path / "shelf.csv"
    path.write_text(
        "id,price,weight,rate,share,name,note,code,sold\n"
        "4294967295,-999.994,0,1234567890.12,12345678901.5,äääää,fine,ää,2038-01-19 03:14:07\n"
        f"2,999.995,-1,12345678901234567890,1e20,,{'ä' * 200},äää,2038-01-20\n"  # a TINYTEXT has 255 bytes
        f"3,1000,1e19,-1e10,-99999999999999999999.5,,{'a' * 256},,1970-01-01\n"
        "-4,1,1,,,,,,\n",
        encoding="utf-8",
    )
    columns = ("id", "price", "weight", "rate", "share", "name", "note", "code", "sold")
    shelf = Dimension("shelf", "recruitment.shelf", key="id", columns=columns, refresh="none.sql")
    refused, unreadable = [], []
    with warehouse("warehouse_admin") as conn, open_records(path, columns) as file:
        cursor = conn.cursor()
        cursor.execute(
            "CREATE TABLE recruitment.shelf (id INT UNSIGNED PRIMARY KEY, price DECIMAL(5, 2), weight DOUBLE UNSIGNED, "
            "rate DECIMAL(20, 10), share DECIMAL(38, 18), name VARCHAR(5) CHARACTER SET latin1, note TINYTEXT, "
            "code VARBINARY(4), sold TIMESTAMP NULL) CHARACTER SET utf8mb4"
        )
        try:
            rows = list(typed_rows(conn, shelf, file, file.records(), refused, unreadable))
            cursor.executemany(
                f"INSERT INTO recruitment.shelf VALUES ({', '.join(['%s'] * len(columns))})",
                [tuple(row.values()) for row in rows],
            )
            cursor.execute("SELECT * FROM recruitment.shelf ORDER BY id DESC")
            stored = list(cursor.fetchall())
        finally:
            cursor.execute("DROP TABLE recruitment.shelf")
    assert stored == [
        (
            *(4294967295, Decimal("-999.99"), 0.0, Decimal("1234567890.12"), Decimal("12345678901.5")),
            *("äääää", "fine", "ää".encode(), datetime(2038, 1, 19, 3, 14, 7)),
        ),
        (3, None, 1e19, None, Decimal("-99999999999999999999.5"), None, None, None, None),
        (2, None, None, None, None, None, None, None, None),
    ]
    assert unreadable == [
        "line 3: price '999.995' does not fit in its column",
        "line 3: weight '-1' does not fit in its column",
        "line 3: rate '12345678901234567890' does not fit in its column",
        "line 3: share '1e20' is not a number",
        f"line 3: note {'ä' * 60!r} is longer than 255 bytes",
        "line 3: code 'äää' is longer than 4 bytes",
        "line 3: sold '2038-01-20' does not fit in its column",
        "line 4: price '1000' does not fit in its column",
        "line 4: rate '-1e10' does not fit in its column",
        f"line 4: note {'a' * 60!r} is longer than 255 characters",
        "line 4: sold '1970-01-01' does not fit in its column",
    ]
    assert [row.reason for row in refused] == ["id '-4' does not fit in its column"]


def test_a_dimension_file_without_its_columns_is_refused(tmp_path):
    path = tmp_path / "job.csv"
    path.write_text("id,title\n1,Baker\n")
    with pytest.raises(FileRefused, match=r"it lacks columns that recruitment\.job needs: status, "):
        imports.import_dimension("job", path)


def test_an_unknown_table_is_refused_and_the_known_ones_are_listed(tmp_path):
    with pytest.raises(UnknownDimension, match=r"Unknown table 'company'.*job \(pipeline recruitment\)"):
        imports.import_dimension("company", tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pipeline", "nothing", "x.csv"], "`pipeline` is 'nothing'. Choose one of"),
        (["--pipeline", "recruitment", "nope.csv"], "file not found"),
        (["x.csv"], "unclear what to import"),
        (["--pipeline", "recruitment", "x.csv", "--from", "a.b"], "unclear what to import"),
        (["--pipeline", "recruitment", "--from", "bedan.nothing"], "no table bedan.nothing"),
    ],
)
def test_the_command_line_says_what_is_wrong_in_one_line(arguments, message, minutemark, capsys):
    assert minutemark("import", *arguments) == 2
    error = capsys.readouterr().err
    line = error.splitlines()[-1]
    assert line.startswith(("Import failed. ", "Error: ")) and message in line
    assert "Traceback" not in error
