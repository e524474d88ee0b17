"""Files as people have them, imported into real stores: only their content counts, not their compression or format."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import tempfile
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from include import pipelines
from include.files import import_root, imports
from include.files.import_root import file_under_root
from include.lake.errors import LakePermissionMissing
from include.lake.session import lake
from include.warehouse.session import rows as fetch
from include.warehouse.session import warehouse
from tests.lake_rows import LakeRow
from tests.unreadable import unreadable_partition

pytestmark = pytest.mark.usefixtures("schemas")

SHOP = pipelines.get("ecommerce")
HEADER = "event_time,event_type,product_id,price,user_session"


def lines(minute: int, rows: int = 3) -> list[str]:
    """Rows of that minute only, so that tests share none."""
    return [f"2019-12-01 10:{minute:02}:{second:02} UTC,view,{second},489.070,s" for second in range(rows)]


def lake_rows(minute: int) -> list[LakeRow]:
    query = "SELECT * FROM ecommerce_ks.operations WHERE minute = %s AND shard IN (0, 1, 2, 3)"
    with lake("lake_reader") as session:
        result = session.execute(query, (datetime(2019, 12, 1, 10, minute),))
        return sorted((LakeRow(row) for row in result), key=lambda row: row.create_time.time)


def newest_rejected() -> dict:
    with warehouse("warehouse_etl") as conn:
        [row] = fetch(conn.cursor(), "SELECT * FROM etl.rejected_events ORDER BY rejected_id DESC LIMIT 1")
        return row


@pytest.fixture
def file(tmp_path):
    def write(content: bytes | str, name: str = "file"):
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path / name

    return write


def as_json(header: str, rows: list[str]) -> str:
    """The rows as objects whose numbers are numbers, as they are written in the CSV."""
    digits = {"product_id", "price"}
    return "\n".join(
        "{" + ", ".join(f'"{name}": {text if name in digits else json.dumps(text)}' for name, text in cells) + "}"
        for cells in (list(zip(header.split(","), row.split(","), strict=True)) for row in rows)
    )


FORMS = {
    "gzip": lambda rows: gzip.compress("\n".join([HEADER, *rows]).encode()),
    "other case and line ends": lambda rows: "\r\n".join([HEADER.upper(), *rows]),
    "UTF-16 with semicolons": lambda rows: "\n".join([HEADER, *rows]).replace(",", " ; ").encode("utf-16"),
    "JSON lines": lambda rows: as_json(HEADER, rows),
}


@pytest.mark.parametrize(("minute", "form"), [*enumerate(FORMS, 1)])
def test_the_same_rows_are_the_same_events_in_any_format(file, minute, form):
    rows = [*lines(minute), *lines(minute)[:1]]  # two equal rows are two events
    imports.import_events(SHOP, file("\n".join([HEADER, *rows])))
    ids = [row.id for row in lake_rows(minute)]
    assert len(ids) == 4
    summary = imports.import_events(SHOP, file(FORMS[form](rows)))
    assert (summary.written, summary.rejected, summary.unknown_columns) == (4, 0, ())
    assert sorted(row.id for row in lake_rows(minute)) == sorted(ids)


def test_several_processes_read_a_long_file_of_json_lines_as_they_read_its_csv(file):
    rows = [lines(30, 1)[0].replace("view,0,", f"view,{number},") for number in range(24_000)]
    rows.append(rows[-1])  # an event of its own
    summary = imports.import_events(SHOP, file(as_json(HEADER, rows)))
    assert (summary.written, summary.rejected, summary.resumed_at) == (len(rows), 0, None)
    ids = {row.id for row in lake_rows(30)}
    assert len(ids) == len(rows)
    imports.import_events(SHOP, file("\n".join([HEADER, *rows])))
    assert {row.id for row in lake_rows(30)} == ids


def test_a_json_line_is_kept_as_it_was_sent(file):
    imports.import_events(SHOP, file(as_json(HEADER, lines(5, 1))))
    [row] = lake_rows(5)
    assert '"price": 489.070' in row.payload


def test_unicode_line_separators_are_characters_of_a_json_value(file):
    row = as_json(HEADER, lines(17, 1)).replace('"event_type"', '"note\u2028\x85": 1, "event_type"')
    summary = imports.import_events(SHOP, file(row))
    assert (summary.written, summary.rejected, summary.unknown_columns) == (1, 0, ("note\u2028\x85",))
    assert len(lake_rows(17)) == 1


def test_names_of_json_are_matched_exactly_and_the_import_says_so(file, command, capsys):
    content = as_json(HEADER, lines(18, 1))
    assert command(file(content.replace('"event_time"', '"Event_Time"'))) == 2
    assert "Names in JSON are matched exactly: Event_Time is not event_time." in capsys.readouterr().err
    assert command(file(content.replace('"price"', '"PRICE"'))) == 0
    assert "Names in JSON are matched exactly: PRICE is not price." in capsys.readouterr().out


def test_a_line_that_is_not_an_object_is_rejected_by_itself(file):
    content = as_json(HEADER, lines(6, 2)).replace("\n", '\n["no", "object"]\n')
    summary = imports.import_events(SHOP, file(content))
    assert (summary.written, summary.rejected) == (2, 1)
    kept = newest_rejected()
    assert kept["origin_key"].endswith(":2")
    assert kept["reason"] == "the line is JSON, but not an object of fields"
    assert json.loads(kept["payload"]) == {"line": '["no", "object"]'}


def test_a_bad_byte_rejects_its_line_and_the_rest_is_imported(file):
    rows = [*(row.encode() for row in lines(7)), lines(7)[0].encode().replace(b"view", b"vi\xe9w")]
    summary = imports.import_events(SHOP, file(b"\n".join([HEADER.encode(), *rows])))
    assert (summary.written, summary.rejected) == (3, 1)
    kept = newest_rejected()
    assert "it has the byte e9, which is not UTF-8" in kept["reason"]
    assert "vi\\xe9w" in json.loads(kept["payload"])["line"]


def test_the_summary_begins_with_the_recognized_format(file):
    content = "\n".join([HEADER, *lines(8)]).replace(",", ";")
    path = file(gzip.compress(content.encode()) + b"???")
    first, *others = str(imports.import_events(SHOP, path)).splitlines()
    assert first == f"{path}: gzip, UTF-8, CSV with semicolons."
    assert "3 bytes after the end of the compressed data were ignored." in others


def test_the_summary_reports_rows_that_are_in_the_lake_already(file):
    path = file("\n".join([HEADER, *lines(9, 10)]))
    assert "already" not in str(imports.import_events(SHOP, path))
    path = file("\n".join([HEADER, *lines(9, 12)]))
    assert "Of 12 rows that were looked up before writing, 10 were in the lake already" in str(
        imports.import_events(SHOP, path)
    )


def test_only_a_few_rows_of_each_chunk_are_looked_up(file, monkeypatch):
    monkeypatch.setattr(imports, "_ROWS_PER_CHUNK", 20)
    monkeypatch.setattr(imports, "_SAMPLE_SIZES", (10, 2))
    assert imports.import_events(SHOP, file("\n".join([HEADER, *lines(10, 60)]))).looked_up == 10 + 2 + 2


def test_a_partition_that_cannot_be_read_does_not_stop_an_import(file, writer):
    imports.import_events(SHOP, file("\n".join([HEADER, *lines(41, 12)])))
    shards = [row.shard for row in lake_rows(41)]
    unreadable = shards[0]
    readable = 12 - shards.count(unreadable)
    assert 0 < readable < 12
    with unreadable_partition(writer, SHOP, datetime(2019, 12, 1, 10, 41), unreadable):
        summary = imports.import_events(SHOP, file("\n".join([HEADER, *lines(41, 12), ""])))
    assert (summary.written, summary.looked_up, summary.known) == (12, readable, readable)


def test_a_reader_without_permission_is_named_in_the_error_of_an_import(file, admin, connection):
    admin.execute("CREATE ROLE IF NOT EXISTS blind WITH PASSWORD = 'blind' AND LOGIN = true")
    connection("lake_reader", login="blind", password="blind")
    try:
        with pytest.raises(LakePermissionMissing, match=r"connection lake_reader .*GRANT SELECT ON .* TO blind;"):
            imports.import_events(SHOP, file("\n".join([HEADER, *lines(42)])))
    finally:
        admin.execute("DROP ROLE blind")


@pytest.fixture
def command(minutemark):
    """Imports a file of shop events; returns the exit status."""
    return lambda path, *arguments: minutemark("import", "--pipeline", "ecommerce", str(path), *arguments)


def test_a_file_with_too_many_rejected_rows_is_imported_and_the_command_fails(file, command, capsys):
    path = file("\n".join([HEADER, *lines(11), "soon,view,1,1,s"]))
    assert command(path) == 1
    assert "1 of 4 rows were rejected: 25 %, more than `max_rejected` (20 %)" in capsys.readouterr().err
    assert len(lake_rows(11)) == 3
    assert command(path, "--max-rejected", "25") == 0


@pytest.mark.parametrize("percent", ["-1", "101", "nan", "inf", "many"])
def test_a_limit_that_is_not_a_percentage_is_refused_before_anything_is_written(file, command, capsys, percent):
    assert command(file("\n".join([HEADER, *lines(19)])), f"--max-rejected={percent}") == 2
    assert re.search("from 0 to 100|not a number", capsys.readouterr().err)
    assert not lake_rows(19)


def test_a_percentage_may_end_in_a_percent_sign(file, command):
    assert command(file("\n".join([HEADER, *lines(20), "soon,view,1,1,s"])), "--max-rejected=25 %") == 0


@pytest.mark.parametrize("target", [("--pipeline", "ecommerce"), ("--table", "job")])
def test_an_unknown_header_is_not_quoted(file, minutemark, capsys, target):
    for text in ("root:$6$secret:0:0\n1:2:3:4\n", "secret,secret\n1,2\n", "\0SECRET=secret\0", "secret\n"):
        assert minutemark("import", *target, str(file(text))) == 2
        error = capsys.readouterr().err
        assert "Import failed. " in error and "secret" not in error.lower(), "It may be any file of the worker."


def test_the_dags_task_fails_if_too_many_rows_are_rejected(file, monkeypatch):
    from airflow.sdk.exceptions import AirflowFailException

    from dags.operations import import_rows

    form = {"pipeline": "ecommerce", "table": None, "from": None, "encoding": None, "format": None, "max_rejected": 20}
    path = file("\n".join([HEADER, *lines(13), "soon,view,1,1,s"]))
    monkeypatch.setenv("MINUTEMARK_IMPORT_ROOT", str(path.parent))
    with pytest.raises(AirflowFailException, match="1 of 4 rows were rejected"):
        import_rows.function(params=form | {"file": str(path)})
    assert len(lake_rows(13)) == 3


@pytest.mark.parametrize("compress", [str.encode, lambda text: gzip.compress(text.encode())], ids=["plain", "gzip"])
def test_a_file_replaced_after_the_check_is_read_as_it_was_checked(file, tmp_path, monkeypatch, compress):
    monkeypatch.setenv("MINUTEMARK_IMPORT_ROOT", str(tmp_path))
    path = file(compress("\n".join([HEADER, *lines(21)])))
    with tempfile.NamedTemporaryFile("w") as secret, file_under_root(path.name) as opened:
        secret.write("\n".join([HEADER, "a secret,view,1,1,s"]))
        secret.flush()
        path.unlink()
        path.symlink_to(secret.name)
        summary = imports.run_import("ecommerce", None, opened, None)
        assert (summary.written, summary.rejected) == (3, 0)
        assert "secret" not in str(newest_rejected())
        assert summary.source == str(path), "The log names the file, not its descriptor."
        with pytest.raises(TypeError):
            Path(opened)


@pytest.mark.parametrize("name", ["link.csv", "folder/x.csv"])
def test_a_link_that_appears_after_its_path_was_resolved_is_not_followed(tmp_path, name):
    root, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    (elsewhere / "x.csv").write_text("a secret")
    (root / "link.csv").symlink_to(elsewhere / "x.csv")
    (root / "folder").symlink_to(elsewhere)
    with contextlib.ExitStack() as stack, pytest.raises(OSError):
        import_root._open_below(root, Path(name).parts, stack)


@pytest.mark.parametrize(
    ("rows", "message"), [([], "There were no rows."), (["soon,view,1,1,s"] * 3, "All 3 rows were rejected.")]
)
def test_an_import_that_writes_nothing_fails(file, command, capsys, rows, message):
    assert command(file("\n".join([HEADER, *rows])), "--max-rejected", "100") == 1
    assert message in capsys.readouterr().err


def test_a_file_that_cannot_be_read_is_reported_in_one_line(file, command, capsys):
    assert command(file(b"PAR1\0\0\0")) == 2
    error = capsys.readouterr().err
    assert "it is a Parquet file, which cannot be imported. Save it as CSV" in error
    assert error.count("\n") == 1


def test_the_format_is_an_option_of_the_command(file, command, capsys):
    path = file("\n".join([HEADER, *lines(12)]).replace(",", "|"))
    assert command(path, "--format", "csv,pipe") == 0
    assert "CSV with pipes" in capsys.readouterr().out
    assert command(path, "--format", "comma") == 2
    assert "it has no column create_time or event_time" in capsys.readouterr().err


def test_a_dimension_file_may_have_another_delimiter_and_letter_case(file):
    path = file(
        'ID;Title;status;group_id;campaign_id;company_id;created_date;last_modified_date\n990001;"b; c";1;;;7;;\n'
    )
    summary = imports.import_dimension("job", path)
    assert (summary.written, summary.description) == (1, "UTF-8, CSV with semicolons")
    with warehouse("warehouse_etl") as conn:
        assert fetch(conn.cursor(), "SELECT title, company_id FROM recruitment.job WHERE id = 990001") == [
            {"title": "b; c", "company_id": 7}
        ]


def test_a_dimension_may_come_as_json_lines(file):
    names = ("title", "status", "group_id", "campaign_id", "company_id", "created_date", "last_modified_date")
    empty = dict.fromkeys(names)
    rows = [
        json.dumps({"id": 990002.0, **empty, "title": "b; c", "company_id": "7", "created_date": 1772366400000}),
        json.dumps(
            {"id": 990003, "title": ["x", 1.5], "company_id": True, "created_date": "2026-03-01"}
        ),  # fields that are null may be left out
        "[1]",
        json.dumps({**empty, "id": None}),
    ]
    summary = imports.import_dimension("job", file("\n".join(rows)))
    assert (summary.written, summary.rejected, summary.description) == (2, 2, "UTF-8, JSON lines")
    assert summary.unreadable == ["line 2: company_id 'true' is not a whole number"]
    with warehouse("warehouse_etl") as conn:
        records = fetch(
            conn.cursor(),
            "SELECT id, title, company_id, created_date FROM recruitment.job WHERE id IN (990002, 990003) ORDER BY id",
        )
    assert [tuple(row.values()) for row in records] == [
        (990002, "b; c", 7, datetime(2026, 3, 1, 12)),
        (990003, '["x", 1.5]', None, datetime(2026, 3, 1)),
    ]


def test_a_dimension_uses_the_null_words_of_its_pipeline(file):
    jobs = replace(pipelines.get("recruitment"), null_words=("n/a",))
    header = "id,title,status,group_id,campaign_id,company_id,created_date,last_modified_date"
    imports.import_dimension("job", file(f"{header}\n990004,n/a,,,,,,\n990005,NULL,,,,,,\n"), pipeline=jobs)
    with warehouse("warehouse_etl") as conn:
        records = fetch(conn.cursor(), "SELECT title FROM recruitment.job WHERE id IN (990004, 990005) ORDER BY id")
    assert [row["title"] for row in records] == [None, "NULL"]


def test_intact_rows_of_a_damaged_file_are_written_and_the_import_fails(file, command, capsys):
    first = gzip.compress("\n".join([HEADER, *lines(14), ""]).encode())
    path = file(first + b"\x1e" + gzip.compress("\n".join(lines(15)).encode())[1:])
    assert command(path) == 1
    assert f"the gzip data is damaged at byte {len(first)}" in capsys.readouterr().err
    assert (len(lake_rows(14)), len(lake_rows(15))) == (3, 0)


def test_a_row_that_is_cut_off_is_not_written(file, command, capsys):
    complete = gzip.compress("\n".join([HEADER, *lines(16), ""]).encode(), compresslevel=0)
    assert command(file(complete[:-15])) == 1  # the last row ends in "489.0"
    error = capsys.readouterr().err
    assert f"the gzip data is truncated: it ends at byte {len(complete) - 15}" in error and error.count("\n") == 1
    assert len(lake_rows(16)) == 2
    assert command(file("\n".join([HEADER, *lines(16)]))) == 0
    assert len(lake_rows(16)) == 3
