"""A copy of the project's sources, for what must change a source to see what comes of it."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOT_COPIED = (".git", ".local", ".venv", "__pycache__", ".pytest_cache", ".ruff_cache", "logs")


def copy_to(folder: Path) -> Path:
    """Copy the sources to a new folder; returns it."""
    return Path(shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_COPIED)))
