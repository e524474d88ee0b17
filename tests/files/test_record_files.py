"""Reading a CSV: a broken line costs only that line, and the file is checked before anything is written."""

import contextlib
import gzip
import io
import os
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from include.files import record_files as module
from include.files.file_format import format_from_options
from include.files.record_files import FileRefused, fingerprint, open_records
from include.files.survey import checked_fingerprint

HEADER = b"create_time,ev,ed\n"


NAMES = ("create_time", "ev", "ed")


def read(path, encoding="", form="", names=NAMES):
    with open_records(path, names, format_from_options(encoding, form)) as file:
        return [(record.line, record.end_line, record.problem or record.fields) for record in file.records()]


@pytest.fixture
def csv_file(tmp_path):
    def write(content: bytes, name="x.csv"):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


def test_a_file_in_a_folder_that_is_not_accessible_is_refused_with_its_remedy(csv_file):
    path = csv_file(HEADER)
    with contextlib.ExitStack() as stack:
        stack.callback(path.parent.chmod, 0o700)
        path.parent.chmod(0)
        if os.geteuid() == 0:  # root can access any folder
            stack.callback(os.seteuid, 0)
            os.seteuid(65534)
        with pytest.raises(
            FileRefused, match=r"Permission denied\). Allow this user to read the file and access its folder"
        ):
            checked_fingerprint(path)


def test_quoted_newlines_make_one_record_of_several_lines(csv_file):
    path = csv_file(HEADER + b'a,1,"{""x"":\n1}"\nb,2,\n')
    assert read(path) == [(2, 3, ["a", "1", '{"x":\n1}']), (4, 4, ["b", "2", ""])]


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (b"a,1\n", "2 fields, but the header has 3"),
        (b"a,1,2,3\n", "4 fields, but the header has 3"),
        (b'a,1,"x"y\n', "expected after"),  # text after a closing quote
        (b'a,1,"never closed\n', "expected after"),  # the next quote seems to close it
    ],
)
def test_a_broken_line_costs_that_line_only(csv_file, broken, problem):
    path = csv_file(HEADER + b"first,1,\n" + broken + b'next,1,"{""k"":1}"\nlast,1,\n')
    result = read(path)
    assert [fields[0] for _, _, fields in result if isinstance(fields, list)] == ["first", "next", "last"]
    ((line, end_line, message),) = [record for record in result if isinstance(record[2], str)]
    assert (line, end_line) == (3, 3)
    assert problem in message


def test_a_quote_that_is_never_closed_swallows_nothing(csv_file, monkeypatch):
    monkeypatch.setattr(module, "LONGEST_VALUE", 1_000)  # the reader gives up there, before the end of the file
    good = b"".join(b"%d,1,\n" % number for number in range(500))
    result = read(csv_file(HEADER + b'a,1,"open\n' + good))
    assert [fields[0] for _, _, fields in result if isinstance(fields, list)] == [str(number) for number in range(500)]


def test_an_unclosed_quote_at_the_end_is_one_broken_line(csv_file):
    result = read(csv_file(HEADER + b'a,1,"open\nb,2,\n'))
    assert [(line, type(message)) for line, _, message in result] == [(2, str), (3, list)]


def test_blank_lines_are_not_records(csv_file):
    assert [line for line, _, _ in read(csv_file(HEADER + b"\na,1,\n\r\n\nb,1,\n\n"))] == [3, 6]


@pytest.mark.parametrize("blank", [b"\n\r\n", b" \t\n", b"\r"])
def test_lines_of_white_space_are_not_records_before_and_after_the_header(csv_file, blank):
    lines = 1 if blank != b"\n\r\n" else 2
    result = read(csv_file(blank + HEADER + b"a,1,\n" + blank + b"b,1,\n"))
    assert [line for line, _, _ in result] == [lines + 2, lines * 2 + 3]
    assert read(csv_file(blank + b'{"ev":1}\n')) == [(lines + 1, lines + 1, ['{"ev":1}'])]


