"""Opens a file that is compressed in one of several formats, or plain: its first bytes decide, whatever its name.

A file that cannot be read is refused with one line that says what it is and what to do instead. Reading is streamed:
no format needs the whole file in memory, and no codec needs a window of more than _MAX_MEMORY.
"""

from __future__ import annotations

import bz2
import contextlib
import io
import lzma
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from backports import zstd  # Python 3.14 has it as compression.zstd

from include.errors import MinutemarkError

PEEK = 256 * 1024  # bytes that can be looked at before they are read
_CHUNK = 128 * 1024
_MAX_MEMORY = 256 * 1024 * 1024
_MAX_LAYERS = 4
_MAX_LEFT_OUT = 1024 * 1024  # bytes of garbage after the end: more count as damage
_LONGEST_START = 16  # bytes by which a member is recognized
_MIN_DATA = 8  # bytes: fewer after the end are garbage, whatever they contain
_PLAIN_TEXT = re.compile(rb"[\0\t-\r\x1a -~]*")  # no member consists only of text
_NAMES_SHOWN = 5


class FileRefused(MinutemarkError):
    """A file that cannot be imported as it is; none of it was written."""


@dataclass(frozen=True)
class Damage:
    """Where a compressed file is damaged or truncated. The bytes before it are correct, as far as their checksums show."""

    problem: str
    layer: int  # from the outside in
    intact_bytes: int  # undamaged bytes of that layer's content


class FileDamaged(FileRefused):
    """A compressed file that is damaged or truncated."""

    def __init__(self, path: Path, damage: Damage) -> None:
        super().__init__(f"{path}: {damage.problem}. Fetch or compress it again.")
        self.damage = damage


@dataclass
class Compression:
    """How a file is compressed, from the outside in, and what follows its end."""

    layers: list[str] = field(default_factory=list)
    left_out: int = 0  # bytes after the end
    damage: Damage | None = None  # if known: the content ends there


@contextlib.contextmanager
def decompressed(
    path: Path, damage: Damage | None = None
) -> Iterator[tuple[io.BufferedReader, Compression, Callable[[], int]]]:
    """The content, how it is compressed, and a function that returns the reader's position in the compressed file.

    Raises FileRefused, or FileDamaged if the file is damaged. With the `damage` of an earlier FileDamaged, the content
    ends there instead.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise FileRefused(f"{path}: this is not a file. Name one file of CSV or JSON lines, compressed or not.")
        raw = path.open("rb", buffering=0)
    except (FileNotFoundError, NotADirectoryError):
        folder = path.absolute().parent
        raise FileRefused(f"{path}: file not found (looked in {folder}). Correct the path.") from None
    except OSError as error:
        raise FileRefused(
            f"{path}: it cannot be opened ({error.strerror}). Allow this user to read the file and access its folder."
        ) from error
    with contextlib.ExitStack() as stack:
        stack.enter_context(raw)
        compression = Compression(damage=damage)
        content: io.BufferedReader = io.BufferedReader(raw, PEEK)
        while inner := _decompress_layer(path, content, compression, stack):
            if len(compression.layers) > _MAX_LAYERS:
                raise FileRefused(f"{path}: it is compressed more than {_MAX_LAYERS} times. {_RECOMPRESS}")
            content = io.BufferedReader(inner, PEEK)
        yield content, compression, raw.tell


_RECOMPRESS = "Decompress it, and import the CSV or JSON lines file inside, plain or compressed with gzip."
_EXPORT = "Save it as CSV (UTF-8) or JSON lines, and import that."


def _decompress_layer(path: Path, content: io.BufferedReader, compression: Compression, stack) -> io.RawIOBase | None:
    """The content of the next layer, or None if `content` is the data itself."""
    head = content.peek()
    for codec in _CODECS:
        if codec.starts(head):
            compression.layers.append(codec.name)
            return _Members(path, content, codec, compression)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        if not content.seekable():
            raise FileRefused(f"{path}: it is a zip archive inside {compression.layers[-1]}. {_RECOMPRESS}")
        compression.layers.append("zip")
        return _open_archive(path, content, compression, stack)
    for what, starts, remedy in _UNREADABLE:
        if starts(head):
            inside = f" (inside {', '.join(compression.layers)})" if compression.layers else ""
            raise FileRefused(f"{path}: it is {what}{inside}, which cannot be imported. {remedy}")
    return None


class _Decompressor(Protocol):
    """The interface that the decompressors of bz2, lzma and zstd share."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Codec(NamedTuple):
    """A format of one or more members, one after the other."""

    name: str
    magic: bytes
    starts: Callable[[bytes], object]  # true if a member begins with these bytes
    member: Callable[[], _Decompressor]


