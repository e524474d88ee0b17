"""Sources, state, ports and settings of a stack that shares only installed packages: for tests, benchmarks, `make cluster`.

Nothing of the project is imported at the top: a module imported before the copy exists would not come from the copy.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOT_COPIED = (".git", ".local", ".venv", "__pycache__", ".pytest_cache", ".ruff_cache", "logs")
WAREHOUSE = "MINUTEMARK_WAREHOUSE"
_KEPT = (WAREHOUSE, "MINUTEMARK_SCHEDULE")


def copy_to(folder: Path) -> Path:
    """Copy the project's sources to a new folder; returns it."""
    return Path(shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_COPIED)))


def work_in_copy(project: Path) -> None:
    """Import the project from a copy from now on: later edits have no effect."""
    copy_to(project)
    (project / ".local").symlink_to(ROOT / ".local")
    os.chdir(project)
    sys.path[0] = str(project)  # -m puts the current folder there
    _forget_local()


def isolate(folder: Path) -> Path:
    """Give this process a separate state, temporary files and ports, without the connections that the shell has set.

    Returns the folder of the state.
    """
    from local import ports  # not at the top: from the copy, if there is one
    from local.process import free_port

    for name in [name for name in os.environ if name.startswith(("AIRFLOW", "MINUTEMARK_")) and name not in _KEPT]:
        del os.environ[name]
    (folder / "tmp").mkdir()
    os.environ |= {name: str(free_port()) for name in ports.DEFAULTS}
    os.environ |= {"MINUTEMARK_STATE": str(folder / "state"), "TMPDIR": str(folder / "tmp"), "MINUTEMARK_DEMO": "0"}
    tempfile.tempdir = None  # read again from TMPDIR
    _forget_local()
    return folder / "state"


def _forget_local() -> None:
    """Have `local` imported again: its modules have read the environment and the project's folder."""
    for module in [name for name in sys.modules if name.partition(".")[0] == "local"]:
        del sys.modules[module]
