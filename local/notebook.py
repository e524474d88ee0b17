"""`make notebook`: JupyterLab with the notebooks of notebooks/, on the stores of a running stack, until Ctrl-C.

It has a separate Python environment. The only connections in its environment variables are the two
read-only ones. To open JupyterLab, users need the token that it creates and prints.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path

from include.connections import LAKE_READER, WAREHOUSE_BI
from local import bootstrap, connections, environment, ports, supervisor
from local.layout import DATA, JUPYTER, ROOT, SPARK_JARS, socket_path
from local.problems import Problem
from local.progress import say

FOLDER = ROOT / "notebooks"
LOCK = FOLDER / "requirements.lock"
HOME = DATA / "jupyter"
READERS = (LAKE_READER, WAREHOUSE_BI)
NOT_INHERITED = ("MINUTEMARK_", "AIRFLOW", "PYTHON", "PYSPARK", "SPARK", "JUPYTER", "IPYTHON")


def start() -> None:
    """Replace this process with JupyterLab. Raises Problem."""
    if not supervisor.running():
        raise Problem("make notebook", "the stack is not running", "Run `make run` or `make services` first.")
    bootstrap.install_separately(
        JUPYTER, LOCK, "JupyterLab's environment", "about 100 packages; takes a minute the first time"
    )
    chosen = ports.chosen()
    ports.require_free(chosen, ("JUPYTER_PORT",))
    ports.save(chosen)
    HOME.mkdir(mode=0o700, parents=True, exist_ok=True)
    say("   Open the URL with the token. Ctrl-C stops JupyterLab and its Spark session.")
    line = command(chosen["JUPYTER_PORT"])
    os.chdir(FOLDER)
    os.execve(line[0], line, jupyter_environment(environment.read()))


def runtime() -> Path:
    """The private folder of JupyterLab's token and of its kernels' sockets."""
    return socket_path(f"kernel-{uuid.UUID(int=0)}-ipc-9", HOME / "run").parent


def command(port: int) -> list[str]:
    """The command that starts JupyterLab; it contains no secrets."""
    options = [f"--config={FOLDER / 'jupyter_server_config.py'}", f"--ServerApp.port={port}"]
    return [str(JUPYTER / "venv" / "bin" / "jupyter-lab"), *options]


def jupyter_environment(known: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What JupyterLab and its kernels see: the project, Java, and the read-only connections of `known`."""
    kept = {name: value for name, value in environ.items() if not name.startswith(NOT_INHERITED)}
    readers = {connections.variable(conn_id): known[connections.variable(conn_id)] for conn_id in READERS}
    return {
        **kept,
        **readers,
        **({"JAVA_HOME": known["JAVA_HOME"]} if "JAVA_HOME" in known else {}),
        "MINUTEMARK_SPARK_JARS": known.get("MINUTEMARK_SPARK_JARS", str(SPARK_JARS)),
        "PYTHONPATH": str(ROOT),
        # Not the settings of the user's own Jupyter: they could open this one to others.
        "JUPYTER_CONFIG_DIR": str(HOME / "config"),
        "JUPYTER_DATA_DIR": str(HOME / "share"),
        "JUPYTER_RUNTIME_DIR": str(runtime()),
        "IPYTHONDIR": str(HOME / "ipython"),
        "PATH": f"{JUPYTER / 'venv' / 'bin'}:{environ.get('PATH', os.defpath)}",
    }