class _GzipMember:
    """zlib's decompressor with the interface of those of bz2, lzma and zstd."""

    def __init__(self, wbits: int = 31) -> None:
        self._inner = zlib.decompressobj(wbits)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        content = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        # After a full output, more may follow, although all of the input is consumed.
        self.needs_input = not self._inner.unconsumed_tail and len(content) < max_length
        return content


def _is_zstd(head: bytes) -> bool:
    is_skippable = head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F  # pzstd writes such frames
    return head.startswith(b"\x28\xb5\x2f\xfd") or is_skippable


_CODECS = (
    _Codec("gzip", b"\x1f\x8b\x08", lambda head: head.startswith(b"\x1f\x8b\x08"), _GzipMember),
    _Codec("bzip2", b"BZh", re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)").match, bz2.BZ2Decompressor),
    _Codec(
        "xz",
        b"\xfd7zXZ\x00",
        lambda head: head.startswith(b"\xfd7zXZ\x00"),
        lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MAX_MEMORY),
    ),
    _Codec("zstd", b"\x28\xb5\x2f\xfd", _is_zstd, zstd.ZstdDecompressor),  # refuses windows beyond 128 MiB
)
_DAMAGED = (OSError, EOFError, ValueError, RuntimeError, zlib.error, lzma.LZMAError, zstd.ZstdError, zipfile.BadZipFile)


class _Layer(io.RawIOBase):
    """The content of a compressed file. Its errors are readable sentences, raised after the bytes that precede the damage."""

    def __init__(self, path: Path, compression: Compression) -> None:
        self._path, self._compression = path, compression
        self._layer = len(compression.layers) - 1
        self._name = compression.layers[-1]
        self._position = 0  # bytes of content
        self._error: FileRefused | None = None
        damage = compression.damage
        self._end = damage.intact_bytes if damage and damage.layer == self._layer else None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        view, size = memoryview(buffer), 0
        if self._end is not None:
            view = view[: self._end - self._position]
        try:
            while self._error is None and size < len(view) and (data := self._read_some(len(view) - size)):
                view[size : size + len(data)] = data
                size += len(data)
                self._position += len(data)
        except FileRefused as error:
            self._error = error
        except _DAMAGED as error:
            self._error = self._explain(error)
        if self._error and not size and self._compression.damage is None:
            raise self._error
        return size

    def _explain(self, error: Exception) -> FileRefused:
        if "memory" in str(error).lower():
            return FileRefused(
                f"{self._path}: it is {self._name} with a dictionary of more than {_MAX_MEMORY >> 20} MiB, or a window of "
                "more than 128 MiB. Compress it at a standard level."
            )
        return FileDamaged(self._path, self._damage(error))

    def _damage(self, error: Exception) -> Damage:
        """The damage. None of the member counts as intact: damage is detected only after the bytes that it changed."""
        problem = f"the {self._name} data is damaged ({str(error) or type(error).__name__})"
        return Damage(problem, self._layer, 0)

    def _read_some(self, limit: int) -> bytes:
        raise NotImplementedError


class _Truncated(EOFError):
    """The compressed bytes end in the middle of a member."""


class _NotAMember(ValueError):
    """Bytes after a member that are neither another member nor garbage."""


