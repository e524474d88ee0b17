"""What Airflow's API server checks before its own permissions: the Host, and the pipelines of an operation.

- A request for another host is refused, so that a foreign page whose name resolves to this server reaches nothing. HEALTH
  accepts every host.
- No page of another site can frame a page of Airflow.
- Users who trigger or clear a run of an operations DAG need the permission that the Pipelines page requires: to edit
  `<pipeline>_minute`, or, for minutemark_verify, to see its runs. Without a pipeline: that permission on every pipeline.
  minutemark_import with `from` also needs it on each pipeline whose keyspace the table is in.
- Only the user who triggered a run of minutemark_release or minutemark_accept can clear or change it.

Every Airflow process imports this module, but only the API server runs it. Heavy imports are therefore inside functions.
"""

from __future__ import annotations

import fnmatch
import functools
import json
import os
import re
from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from airflow.configuration import conf

if TYPE_CHECKING:
    from include.pipelines import Pipeline

HOSTS = "MINUTEMARK_HOSTS"
HEALTH = "/api/v2/monitor/health"  # an orchestrator's probes send the container's address as the host
_LOOPBACK = ("127.0.0.1", "localhost", "*.localhost", "::1")
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:\d+)?")
_FRAMES = ((b"content-security-policy", b"frame-ancestors 'self'"), (b"x-frame-options", b"SAMEORIGIN"))

# Routes of Airflow that create, clear or change runs and their tasks; a POST to a route of READS only reads.
RUNS = re.compile(r"/api/v2/(dags/\{dag_id\}/(dagRuns|clear\w+)(/.*)?|backfills)")
READS = re.compile(r".*/(list|dry_run)")
TRIGGER = "/api/v2/dags/{dag_id}/dagRuns"
PREFIX = "minutemark_"  # the start of the DAG id of every operation
CHANGES = ("POST", "PATCH", "PUT", "DELETE")


def hosts() -> list[str]:
    """Patterns of the hosts whose requests this server accepts."""
    configured = (
        conf.get("api", "base_url", fallback=""),
        conf.get("core", "execution_api_server_url", fallback="") or "",
    )
    hostnames = (urlsplit(url).hostname for url in configured)
    more_hosts = os.environ.get(HOSTS, "").replace(",", " ").split()
    return [host.lower() for host in (*_LOOPBACK, *hostnames, *more_hosts) if host]


def host_of(header: str) -> str:
    """The host of a Host header, without its port; empty if it is malformed."""
    parts = _HOST.fullmatch(header)
    return parts["host"].strip("[]").lower() if parts else ""


class KnownHosts:
    """ASGI middleware: refuses requests for other hosts, and lets no other site frame a page."""

    def __init__(self, app) -> None:
        self._app = app
        self._hosts = hosts()

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        headers = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        is_known = len(headers) == 1 and any(fnmatch.fnmatchcase(host_of(headers[0]), known) for known in self._hosts)

        async def send_with_frame_headers(message) -> None:
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(header for header in _FRAMES if header[0] not in names)]
            await send(message)

        if is_known or scope["path"] in (HEALTH, scope.get("root_path", "") + HEALTH):
            return await self._app(scope, receive, send_with_frame_headers)
        from starlette.responses import JSONResponse

        problem = f"This server does not accept requests for host {', '.join(headers) or 'none'}. "
        remedy = f"Open Airflow at the address in [api] base_url, or add the host to {HOSTS} of the API server."
        return await JSONResponse({"detail": problem + remedy}, status_code=421)(
            scope, receive, send_with_frame_headers
        )


class OperationsPermissions:
    """ASGI middleware: an operation on a pipeline requires the permission that the Pipelines page requires."""

    def __init__(self, app) -> None:
        self._app = app

    async def __call__(self, scope, receive, send) -> None:
        route = route_of(scope) if scope["type"] == "http" and scope["method"] in CHANGES else None
        if route is None or not RUNS.fullmatch(route.path) or READS.fullmatch(route.path):
            return await self._app(scope, receive, send)
        from starlette.concurrency import run_in_threadpool
        from starlette.requests import Request
        from starlette.responses import JSONResponse

        request = Request(scope, receive)
        body = await request.body()
        user = await _user(request)
        if user is not None and (refusal := await run_in_threadpool(_refusal, route, body, user)):
            return await JSONResponse({"detail": refusal}, status_code=403)(scope, receive, send)
        return await self._app(scope, _with_body(body, receive), send)


class Route(NamedTuple):
    """The Airflow route of a request: its method, its path with placeholders, and their values."""

    method: str
    path: str
    values: Mapping[str, str]


def route_of(scope: MutableMapping) -> Route | None:
    """The route that Airflow's own router chooses, so that both read a path in the same way. None if no route matches."""
    from starlette.routing import Match

    for route in scope["app"].routes:
        match, child_scope = route.matches(scope)
        if match is Match.FULL:
            return Route(scope["method"], route.path, child_scope.get("path_params", {}))
    return None


def _with_body(body: bytes, receive):
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again():
        return messages.pop() if messages else await receive()

    return receive_again


