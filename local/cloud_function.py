"""`make cloud-function`: the source folder for `gcloud functions deploy`, with main.py, its requirements and include/."""

from __future__ import annotations

import shutil
from pathlib import Path

from local.layout import LOCAL, ROOT

FOLDER = ROOT / "include" / "bigquery" / "cloud_function"
SOURCE = LOCAL / "cloud_function"


def write_source(folder: Path = SOURCE) -> Path:
    """Write the folder, in place of an older one."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "include", folder / "include", ignore=shutil.ignore_patterns("__pycache__", "*.jar"))
    for name in ("main.py", "requirements.txt"):
        shutil.copy(FOLDER / name, folder)
    return folder