class _Members(_Layer):
    """All members of a compressed stream.

    What follows the last one is left out: zeros, which may also pad the members, and then text or fewer than _MIN_DATA
    bytes, which are counted.
    """

    def __init__(self, path: Path, compressed: io.BufferedReader, codec: _Codec, compression: Compression) -> None:
        super().__init__(path, compression)
        self._compressed, self._codec = compressed, codec
        self._member = codec.member()
        self._member_start = 0  # where the member begins in the compressed bytes
        self._intact_bytes = 0  # where it begins in the content
        self._taken = 0  # compressed bytes that were read
        self._ended = False

    def _read_some(self, limit: int) -> bytes:
        while not self._ended:
            data = b""
            if self._member.eof:
                data = self._next_member()
                if self._ended:
                    break
            elif self._member.needs_input:
                data = self._take()
                if not data:
                    raise _Truncated
            if content := self._member.decompress(data, limit):
                return content
        return b""

    def _take(self) -> bytes:
        data = self._compressed.read(_CHUNK)
        self._taken += len(data)
        return data

    def _damage(self, error: Exception) -> Damage:
        is_truncated = isinstance(error, _Truncated)
        problem = f"the {self._name} data is "
        if is_truncated:
            problem += f"truncated: it ends at byte {self._taken:,} in the middle of its data"
        elif isinstance(error, _NotAMember):
            problem += f"damaged at byte {self._member_start:,}: {error}"
        else:
            problem += (
                f"damaged in the part that begins at byte {self._member_start:,} ({str(error) or type(error).__name__})"
            )
        return Damage(problem, self._layer, self._position if is_truncated else self._intact_bytes)

    def _next_member(self) -> bytes:
        """The first bytes of the next member, which zeros may precede; empty after the last one."""
        rest = self._member.unused_data.lstrip(b"\0")
        while len(rest) < _LONGEST_START and (more := self._take()):
            rest = (rest + more).lstrip(b"\0")
        self._member_start, self._intact_bytes = self._taken - len(rest), self._position
        if rest and self._codec.starts(rest):
            self._member = self._codec.member()
            return rest
        magic = self._codec.magic
        if rest and rest[: len(magic)] == magic[: len(rest)]:  # the beginning of a truncated member
            raise _Truncated
        self._ended = True
        while rest:
            self._compression.left_out += len(rest)
            is_short = self._compression.left_out < _MIN_DATA
            if not is_short and not _PLAIN_TEXT.fullmatch(rest):
                raise _NotAMember(f"the bytes there are not {self._name}")
            if self._compression.left_out > _MAX_LEFT_OUT:
                raise _NotAMember(
                    f"more than {_MAX_LEFT_OUT >> 20} MiB of garbage follows the end of the compressed data"
                )
            rest = self._take()
        return b""


class _Member(_Layer):
    """The one file of a zip archive."""

    def __init__(self, path: Path, compression: Compression, member: IO[bytes]) -> None:
        super().__init__(path, compression)
        self._content = member

    def _read_some(self, limit: int) -> bytes:
        return self._content.read(limit)


class _TruncatedArchive(_Members):
    """The first file of a zip archive without the end record of its directory."""

    def __init__(self, path: Path, compressed: io.BufferedReader, compression: Compression) -> None:
        codec = _Codec("zip", b"PK\x03\x04", lambda head: False, lambda: _GzipMember(-zlib.MAX_WBITS))
        super().__init__(path, compressed, codec, compression)
        self._taken = compressed.tell()

    def _next_member(self) -> bytes:
        rest = self._member.unused_data + self._take()
        if self._codec.magic in rest[:_LONGEST_DESCRIPTOR]:
            raise FileRefused(
                f"{self._path}: it is a zip archive of several files that is damaged or truncated. {_RECOMPRESS}"
            )
        while self._take():
            pass
        raise _Truncated


# Files that macOS and Windows add to archives.
_SYSTEM_FILES = re.compile(r"(?:^|/)(?:__MACOSX/|\._[^/]*$|\.DS_Store$|Thumbs\.db$|desktop\.ini$)", re.IGNORECASE)
_LOCAL_HEADER = struct.Struct("<4s2xHH16xHH")  # magic, flags, method, lengths of name and extra field
_LONGEST_END = 22 + 65_535  # bytes: the record that ends a directory, and a comment
_LONGEST_DESCRIPTOR = 28  # bytes after a file of an archive, the magic of the next header included
_METHODS = {9: "Deflate64", 93: "zstd", 95: "xz", 97: "WavPack", 98: "PPMd", 99: "AES encryption"}


def _open_archive(
    path: Path, content: io.BufferedReader, compression: Compression, stack: contextlib.ExitStack
) -> _Layer:
    try:
        archive = stack.enter_context(zipfile.ZipFile(content))
    except (*_DAMAGED, NotImplementedError) as error:
        return _first_file_of_truncated_archive(path, content, compression, error)
    return _Member(path, compression, _only_member(path, archive, stack))


def _first_file_of_truncated_archive(
    path: Path, content: io.BufferedReader, compression: Compression, error: Exception
) -> _TruncatedArchive:
    """The first file of an archive without the end record of its directory. Raises FileRefused for any other damaged archive."""
    size = content.seek(0, io.SEEK_END)
    content.seek(max(0, size - _LONGEST_END))
    has_end = b"PK\x05\x06" in content.read()
    content.seek(0)
    head = content.read(_LOCAL_HEADER.size)
    if not has_end and len(head) == _LOCAL_HEADER.size and head.startswith(b"PK\x03\x04"):
        _, flags, method, name_size, extra_size = _LOCAL_HEADER.unpack(head)
        name = content.read(name_size).decode("utf-8", "replace")
        content.read(extra_size)
        if (
            method == zipfile.ZIP_DEFLATED
            and not flags & 1
            and not name.endswith("/")
            and not _SYSTEM_FILES.search(name)
        ):
            return _TruncatedArchive(path, content, compression)
    raise FileRefused(
        f"{path}: it is a zip archive that is damaged or truncated ({error}). Fetch or compress it again."
    )


