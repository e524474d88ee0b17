"""`make tableau`: the views for BI tools as a Tableau extract, written in an environment that has Tableau's Hyper API.

In its environment, the command sees the read-only account's connection and no other.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping

from include.connections import WAREHOUSE_BI
from local import bootstrap, connections, environment
from local.layout import ROOT, TABLEAU
from local.problems import Problem

LOCK = ROOT / "dashboards" / "tableau" / "requirements.lock"
NOT_INHERITED = ("MINUTEMARK_", "AIRFLOW", "PYTHON")


def extract(arguments: list[str]) -> None:
    """Replace this process with the command that writes the file. Raises Problem."""
    install()
    line = command(arguments)
    os.execve(line[0], line, extract_environment(environment.read()))


def install() -> None:
    """Install Tableau's Hyper API as its lock says. Raises Problem on machines that it has no build for."""
    machine = platform.machine()
    if sys.platform == "linux" and machine != "x86_64":
        raise Problem(
            "make tableau",
            f"Tableau's Hyper API has no build for Linux on {machine}",
            "Run `python -m include.bi.tableau_extract` on Linux (x86-64), macOS or Windows, with AIRFLOW_CONN_WAREHOUSE_BI set "
            "(docs/bi-tools.md).",
        )
    bootstrap.install_separately(TABLEAU, LOCK, "Tableau's Hyper API", "90 MB, the first time only")


def command(arguments: list[str]) -> list[str]:
    """The command that writes the file; it contains no secrets."""
    return [str(TABLEAU / "venv" / "bin" / "python"), "-m", "include.bi.tableau_extract", *arguments]


def extract_environment(known: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What the command sees: the project, and the read-only account's connection from `known`."""
    kept = {name: value for name, value in environ.items() if not name.startswith(NOT_INHERITED)}
    bi = connections.variable(WAREHOUSE_BI)
    return {**kept, bi: known[bi], "PYTHONPATH": str(ROOT)}
