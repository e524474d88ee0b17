"""Sources, state, ports and settings of a stack that shares nothing with others. Nothing of the project is imported at the
top: what is imported before there is a copy stays the original."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from tests import project_copy

PORTS = (
    "AIRFLOW_PORT",
    "CASSANDRA_PORT",
    "CASSANDRA_STORAGE_PORT",
    "MARIADB_PORT",
    "POSTGRES_PORT",
    "KAFKA_PORT",
    "KAFKA_CONTROLLER_PORT",
    "SUPERSET_PORT",
    "JUPYTER_PORT",
    "BIGQUERY_PORT",
)
WAREHOUSE = "MINUTEMARK_WAREHOUSE"
_KEPT = (WAREHOUSE, "MINUTEMARK_SCHEDULE")


def work_in_copy(project: Path) -> None:
    """Import the project from a copy from now on: edits made meanwhile have no effect."""
    project_copy.copy_to(project)
    (project / ".local").symlink_to(project_copy.ROOT / ".local")
    os.chdir(project)
    sys.path[0] = str(project)  # -m puts the current folder there


def isolate(folder: Path) -> Path:
    """State, temporary files and ports of our own; connections are this stack's, whatever the shell has set.

    Returns the folder of the state.
    """
    from local.process import free_port  # of the copy, where there is one

    for name in [name for name in os.environ if name.startswith(("AIRFLOW", "MINUTEMARK_")) and name not in _KEPT]:
        del os.environ[name]
    (folder / "tmp").mkdir()
    os.environ |= {name: str(free_port()) for name in PORTS}
    os.environ |= {"MINUTEMARK_STATE": str(folder / "state"), "TMPDIR": str(folder / "tmp"), "MINUTEMARK_DEMO": "0"}
    tempfile.tempdir = None  # read again from TMPDIR
    for module in [name for name in sys.modules if name.startswith("local.")]:
        del sys.modules[module]  # what has read the environment reads it again
    return folder / "state"
