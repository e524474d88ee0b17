"""The only folder from which the DAG `minutemark_import` reads: users of Airflow choose a file, and the worker opens it.

A file is opened once, and all its readers get that open file: its name may mean another file a moment later.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from include.files.record_files import FileRefused

SETTING = "MINUTEMARK_IMPORT_ROOT"
_DEFAULT = Path(__file__).resolve().parents[2] / "data"
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # O_NONBLOCK: opening a pipe must not wait for its writer


class OpenedFile:
    """An open file with the methods of Path that readers use. It has no `__fspath__`: nothing can open it by its name."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.name = path.name
        self._path, self._descriptor = path, descriptor

    def __str__(self) -> str:
        return str(self._path)

    def stat(self) -> os.stat_result:
        return os.fstat(self._descriptor)

    def open(self, mode: str, buffering: int = -1) -> IO[bytes]:
        """Open the file at its beginning. Readers share one position: each starts after the previous one has ended."""
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        return os.fdopen(os.dup(self._descriptor), mode, buffering)


def import_root() -> Path:
    """MINUTEMARK_IMPORT_ROOT, or the project's `data/` folder."""
    return Path(os.environ.get(SETTING) or _DEFAULT).resolve()


@contextlib.contextmanager
def file_under_root(file: str) -> Iterator[OpenedFile]:
    """Open the regular file at that path, which is absolute or relative to the root.

    `..` and symbolic links are resolved first. Raises FileRefused, whose message does not reveal whether a file outside the
    root exists.
    """
    root = import_root()
    try:
        path = (root / file).resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, a NUL
        path = None
    if path is None or not path.is_relative_to(root):
        raise FileRefused(
            f"{file!r} is not in {root}, the only folder that this DAG reads. Put the file there, or set {SETTING} "
            "for the workers to the folder that has it. `./minutemark import` reads any file that its user can read."
        )
    with contextlib.ExitStack() as stack:
        try:
            descriptor = _open_below(root, path.relative_to(root).parts, stack)
            status = os.fstat(descriptor)
        except OSError as error:
            raise FileRefused(
                f"{path} is not a regular file that can be opened ({error.strerror}). {_REMEDY}"
            ) from None
        if not stat.S_ISREG(status.st_mode):
            raise FileRefused(f"{path} is not a regular file. {_REMEDY}")
        if status.st_nlink > 1:  # under its other name it may be a file that is not for the users of the DAG
            raise FileRefused(f"{path} is a hard link: the file has {status.st_nlink} names. Replace it with a copy.")
        yield OpenedFile(path, descriptor)


_REMEDY = "Put a regular file at that path, on each worker that can run the import."


def _open_below(root: Path, parts: tuple[str, ...], stack: contextlib.ExitStack) -> int:
    """Open the file under the root, folder by folder; returns its descriptor.

    Raises OSError if a part is a symbolic link: the path was resolved, so the link is newer.
    """
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    stack.callback(os.close, descriptor)
    for number, part in enumerate(parts, 1):
        descriptor = os.open(part, _FILE_FLAGS if number == len(parts) else _FOLDER_FLAGS, dir_fd=descriptor)
        stack.callback(os.close, descriptor)
    return descriptor
