"""What the cluster needs in addition to the local environment: Celery and Redis."""

from __future__ import annotations

from local import bootstrap
from local.layout import ROOT

LOCK = ROOT / "local" / "cluster" / "requirements.lock"


def install() -> None:
    """Install what is missing. Raises Problem."""
    with bootstrap.only_one_set_up():
        bootstrap.install_more(LOCK, ".cluster-of", "Airflow's Celery executor")
