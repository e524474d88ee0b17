"""A separate Airflow home for tests that need one; import this before Airflow."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
HOME = Path(tempfile.mkdtemp(prefix="minutemark-airflow-"))
SETTINGS = {
    "AIRFLOW_HOME": str(HOME),
    "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME}/airflow.db",
    "AIRFLOW__OPENLINEAGE__DISABLED": "True",
}

if "airflow" not in sys.modules:
    os.environ.update(SETTINGS)
atexit.register(shutil.rmtree, HOME, ignore_errors=True)


def bare_environment(**more: str) -> dict[str, str]:
    """The environment of a machine that has this project and its Python, but no store, no Java and no connection."""
    keep = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    return {
        **keep,
        "PATH": f"{Path(sys.executable).parent}:/nowhere",
        "PYTHONPATH": str(PROJECT),
        "AIRFLOW_HOME": tempfile.mkdtemp(dir=HOME),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        **more,
    }
