"""The one folder that the DAG `minutemark_import` reads files from: users of Airflow choose the file, the worker opens it."""

from __future__ import annotations

import os
from pathlib import Path

from include.lake.csv_records import FileRefused

SETTING = "MINUTEMARK_IMPORT_ROOT"
_DEFAULT = Path(__file__).resolve().parents[2] / "data"


def import_root() -> Path:
    """MINUTEMARK_IMPORT_ROOT, or the project's `data/` folder."""
    return Path(os.environ.get(SETTING) or _DEFAULT).resolve()


def file_below_root(file: str) -> Path:
    """The regular file of that path, which is absolute or relative to the root. Raises FileRefused, which says nothing of
    files elsewhere, not even whether they exist: `..` and symbolic links that lead out of the root are followed first."""
    root = import_root()
    try:
        path = (root / file).resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, a NUL
        path = None
    if path is None or not path.is_relative_to(root):
        raise FileRefused(
            f"{file!r} is not below {root}, the only folder that this DAG reads. Put the file there, or set {SETTING} "
            "for the workers to the folder that has it. `make import` reads any file of its caller."
        )
    if not path.is_file():
        raise FileRefused(f"{path} is not a regular file. Put the file there, on each worker that may run the import.")
    return path
