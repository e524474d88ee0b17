"""Files of variables and secrets. They are written whole or not at all, and others can never read them."""

from __future__ import annotations

import os
import shlex
from pathlib import Path


def write_private(path: Path, text: str) -> None:
    """Replace `path` by `text`, mode 0600."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)


def read_variables(path: Path) -> dict[str, str]:
    """The variables of an env file, with or without `export`. A missing file has no variables."""
    found = {}
    if path.exists():
        for line in path.read_text().splitlines():
            line = line.strip().removeprefix("export ")
            name, separator, value = line.partition("=")
            if separator and not line.startswith("#"):
                words = shlex.split(value)
                found[name.strip()] = words[0] if words else ""
    return found