async def _user(request) -> Any:
    """The user that Airflow will see. None without a user: Airflow then refuses the request."""
    from airflow.api_fastapi.core_api import security
    from fastapi import HTTPException

    try:
        return await security.get_user(request, None, await security.bearer_scheme(request))
    except HTTPException:
        return None


def _refusal(route: Route, body: bytes, user: Any) -> str | None:
    """The message that refuses the user's request, or None."""
    from plugins.permissions import DagAccessEntity, has_permission

    for operation in operations(route, body):
        dag_id = operation.dag_id
        if dag_id in forms().recording_user and operation.owner not in (None, user.get_name()):
            return f"The record of {dag_id} names the user who triggered the run. Trigger a run of your own instead."
        for pipeline in pipelines_of(dag_id, operation.conf):
            required = ("GET", pipeline, DagAccessEntity.RUN) if dag_id in forms().read_only else ("PUT", pipeline)
            if not has_permission(user, *required):
                need = "see the runs of" if dag_id in forms().read_only else "edit"
                return (
                    f"{dag_id} on pipeline {pipeline.name} requires permission to {need} {pipeline.name}_minute, which "
                    f"user {user.get_name()} does not have. Ask an administrator for it, or choose another pipeline or table."
                )
    return None


class Forms(NamedTuple):
    """DAG ids of the operations in include/commands.py, grouped by what their runs require."""

    dag_ids: frozenset[str]
    read_only: frozenset[str]  # permission to see the runs of the pipeline is enough
    for_all: frozenset[str]  # they concern every pipeline, whatever a run's conf names
    recording_user: frozenset[str]  # they record the user who triggers a run
    importer: str | None


@functools.cache
def forms() -> Forms:
    """Read on first use: the table of commands needs all declarations, and an error in one must not unload these checks."""
    from include import commands

    by_dag = {command.dag: command for command in commands.COMMANDS if command.dag}
    return Forms(
        frozenset(by_dag),
        frozenset(dag_id for dag_id, command in by_dag.items() if command.permission == "see"),
        frozenset(
            dag_id
            for dag_id, command in by_dag.items()
            if "pipeline" not in {field.name for field in command.parameters}
        ),
        frozenset(dag_id for dag_id, command in by_dag.items() if "user" in command.passes),
        commands.get("import").dag,
    )


def pipelines_of(dag_id: str, run_conf: Mapping) -> list[Pipeline]:
    """The pipelines that a run with this conf reads or changes: all if it names none, or an unknown one."""
    from include import pipelines

    known, name, source = pipelines.all_pipelines(), run_conf.get("pipeline"), run_conf.get("from")
    if dag_id in forms().for_all or not isinstance(name, str) or name not in known:
        return [*known.values()]
    keyspace = source.partition(".")[0] if dag_id == forms().importer and isinstance(source, str) else None
    return [known[name], *(other for other in known.values() if other.keyspace == keyspace and other.name != name)]


class Operation(NamedTuple):
    """A run of an operations DAG that a request creates or changes."""

    dag_id: str
    conf: Mapping  # empty: any
    owner: str | None = ""  # the user who triggered it; None if this request does; empty if unknown


def operations(route: Route, body: bytes) -> Iterator[Operation]:
    """The runs of operations DAGs that the request creates or changes."""
    try:
        message = json.loads(body) if body else {}
    except ValueError:
        message = {}  # Airflow refuses it
    dag_id = route.values.get("dag_id")
    # The table of commands needs every declaration. An error in one must not keep users from other DAGs.
    if not any(text.startswith(PREFIX) for text in (dag_id or "", *_texts(message))):
        return
    is_trigger = route.method == "POST" and route.path == TRIGGER
    if dag_id in forms().dag_ids:
        if is_trigger:
            run_conf = message.get("conf") if isinstance(message, dict) else None
            yield Operation(dag_id, run_conf if isinstance(run_conf, dict) else {}, None)
        else:
            run_id = route.values.get("dag_run_id") or (isinstance(message, dict) and message.get("dag_run_id"))
            is_single_run = isinstance(run_id, str) and not _goes_beyond_one_run(message)
            yield _known_run(dag_id, run_id) if is_single_run else Operation(dag_id, {})
    if not is_trigger:  # in Airflow, names in the body take precedence over the path
        yield from (Operation(named, {}) for named in sorted(forms().dag_ids.intersection(_texts(message)) - {dag_id}))


def _goes_beyond_one_run(message: Any) -> bool:
    """Whether the body names further runs, or includes the runs before or after this one."""
    return isinstance(message, dict) and any(
        message.get(name) for name in ("actions", "include_past", "include_future")
    )


def _known_run(dag_id: str, run_id: str) -> Operation:
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        query = select(DagRun.conf, DagRun.triggering_user_name)
        known = session.execute(query.where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)).first()
    return Operation(dag_id, known[0] or {}, known[1] or "") if known else Operation(dag_id, {})


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for member in value.values() if isinstance(value, dict) else value:
            yield from _texts(member)
