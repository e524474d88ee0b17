"""What the cluster needs in addition to the local environment: Celery, and the Redis client that it uses."""

from __future__ import annotations

import os

from local import bootstrap
from local.isolation import WAREHOUSE
from local.layout import ROOT
from local.problems import Problem

LOCK = ROOT / "local" / "cluster" / "requirements.lock"


def check_warehouse() -> None:
    """Raise Problem if the environment asks for a warehouse other than the cluster's."""
    if (warehouse := os.environ.get(WAREHOUSE, "mariadb")) != "mariadb":
        problem = f"its warehouse is MariaDB with a replica, but {WAREHOUSE} is {warehouse}"
        remedy = "Leave out WAREHOUSE=, or unset MINUTEMARK_WAREHOUSE; or, in make faults, leave out CLUSTER=1."
        raise Problem("The cluster", problem, remedy)


def install() -> None:
    """Install what is missing. Raises Problem."""
    with bootstrap.only_one_set_up():
        bootstrap.install_from_lock(LOCK, ".cluster-of", "Airflow's Celery executor")
