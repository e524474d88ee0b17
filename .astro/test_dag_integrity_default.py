"""What `astro dev parse` runs: every DAG file imports, without stores, Java, connections or a prepared Airflow.

The file that `astro dev init` writes calls DagBag(include_examples=False), an argument that Airflow 3.3 no longer has.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="minutemark-parse-"))
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"] = str(PROJECT / "plugins")
os.environ["MINUTEMARK_DEMO"] = "1"  # so that the demo's DAGs are tried as well
os.environ["MINUTEMARK_EXAMPLES"] = "1"
sys.path.insert(0, str(PROJECT))


def import_errors() -> dict[str, str]:
    """Import errors by DAG file, without those that dag_integrity_exceptions.txt overlooks."""
    from airflow.models import DagBag

    exceptions = (PROJECT / ".astro" / "dag_integrity_exceptions.txt").read_text().splitlines()
    overlooked = {line.strip() for line in exceptions if line.strip() and not line.startswith("#")}
    found = {}
    for path, error in DagBag(str(PROJECT / "dags")).import_errors.items():
        name = os.path.relpath(path if os.path.isabs(path) else PROJECT / "dags" / path, PROJECT)
        if name not in overlooked:
            found[name] = error.strip()
    return found


@pytest.mark.parametrize("path", sorted(str(p.relative_to(PROJECT)) for p in (PROJECT / "dags").glob("*.py")))
def test_dag_file_imports(path: str, all_import_errors: dict[str, str]) -> None:
    assert path not in all_import_errors, f"{path} cannot be imported:\n{all_import_errors[path]}"


@pytest.fixture(scope="module")
def all_import_errors() -> dict[str, str]:
    return import_errors()
