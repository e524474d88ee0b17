"""A file's first bytes decide its format, not its name; an unreadable file is refused in one line with a remedy."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib

import pytest
from backports import zstd

from include.files.record_files import FileRefused, fingerprint, open_records

CSV = b"create_time,ed\na,x\nb,y\n"


def compress_as_zstd_command(content: bytes) -> bytes:
    return zstd.compress(content, options={zstd.CompressionParameter.checksum_flag: 1})


CODECS = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": compress_as_zstd_command}


@pytest.fixture
def read_compressed(tmp_path):
    """Read a file with this content; return the format, the rows, and how many bytes after the end were left out."""

    def read(content: bytes):
        path = tmp_path / "file.csv"
        path.write_bytes(content)
        assert fingerprint(path).damage is None
        with open_records(path, ("create_time", "ed")) as file:
            rows = [record.fields for record in file.records()]
            return file.description.removesuffix(", UTF-8, CSV with commas"), rows, file.compression.left_out

    return read


def zipped(files: dict[str, bytes], method=zipfile.ZIP_DEFLATED) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", method) as writer:
        for name, content in files.items():
            writer.writestr(name, content)
    return archive.getvalue()


ROWS = [["a", "x"], ["b", "y"]]


@pytest.mark.parametrize("codec", CODECS)
def test_each_compression_is_recognized(read_compressed, codec):
    assert read_compressed(CODECS[codec](CSV)) == (codec, ROWS, 0)


@pytest.mark.parametrize("codec", CODECS)
def test_all_members_are_read(read_compressed, codec):
    compress = CODECS[codec]
    assert read_compressed(compress(CSV[:10]) + compress(b"") + compress(CSV[10:])) == (codec, ROWS, 0)


@pytest.mark.parametrize("codec", CODECS)
def test_bytes_after_the_end_are_left_out_and_counted(read_compressed, codec):
    assert read_compressed(CODECS[codec](CSV) + b"\0\0\0\0garbage") == (codec, ROWS, 7)


@pytest.fixture
def read_damaged(tmp_path):
    """Read a damaged file with this content; return its rows and the reported damage."""

    def read(content: bytes):
        path = tmp_path / "file.csv"
        path.write_bytes(content)
        damage = fingerprint(path).damage
        with open_records(path, ("create_time", "ed"), damage=damage) as file:
            return [record.fields for record in file.records()], damage.problem

    return read


def numbered(first: int, rows: int) -> bytes:
    return b"".join(b"%d,%x\n" % (number, number**5) for number in range(first, first + rows))


def flipped(data: bytes, at: int, size: int = 8) -> bytes:
    return data[:at] + bytes(byte ^ 0xFF for byte in data[at : at + size]) + data[at + size :]


FIRST, LATER = CSV + numbered(0, 2_998), numbered(3_000, 3_000)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "garbage",
    [b"\r\n", b"\0" * 5_000, b"-- end of part --\r\n", b"\0\xff\xfe\x01"],
    ids=["line", "zeros", "text", "few"],
)
def test_garbage_after_the_end_is_not_damage(read_compressed, codec, garbage):
    assert read_compressed(CODECS[codec](CSV) + garbage)[:2] == (codec, ROWS)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    ("at", "size"), [(0, 1), (0, 3), (1, 2), (0, 64), (2_000, 8), (-6, 4)], ids=lambda value: str(value)
)
def test_a_later_member_that_is_damaged_costs_only_its_own_rows(read_damaged, codec, at, size):
    compress = CODECS[codec]
    first, later = compress(FIRST), compress(LATER)
    at %= len(later)
    rows, problem = read_damaged(first + flipped(later, at, size) + compress(b"9,x\n"))
    assert len(rows) == 3_000
    assert problem.startswith(f"the {codec} data is damaged ")
    assert f"at byte {len(first):,}" in problem


@pytest.mark.parametrize("codec", CODECS)
def test_a_first_member_that_is_damaged_is_refused(read_compressed, codec):
    data = CODECS[codec](FIRST)
    with pytest.raises(FileRefused, match=f"the {codec} data is damaged in the part that begins at byte 0"):
        read_compressed(flipped(data, len(data) // 2, 20) + CODECS[codec](LATER))


@pytest.mark.parametrize("codec", CODECS)
def test_a_truncated_file_is_read_up_to_the_cut(read_damaged, codec):
    data = CODECS[codec](FIRST) + CODECS[codec](LATER)
    rows, problem = read_damaged(data[:-5])
    assert 3_000 <= len(rows) <= 6_000
    assert rows[2:] == [[str(number), f"{number**5:x}"] for number in [*range(2_998), *range(3_000, len(rows))]]
    assert problem == f"the {codec} data is truncated: it ends at byte {len(data) - 5:,} in the middle of its data"


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("left", [1, 2, 3, 6, 9, 10])
def test_a_later_member_of_a_few_bytes_is_reported_as_truncated(read_damaged, codec, left):
    rows, problem = read_damaged(CODECS[codec](FIRST) + CODECS[codec](LATER)[:left])
    assert len(rows) == 3_000 and "truncated" in problem


@pytest.mark.parametrize("codec", ["gzip", "xz", "zip"])
def test_a_first_member_that_is_cut_off_gives_its_complete_lines(read_damaged, codec):
    """The truncated line is not a row: its last value may be incomplete."""
    content = CSV + numbered(0, 100_000)
    data = zipped({"x.csv": content}) if codec == "zip" else CODECS[codec](content)
    rows, problem = read_damaged(data[: len(data) // 2])
    assert 10_000 < len(rows) < 90_000
    assert rows[2:] == [[str(number), f"{number**5:x}"] for number in range(len(rows) - 2)]
    assert problem == f"the {codec} data is truncated: it ends at byte {len(data) // 2:,} in the middle of its data"


def test_a_zip_without_its_directory_is_read(read_damaged):
    rows, problem = read_damaged(zipped({"x.csv": CSV})[:-30])
    assert rows == ROWS and "the zip data is truncated" in problem


@pytest.mark.parametrize("files", [{"a.csv": CSV, "b.csv": CSV}, {"__MACOSX/._x.csv": CSV, "x.csv": CSV}])
def test_a_zip_of_several_files_without_its_directory_is_refused(read_compressed, files):
    with pytest.raises(FileRefused, match="zip archive.*damaged or truncated"):
        read_compressed(zipped(files)[:-30])


def test_a_zip_that_is_damaged_is_refused(read_compressed):
    data = zipped({"x.csv": FIRST})
    with pytest.raises(FileRefused, match="the zip data is damaged"):
        read_compressed(flipped(data, len(data) // 2))
    without_some_bytes = data[: len(data) // 2] + data[len(data) // 2 + 30 :]
    with pytest.raises(FileRefused, match="a zip archive that is damaged"):
        read_compressed(without_some_bytes)


def test_damage_to_the_outer_of_two_compressions_ends_the_inner(read_damaged):
    inner = gzip.compress(FIRST)
    first = gzip.compress(inner[:5_000])
    rows, problem = read_damaged(first + flipped(gzip.compress(inner[5_000:]), 1))
    assert rows[:2] == ROWS and 100 < len(rows) < 3_000
    assert problem == f"the gzip data is damaged at byte {len(first):,}: the bytes there are not gzip"


@pytest.mark.parametrize("codec", CODECS)
def test_many_bytes_after_the_end_are_damage_not_garbage(read_damaged, codec):
    rows, problem = read_damaged(CODECS[codec](CSV) + b"x" * 2_000_000)
    assert rows == ROWS and "more than 1 MiB of garbage follows the end of the compressed data" in problem


def test_a_dictionary_that_would_take_all_memory_is_refused(read_compressed):
    huge = lzma.compress(CSV, filters=[{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": 1 << 30}])
    with pytest.raises(FileRefused, match="it is xz with a dictionary of more than 256 MiB"):
        read_compressed(huge)


def test_the_fingerprint_is_the_same_for_any_compression(tmp_path):
    fingerprints = set()
    for number, content in enumerate([CSV, *(compress(CSV) for compress in CODECS.values()), zipped({"x.csv": CSV})]):
        (tmp_path / str(number)).write_bytes(content)
        fingerprints.add(fingerprint(tmp_path / str(number)))
    assert len(fingerprints) == 1


def test_files_that_macos_and_windows_add_to_a_zip_are_ignored(read_compressed):
    extras = ("__MACOSX/._x.csv", ".DS_Store", "data/.DS_Store", "data/Thumbs.db", "desktop.ini", "data/")
    assert read_compressed(zipped({"data/x.csv": CSV} | dict.fromkeys(extras, b"?"))) == ("zip", ROWS, 0)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_of_any_supported_method_is_read(read_compressed, method):
    assert read_compressed(zipped({"x.csv": CSV}, method)) == ("zip", ROWS, 0)


def test_a_compressed_file_in_a_zip_is_decompressed_too(read_compressed):
    assert read_compressed(zipped({"x.csv.gz": gzip.compress(CSV)})) == ("zip, gzip", ROWS, 0)


@pytest.mark.parametrize("files", [{}, {"a.csv": CSV, "b.csv": CSV}])
def test_a_zip_must_hold_exactly_one_file(read_compressed, files):
    with pytest.raises(FileRefused, match=f"a zip archive of {len(files)} files"):
        read_compressed(zipped(files))


@pytest.mark.parametrize(
    ("flags", "method", "message"),
    [(1, 8, "with a password"), (0, 9, "compressed with Deflate64"), (0, 98, "compressed with PPMd")],
)
def test_a_zip_that_cannot_be_read_is_refused_with_advice_on_compressing_it(read_compressed, flags, method, message):
    archive = bytearray(zipped({"x.csv": CSV}))
    for place in (6, archive.index(b"PK\x01\x02") + 8):  # the local header's and the directory's flags and method
        archive[place] |= flags
        archive[place + 2] = method
    with pytest.raises(FileRefused, match=f"{message}.*compressed with gzip"):
        read_compressed(bytes(archive))


def tar() -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as writer:
        member = tarfile.TarInfo("x.csv")
        member.size = len(CSV)
        writer.addfile(member, io.BytesIO(CSV))
    return archive.getvalue()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (tar(), "a tar archive"),
        (gzip.compress(tar()), r"a tar archive \(inside gzip\)"),
        (gzip.compress(zipped({"x.csv": CSV})), "a zip archive inside gzip"),
        (zipped({"[Content_Types].xml": b"", "xl/workbook.xml": b""}), "an Excel or other Office document"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "an Excel or other Office document"),
        (b"7z\xbc\xaf\x27\x1c\0\x04", "a 7z archive"),
        (b"Rar!\x1a\x07\x01\0", "a RAR archive"),
        (b"PAR1\x15\x04", "a Parquet file"),
        (b"ORC\n\x0b\n\x03\0", "an ORC file"),
        (b"Obj\x01\x04", "an Avro file"),
        (b"%PDF-1.7\n", "a PDF"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"\x04\x22\x4d\x18\x64", "compressed with lz4"),
        (b"LZIP\x01\x0c" + bytes(9), "compressed with lzip"),
        (b"\x89LZO\0\r\n\x1a\n\x10", "compressed with lzop"),
        (zlib.compress(CSV), "a zlib stream"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d", "a Git LFS pointer"),
        (b"<!DOCTYPE html>\n<html>", "a web page"),
        (b'<?xml version="1.0"?>', "an XML document"),
    ],
)
def test_other_kinds_of_file_are_refused_by_name_in_one_line(read_compressed, content, what):
    with pytest.raises(FileRefused, match=f"it is {what}") as refused:
        read_compressed(content)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("first", [b"ORCID", b"PAR1", b"BZh9", b"PK", b"LZIP", b"x", b"version https"])
def test_a_header_that_begins_like_a_binary_format_is_read_as_text(read_compressed, first):
    content = first + b",create_time\n1,a\n"
    assert read_compressed(content)[1] == [["1", "a"]]