def test_nul_four_byte_characters_and_a_value_of_a_megabyte_are_fine(csv_file):
    path = csv_file(HEADER + "a,\x00,𝄞".encode() + b"x" * 1_000_000 + b"\n")
    ((_, _, fields),) = read(path)
    assert fields == ["a", "\x00", "𝄞" + "x" * 1_000_000]


def test_the_same_content_has_one_fingerprint_for_any_compression(csv_file, tmp_path):
    content = HEADER + b"a,1,\n"
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("x.csv", content)
    paths = csv_file(content), csv_file(gzip.compress(content), "x.csv.gz"), tmp_path / "x.zip"
    assert len({fingerprint(path) for path in paths}) == 1
    assert all(read(path) == [(2, 2, ["a", "1", ""])] for path in paths)


def test_a_byte_that_is_not_in_the_encoding_rejects_its_line(csv_file):
    path = csv_file(HEADER + b"a,1,ok\nb,1,caf\xe9\nc,1,caf\xc3\xa9\n")
    with open_records(path, NAMES) as file:
        first, bad, last = file.records()
    assert (first.fields, last.fields) == (["a", "1", "ok"], ["c", "1", "café"])
    assert (bad.line, bad.fields) == (3, ["b,1,caf\\xe9\n"])
    assert bad.problem.startswith("it has the byte e9, which is not UTF-8.")
    assert "set `encoding` (such as cp1252)" in bad.problem


def test_an_undecodable_byte_in_a_value_of_several_lines_rejects_the_whole_record(csv_file):
    result = read(csv_file(HEADER + b'a,1,"x\n\xe9"\nb,1,\n'))
    assert [(line, end_line) for line, end_line, _ in result] == [(2, 3), (4, 4)]
    assert "byte e9" in result[0][2]


def test_the_encoding_can_be_given(csv_file):
    path = csv_file(HEADER + b"b,1,caf\xe9\n")
    assert read(path, encoding="cp1252") == [(2, 2, ["b", "1", "café"])]


def test_an_unknown_encoding_is_refused():
    with pytest.raises(FileRefused, match="Encoding 'latin-x' is unknown"):
        format_from_options("latin-x")


def test_an_absent_file_is_reported(tmp_path):
    with pytest.raises(FileRefused, match=r"nope\.csv: file not found"):
        fingerprint(tmp_path / "nope.csv")
    with pytest.raises(FileRefused, match="this is not a file"):
        fingerprint(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"a,b,a\n", "names a column more than once"),
        (b"c" * 6_000_000, "longer than"),
    ],
)
def test_a_file_without_a_usable_header_is_refused(csv_file, content, message):
    with pytest.raises(FileRefused, match=message), open_records(csv_file(content), NAMES):
        pass


def test_columns_are_matched_in_any_case_and_with_spaces_and_others_keep_their_names(csv_file):
    with open_records(csv_file(b' Create_Time ,"EV", Mood\na,1,x\n'), NAMES) as file:
        assert file.header == ["create_time", "ev", "Mood"]


def test_an_exact_column_name_wins_over_one_in_another_case(csv_file):
    with open_records(csv_file(b"create_time,EV,ev\na,1,2\n"), NAMES) as file:
        assert file.header == ["create_time", "EV", "ev"]


@pytest.mark.parametrize("content", [b"create_time,ev,ed,,\na,1,x,,\n", b"create_time,ev,ed\na,1,x,,\n"])
def test_empty_trailing_columns_are_left_out(csv_file, content):
    assert read(csv_file(content)) == [(2, 2, ["a", "1", "x"])]


def test_a_column_without_a_name_is_left_out(csv_file):
    with open_records(csv_file(b",create_time,ev,ed\n0,a,1,x\n"), NAMES) as file:  # the index of a data frame
        assert file.header == list(NAMES)
        assert [record.fields for record in file.records()] == [["a", "1", "x"]]