def _only_member(path: Path, archive: zipfile.ZipFile, stack: contextlib.ExitStack) -> IO[bytes]:
    if "[Content_Types].xml" in archive.namelist():
        raise FileRefused(f"{path}: it is an Excel or other Office document, which cannot be imported. {_EXPORT}")
    files = [file for file in archive.infolist() if not file.is_dir() and not _SYSTEM_FILES.search(file.filename)]
    if len(files) != 1:
        names = ", ".join(file.filename for file in files[:_NAMES_SHOWN]) + (", …" if len(files) > _NAMES_SHOWN else "")
        raise FileRefused(
            f"{path}: it is a zip archive of {len(files)} files{': ' if files else ''}{names}. "
            "Compress a single file, or extract the archive and import each file."
        )
    (file,) = files
    if file.flag_bits & 1:
        raise FileRefused(f"{path}: it is a zip archive with a password. {_RECOMPRESS}")
    try:
        return stack.enter_context(archive.open(file))
    except NotImplementedError:
        method = _METHODS.get(file.compress_type, f"method {file.compress_type}")
        raise FileRefused(
            f"{path}: it is a zip archive compressed with {method}, which cannot be read. {_RECOMPRESS}"
        ) from None
    except _DAMAGED as error:
        raise FileRefused(
            f"{path}: it is a zip archive that is damaged or truncated ({error}). Fetch or compress it again."
        ) from error


def _magic(magic: bytes, offset: int = 0) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(magic, offset)


def _binary(magic: bytes) -> Callable[[bytes], bool]:
    """Recognizes magic bytes that are letters, with which the header of a CSV may also begin."""
    return lambda head: head.startswith(magic) and _CONTROL.search(head[:4096]) is not None


_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_UNREADABLE = (
    ("a tar archive", _magic(b"ustar", 257), _RECOMPRESS),
    ("a 7z archive", _magic(b"7z\xbc\xaf\x27\x1c"), _RECOMPRESS),
    ("a RAR archive", _magic(b"Rar!\x1a\x07"), _RECOMPRESS),
    ("compressed with lz4", _magic(b"\x04\x22\x4d\x18"), _RECOMPRESS),
    ("compressed with compress (.Z)", _magic(b"\x1f\x9d"), _RECOMPRESS),
    ("compressed with LZMA (.lzma)", _magic(b"\x5d\x00\x00"), _RECOMPRESS),
    ("compressed with lzip", _binary(b"LZIP"), _RECOMPRESS),
    ("compressed with lzop", _magic(b"\x89LZO\x00\r\n\x1a\n"), _RECOMPRESS),
    ("a zlib stream", re.compile(rb"\x78(?:\x01|\x9c|\xda)").match, _RECOMPRESS),
    ("compressed with Snappy", _magic(b"\xff\x06\x00\x00sNaPpY"), _RECOMPRESS),
    ("an encrypted file", _magic(b"Salted__"), "Decrypt it first."),
    (
        "a Git LFS pointer",
        _magic(b"version https://git-lfs.github.com/spec/"),
        "Fetch the file itself (git lfs pull).",
    ),
    ("a Parquet file", _binary(b"PAR1"), _EXPORT),
    ("an ORC file", _binary(b"ORC"), _EXPORT),
    ("an Avro file", _magic(b"Obj\x01"), _EXPORT),
    ("an Arrow file", _magic(b"ARROW1\x00"), _EXPORT),
    ("an HDF5 file", _magic(b"\x89HDF"), _EXPORT),
    ("an SQLite database", _magic(b"SQLite format 3\x00"), _EXPORT),
    ("an Excel or other Office document", _magic(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), _EXPORT),
    ("a PDF", _magic(b"%PDF-"), _EXPORT),
    ("an XML document", re.compile(rb"(?:\xef\xbb\xbf)?\s*<\?xml", re.IGNORECASE).match, _EXPORT),
    (
        "a web page",
        re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html)", re.IGNORECASE).match,
        "The download may have failed, or may need a login: open this file to see which, then download it again.",
    ),
)
