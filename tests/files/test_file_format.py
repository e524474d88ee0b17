"""Recognizing a file: its encoding by the byte order mark, its dialect by the known columns and the fewest broken records."""

import codecs

import pytest

from include.files.file_format import format_from_options
from include.files.record_files import FileRefused, open_records

NAMES = ("create_time", "job_id", "ed")


@pytest.fixture
def read(tmp_path):
    """Read a file with this content; return the recognized format, and the cells or the problem of each record."""

    def read_content(content: bytes, encoding: str = "", form: str = ""):
        path = tmp_path / "file"
        path.write_bytes(content)
        with open_records(path, NAMES, format_from_options(encoding, form)) as file:
            return file.description, [record.problem or record.fields for record in file.records()]

    return read_content


@pytest.mark.parametrize(("delimiter", "name"), [(",", "commas"), (";", "semicolons"), ("\t", "tabs"), ("|", "pipes")])
def test_the_delimiter_is_the_one_that_splits_the_header_into_known_columns(read, delimiter, name):
    lines = delimiter.join(NAMES) + "\n" + delimiter.join(["a", "1", '"x,y;z|t\tu"'])
    assert read(lines.encode()) == (f"UTF-8, CSV with {name}", [["a", "1", "x,y;z|t\tu"]])


def test_known_columns_count_more_than_many_columns(read):
    description, rows = read(b"create_time;job_id;a,b,c,d,e,f\nx;1;2\n")
    assert (description, rows) == ("UTF-8, CSV with semicolons", [["x", "1", "2"]])


def test_excels_first_line_names_the_delimiter_and_is_not_the_header(read):
    assert read(b"sep=;\r\ncreate_time;ed\r\na;x\r\n") == ("UTF-8, CSV with semicolons", [["a", "x"]])


def test_a_space_after_the_delimiter_is_not_part_of_the_value(read):
    _, rows = read(b'"create_time", "ed"\na, "x, y"\n')
    assert rows == [["a", "x, y"]]


def test_quotes_escaped_by_a_backslash_are_recognized(read):
    description, rows = read(b'create_time,ed\na,"{\\"k\\":\\"v, w\\"}"\n')
    assert (description, rows) == ("UTF-8, CSV with commas, quotes escaped by a backslash", [["a", '{"k":"v, w"}']])


@pytest.mark.parametrize(
    ("written", "means"),
    [
        (rb"\N", r"\N"),  # the null of such files
        (rb'"x\ny"', r"x\ny"),
        (rb'"x\\\"y"', r"x\"y"),
        (b'""', ""),
        (rb'"\\"', "\\"),
    ],
)
def test_a_backslash_that_escapes_nothing_is_kept(read, written, means):
    _, (_, row) = read(b'create_time,ed\na,"\\"quoted\\""\nb,' + written + b"\n")
    assert row == ["b", means]


@pytest.mark.parametrize(
    ("written", "means"),
    [(rb'"{""t"":""say \""hi\""""}"', r'{"t":"say \"hi\""}'), (rb'"C:\"', "C:\\"), (rb"\N", r"\N")],
)
def test_a_backslash_in_a_file_of_doubled_quotes_is_a_character(read, written, means):
    description, rows = read(b"create_time,ed,job_id\na," + written + b",1\n")
    assert (description, rows) == ("UTF-8, CSV with commas", [["a", means, "1"]])


def test_the_error_for_a_later_line_of_the_other_dialect_names_the_format_to_set(read):
    content = b"create_time,ed\n" + b"a,x\n" * 70_000 + b'a,"{\\"k\\":1}"\n'
    assert "`format` to backslash" in read(content)[1][-1]
    assert read(content, form="backslash")[1][-1] == ["a", '{"k":1}']


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
    ],
)
@pytest.mark.parametrize("given_encoding", ["", "cp1252"])
def test_a_byte_order_mark_gives_the_encoding_and_is_not_part_of_the_header(read, mark, encoding, given_encoding):
    description, rows = read(mark + "create_time,ed\na,ü𝄞\n".encode(encoding), given_encoding)
    assert (description, rows) == (f"{encoding.upper()}, CSV with commas", [["a", "ü𝄞"]])


def test_a_byte_that_is_missing_in_utf_16_is_a_problem_of_its_line(read):
    content = codecs.BOM_UTF16_LE + "create_time,ed\na,x\nb,y".encode("utf-16-le")
    _, (good, bad) = read(content[:-1])
    assert good == ["a", "x"]
    assert "the byte 79, which is not UTF-16-LE" in bad


def test_utf_16_without_a_mark_is_refused_with_the_encoding_to_set(read):
    content = "create_time,ed\na,x\n".encode("utf-16-le")
    with pytest.raises(FileRefused, match="`encoding` to utf-16-le"):
        read(content)
    assert read(content, "utf-16-le")[1] == [["a", "x"]]


def test_json_lines_are_recognized(read):
    assert read(codecs.BOM_UTF8 + b'{"ed":1}\n') == ("UTF-8, JSON lines", [['{"ed":1}']])


def test_the_format_can_be_forced(read):
    description, rows = read(b"create_time;ed,x\na;b,c\n", form="csv,comma,doubled")
    assert (description, rows) == ("UTF-8, CSV with commas", [["a;b", "c"]])


def test_an_unknown_format_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(FileRefused, match="csv, jsonl, comma, semicolon, tab, pipe, doubled, backslash"):
        format_from_options(words="excel")


@pytest.mark.parametrize("encoding", ["base64", "rot13", "idna", "punycode", "undefined"])
def test_an_encoding_that_a_file_cannot_have_is_refused(encoding):
    with pytest.raises(FileRefused, match=f"Encoding '{encoding}' is unknown"):
        format_from_options(encoding)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_an_encoding_that_needs_a_byte_order_mark_is_refused_without_one(tmp_path, encoding):
    path = tmp_path / "x"
    path.write_bytes("create_time,ev\na,1\n".encode(f"{encoding}-le"))
    with (
        pytest.raises(FileRefused, match=f"Set `encoding` to {encoding}-le"),
        open_records(path, NAMES, format_from_options(encoding)),
    ):
        pass
