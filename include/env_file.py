"""`.local/env`, which `make run` and `make services` write: the connections of this machine's stores, for every command."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from include.connections import IDS, variable

ROOT = Path(__file__).resolve().parents[1]
METADATA = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"


def state_folder() -> Path:
    """The folder of one stack's data, logs, ports and env file."""
    return Path(os.environ.get("MINUTEMARK_STATE") or ROOT / ".local").absolute()


def read(path: Path) -> dict[str, str]:
    """The variables of an env file, with or without `export`. A missing file has no variables."""
    result = {}
    if path.exists():
        for line in path.read_text().splitlines():
            line = line.strip().removeprefix("export ")
            name, separator, value = line.partition("=")
            if separator and not line.startswith("#"):
                words = shlex.split(value)
                result[name.strip()] = words[0] if words else ""
    return result


def use(variables: Mapping[str, str]) -> None:
    """Set these variables in this process, and unset METADATA and the project's other connections."""
    for name in (METADATA, *map(variable, IDS)):
        os.environ.pop(name, None)
    os.environ.update({name: value for name, value in variables.items() if name != METADATA})
