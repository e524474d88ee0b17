"""Packages that plain set-up does not install. A measurement checks for them first, not after an hour of work."""

from __future__ import annotations

import sys
from importlib.util import find_spec

LAKEHOUSE = "duckdb", "pyarrow", "pyiceberg"
BIGQUERY = "google.cloud.bigquery", "google.oauth2"
PLOT = ("matplotlib",)
INSTALL_LAKEHOUSE = "make setup MINUTEMARK_LAKEHOUSE=local"
INSTALL_PLOT = ".local/tools/uv/bin/uv pip install --python .local/venv/bin/python -r bench/requirements.txt"


def require(modules: tuple[str, ...], command: str) -> None:
    """If any of these modules is missing, print the command that installs them and exit with status 2."""
    missing = [module for module in modules if not _is_installed(module)]
    if missing:
        print(f"Not installed: {', '.join(missing)}. Run `{command}`, then try again.", file=sys.stderr)
        raise SystemExit(2)


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False
