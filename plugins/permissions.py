"""Permissions on a pipeline: those on the DAG `<pipeline>_minute`, as Airflow's auth manager decides. Only for the API server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import ConnectionDetails, DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.models.dag import DagModel
from fastapi import Request

from include import pipelines
from include.connections import WAREHOUSE_ETL
from include.pipelines import Pipeline

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.base_auth_manager import ResourceMethod


def minute_dag(pipeline: Pipeline) -> str:
    return f"{pipeline.name}_minute"


def has_permission(
    user: Any, method: ResourceMethod, pipeline: Pipeline, entity: DagAccessEntity | None = None
) -> bool:
    """Whether the user has that permission on the pipeline; the same rule as requires_access_dag."""
    dag_id = minute_dag(pipeline)
    details = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))
    return get_auth_manager().is_authorized_dag(method=method, access_entity=entity, details=details, user=user)


def visible_pipeline(pipeline: str, request: Request, user: GetUserDep) -> Pipeline:
    """The pipeline of the path, for users with permission to see the runs of its minute DAG."""
    known = pipelines.get(pipeline)
    requires_access_dag("GET", DagAccessEntity.RUN, minute_dag(known))(request, user)
    return known


def editable_pipeline(pipeline: str, request: Request, user: GetUserDep) -> Pipeline:
    """The pipeline of the path, for users with permission to edit its minute DAG."""
    known = pipelines.get(pipeline)
    requires_access_dag("PUT", None, minute_dag(known))(request, user)
    return known


def may_start(user: Any, dag_id: str) -> bool:
    """Whether the user may create runs of the DAG; the same rule as Airflow's own API."""
    details = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))
    return get_auth_manager().is_authorized_dag(
        method="POST", access_entity=DagAccessEntity.RUN, details=details, user=user
    )


def may_see_rows(user: GetUserDep) -> bool:
    """Whether the user may see samples of rejected events and offending rows."""
    return get_auth_manager().is_authorized_connection(
        method="GET", details=ConnectionDetails(conn_id=WAREHOUSE_ETL), user=user
    )
