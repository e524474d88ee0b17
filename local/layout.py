"""Where everything local lives: one folder, `.local/`, that `make clean ALL=1` removes.

What is installed there serves any stack of this checkout. Data, logs and ports belong to one stack: MINUTEMARK_STATE
names another folder for them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from pathlib import Path

from include.env_file import state_folder
from local.problems import Problem

ROOT = Path(__file__).resolve().parents[1]
LOCAL = ROOT / ".local"

TOOLS = LOCAL / "tools"
VENV = LOCAL / "venv"
SPARK_JARS = LOCAL / "jars"
STORE_JARS = LOCAL / "stores"
KAFKA_JARS = LOCAL / "kafka"
CONNECT_JARS = LOCAL / "connect"
STREAM_JARS = LOCAL / "stream"
REST_CATALOG_JARS = LOCAL / "rest_catalog"
MYSQL = LOCAL / "mysql"
SUPERSET = LOCAL / "superset"
JUPYTER = LOCAL / "jupyter"
TABLEAU = LOCAL / "tableau"
BIGQUERY = LOCAL / "bigquery"
DOCS = LOCAL / "docs"
INSTALLED = (
    TOOLS, VENV, SPARK_JARS, STORE_JARS, KAFKA_JARS, CONNECT_JARS, STREAM_JARS, REST_CATALOG_JARS, MYSQL, SUPERSET, JUPYTER,
    TABLEAU, BIGQUERY, DOCS,
)  # fmt: skip

STATE = state_folder()
DATA = STATE / "data"
AIRFLOW_HOME = STATE / "airflow"
LOGS = STATE / "logs"
RUN = STATE / "run"
ENV_FILE = STATE / "env"
PORTS_FILE = STATE / "ports"

# The kernel's limit for the path of a Unix socket, 107 bytes, less space for a suffix.
_SOCKET_PATH_LIMIT = 90


def socket_path(name: str, folder: Path) -> Path:
    """A path for a Unix socket in `folder`, or in a private temporary folder if that path would be too long."""
    path = folder / name
    if len(os.fsencode(path)) > _SOCKET_PATH_LIMIT:
        digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"minutemark-{os.getuid()}-{digest}"
        path = folder / name
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise Problem(str(folder), "it is not a folder of this user", "Remove it, or set TMPDIR to another folder.")
        folder.chmod(0o700)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
