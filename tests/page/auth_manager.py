"""An auth manager with permissions for each DAG, as in deployments, and not only with roles."""

from __future__ import annotations

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

RITA = "rita"  # a user with all permissions of her role, except for the shop's minute DAG
FORBIDDEN_DAG = "ecommerce_minute"


class DagPermissions(SimpleAuthManager):
    """Airflow's simple auth manager, but rita has no permission on one DAG."""

    def is_authorized_dag(self, *, method, user, access_entity=None, details=None) -> bool:
        if user.get_name() == RITA and details is not None and details.id == FORBIDDEN_DAG:
            return False
        return super().is_authorized_dag(method=method, user=user, access_entity=access_entity, details=details)
