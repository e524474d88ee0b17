"""An auth manager with permissions per DAG, as deployments have, and not only with roles."""

from __future__ import annotations

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

RITA = "rita"  # a user who changes anything but the shop's minutes, and does not see its runs
FOREIGN = "ecommerce_minute"


class PermissionsOfDags(SimpleAuthManager):
    """Airflow's own, but rita has no permission on one DAG."""

    def is_authorized_dag(self, *, method, user, access_entity=None, details=None) -> bool:
        if user.get_name() == RITA and details is not None and details.id == FOREIGN:
            return False
        return super().is_authorized_dag(method=method, user=user, access_entity=access_entity, details=details)
