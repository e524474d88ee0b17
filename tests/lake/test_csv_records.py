"""Reading a CSV: a broken line costs that line, and the file is judged before anything is written."""

import gzip
import zipfile

import pytest

from include.lake import csv_records as module
from include.lake.csv_records import FileRefused, csv_records, fingerprint

HEADER = b"create_time,ev,ed\n"


def read(path, after_line=0, encoding="utf-8"):
    with csv_records(path, encoding) as file:
        return [(record.line, record.end_line, record.problem or record.fields) for record in file.records(after_line)]


@pytest.fixture
def csv_file(tmp_path):
    def write(content: bytes, name="x.csv"):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


def test_quoted_newlines_make_one_record_of_several_lines(csv_file):
    path = csv_file(HEADER + b'a,1,"{""x"":\n1}"\nb,2,\n')
    assert read(path) == [(2, 3, ["a", "1", '{"x":\n1}']), (4, 4, ["b", "2", ""])]


def test_reading_goes_on_behind_a_line(csv_file):
    path = csv_file(HEADER + b'a,1,"x\ny"\nb,2,\nc,3,\n')
    assert [line for line, _, _ in read(path, after_line=3)] == [4, 5]


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (b"a,1\n", "2 fields, the header has 3"),
        (b"a,1,2,3\n", "4 fields, the header has 3"),
        (b'a,1,"x"y\n', "expected after"),  # text behind a closing quote
        (b'a,1,"never closed\n', "expected after"),  # the next quote seems to close it
    ],
)
def test_a_broken_line_costs_that_line_only(csv_file, broken, problem):
    path = csv_file(HEADER + b"first,1,\n" + broken + b'next,1,"{""k"":1}"\nlast,1,\n')
    found = read(path)
    assert [fields[0] for _, _, fields in found if isinstance(fields, list)] == ["first", "next", "last"]
    ((line, end_line, told),) = [record for record in found if isinstance(record[2], str)]
    assert (line, end_line) == (3, 3)
    assert problem in told


def test_a_quote_that_is_never_closed_swallows_nothing(csv_file, monkeypatch):
    monkeypatch.setattr(module, "LONGEST_VALUE", 1_000)  # where the reader gives up, with more file behind it
    good = b"".join(b"%d,1,\n" % number for number in range(500))
    found = read(csv_file(HEADER + b'a,1,"open\n' + good))
    assert [fields[0] for _, _, fields in found if isinstance(fields, list)] == [str(number) for number in range(500)]


def test_an_unclosed_quote_at_the_end_is_one_broken_line(csv_file):
    found = read(csv_file(HEADER + b'a,1,"open\nb,2,\n'))
    assert [(line, type(told)) for line, _, told in found] == [(2, str), (3, list)]


def test_blank_lines_are_no_records(csv_file):
    assert [line for line, _, _ in read(csv_file(HEADER + b"\na,1,\n\r\n\nb,1,\n\n"))] == [3, 6]


def test_nul_four_byte_characters_and_a_value_of_a_megabyte_are_fine(csv_file):
    path = csv_file(HEADER + "a,\x00,𝄞".encode() + b"x" * 1_000_000 + b"\n")
    ((_, _, fields),) = read(path)
    assert fields == ["a", "\x00", "𝄞" + "x" * 1_000_000]


def test_a_byte_order_mark_is_no_part_of_the_header(csv_file):
    with csv_records(csv_file(b"\xef\xbb\xbf" + HEADER + b"a,1,\n"), "utf-8") as file:
        assert file.header == ["create_time", "ev", "ed"]


def test_the_same_content_has_one_fingerprint_however_it_is_packed(csv_file, tmp_path):
    content = HEADER + b"a,1,\n"
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("x.csv", content)
    paths = csv_file(content), csv_file(gzip.compress(content), "x.csv.gz"), tmp_path / "x.zip"
    assert len({fingerprint(path, "utf-8") for path in paths}) == 1
    assert all(read(path) == [(2, 2, ["a", "1", ""])] for path in paths)


def test_another_encoding_is_told_with_line_and_remedy(csv_file):
    path = csv_file(HEADER + b"a,1,ok\nb,1,caf\xe9\n")
    with pytest.raises(FileRefused, match=r"line 3 is not utf-8 \(bytes e9 0a\).*iconv"):
        fingerprint(path, "utf-8")
    fingerprint(path, "cp1252")
    assert read(path, encoding="cp1252")[-1][2] == ["b", "1", "café"]


def test_an_unknown_encoding_is_told(csv_file):
    with pytest.raises(FileRefused, match="no encoding 'latin-x'"):
        fingerprint(csv_file(HEADER), "latin-x")


def test_an_absent_file_is_told(tmp_path):
    with pytest.raises(FileRefused, match=r"nope\.csv: there is no such file"):
        fingerprint(tmp_path / "nope.csv", "utf-8")
    with pytest.raises(FileRefused, match="this is not a file"):
        fingerprint(tmp_path, "utf-8")


def test_a_damaged_archive_is_told(csv_file):
    whole = gzip.compress(HEADER * 1_000)
    with pytest.raises(FileRefused, match="cannot be unpacked"):
        fingerprint(csv_file(whole[: len(whole) // 2], "x.csv.gz"), "utf-8")


@pytest.mark.parametrize(
    ("content", "told"), [(b"", "empty"), (b"\n\n", "empty"), (b"a,b,a\n", "names a more than once")]
)
def test_a_file_without_a_usable_header_is_told(csv_file, content, told):
    with pytest.raises(FileRefused, match=told), csv_records(csv_file(content), "utf-8"):
        pass