@pytest.mark.parametrize("line", [b"\0" * 20_000, b"x" * 20_000, b'"' + b"x,\n" * 5_000, b"," * 20_000])
def test_a_line_that_is_too_long_is_one_broken_line_and_its_beginning_is_kept(csv_file, monkeypatch, line):
    monkeypatch.setattr(module, "LONGEST_RECORD", 10_000)
    monkeypatch.setattr(module, "_KEPT_CHARACTERS", 10)
    with open_records(csv_file(HEADER + b"a,1,\n" + line + b"\nb,1,\n"), NAMES) as file:
        records = list(file.records())
    assert [record.fields for record in records if record.fields[0] in ("a", "b")] == [["a", "1", ""], ["b", "1", ""]]
    assert "longer than 10000 characters" in records[1].problem
    assert len(records[1].fields[0]) <= 10
    assert records[-1].line == 4 + line.count(b"\n")


def test_a_line_of_zeros_takes_little_memory(csv_file):
    path = csv_file(HEADER + b"a,1,\n" + bytes(40_000_000) + b"\nb,1,\n")
    tracemalloc.start()
    try:
        records = read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [fields[0] for _, _, fields in records if fields[0] in ("a", "b")] == ["a", "b"] and len(records) == 3
    assert peak < 40_000_000, "The peak is less than the line, which as a str has a byte per character."


@pytest.mark.parametrize(("character", "encoding"), [("x", "utf-8"), ("中", "utf-8"), ("x", "utf-16"), ("x", "utf-32")])
def test_a_first_line_of_json_that_is_longer_than_a_sample_is_a_record(csv_file, character, encoding):
    line = '{"ed":"' + character * 300_000 + '"}'
    assert read(csv_file(line.encode(encoding))) == [(1, 1, [line])]


def test_each_json_line_is_a_record_with_one_field(csv_file):
    path = csv_file(b'{"ev":1}\r\n\n{"ev":2}')
    assert read(path) == [(1, 1, ['{"ev":1}']), (3, 3, ['{"ev":2}'])]


@pytest.mark.parametrize(
    ("content", "remedy"),
    [(b'[{"ev":1}]', "jq -c '.\\[\\]'"), (b'{\n"ev":1\n}\n', "jq -c ."), (b'{"ev":1}{"ev":2}\n', "jq -c .")],
)
def test_other_json_is_refused_with_the_command_that_makes_lines_of_it(csv_file, content, remedy):
    with pytest.raises(FileRefused, match=remedy), open_records(csv_file(content), NAMES):
        pass


_ODD_LINES = [
    "a,1,",
    "b,2,x",
    ' "b","2", "x"',
    "c,1",
    '"d,1,',
    'd",1,',
    "\0,,",
    "é,1,",
    "\udce9,1,",
    "e\\,1,",
    ",,",
    " ",
    "",
]
_LINE_ENDS = ["\n", "\n", "\n", "\r\n", "\r"]


@for_all(
    lines=st.lists(st.tuples(st.sampled_from(_ODD_LINES), st.sampled_from(_LINE_ENDS)), max_size=20),
    batch=st.integers(1, 4),
    piece=st.integers(3, 9),
    form=st.sampled_from(["csv,doubled", "csv,backslash", "jsonl"]),
    is_truncated=st.booleans(),
)
def test_lines_are_read_the_same_in_batches_in_pieces_and_one_by_one(lines, batch, piece, form, is_truncated):
    content = "create_time,ev,ed\n" + "".join(map("".join, lines))
    form = replace(format_from_options("utf-8", form), delimiter=",")

    def records():
        text = module._Lines(io.StringIO(content, newline=""), form, is_truncated=is_truncated)
        if form.is_json:
            return list(module._json_records(text))
        return list(module._records(text, form, module._header(Path("x"), text, form, NAMES)))

    with pytest.MonkeyPatch.context() as sizes:
        sizes.setattr(module, "_BATCH", 1_000)
        one_by_one = records()
        sizes.setattr(module, "_BATCH", batch)
        sizes.setattr(module, "_PIECE", piece)
        assert records() == one_by_one
