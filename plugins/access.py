"""What Airflow's API server checks before its own permissions: the Host, and the pipelines of an operation.

- A request for another host is refused: a foreign page that resolves its own name to this server reaches nothing.
- No page of another site can frame one of Airflow.
- Users who trigger or clear a run of an operations DAG need the permission that the Pipelines page requires: to edit
  `<pipeline>_minute`, or to see its runs for minutemark_verify. Without a pipeline: that permission on every pipeline.

Every Airflow process imports this module, only the API server runs it: heavy imports are inside functions.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from airflow.configuration import conf

HOSTS = "MINUTEMARK_HOSTS"
HEALTH = "/api/v2/monitor/health"  # probes of an orchestrator send the address of their container
_LOOPBACK = ("127.0.0.1", "localhost", "*.localhost", "::1")
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:\d+)?")
_FRAMES = ((b"content-security-policy", b"frame-ancestors 'self'"), (b"x-frame-options", b"SAMEORIGIN"))

VERIFY = "minutemark_verify"
OPERATIONS = frozenset(
    {
        VERIFY,
        "minutemark_accept",
        "minutemark_housekeeping",
        "minutemark_import",
        "minutemark_release",
        "minutemark_replay",
        "minutemark_setup",
    }
)
NAMED = ("minutemark_accept", "minutemark_release")  # their records name the user who triggered the run
# Everything below a DAG that creates, clears or changes runs and their tasks.
_RUNS = re.compile(r"/api/v2/dags/(?P<dag>[^/]+)/(dagRuns|clear\w+|taskInstances)(/(?P<run>.+?))?/?$")
_BACKFILLS = re.compile(r"/api/v2/backfills/?$")
_READS = re.compile(r"/(list|dry_run)/?$")
_TASKS_OF_RUN = re.compile(r"/(clear|taskInstances|taskGroupInstances|xcomEntries|hitlDetails)(/.*)?$")
_CHANGES = ("POST", "PATCH", "PUT", "DELETE")


def hosts() -> list[str]:
    """Patterns of the hosts that this server answers for."""
    configured = (
        conf.get("api", "base_url", fallback=""),
        conf.get("core", "execution_api_server_url", fallback="") or "",
    )
    named = (urlsplit(url).hostname for url in configured)
    added = os.environ.get(HOSTS, "").replace(",", " ").split()
    return [host.lower() for host in (*_LOOPBACK, *named, *added) if host]


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

        async def send_framed(message) -> None:
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(one for one in _FRAMES if one[0] not in names)]
            await send(message)

        if is_known or scope["path"].endswith(HEALTH):
            return await self._app(scope, receive, send_framed)
        from starlette.responses import JSONResponse

        found = f"The request is for host {', '.join(headers) or 'none'}, which this server does not answer for. "
        remedy = f"Open it as {self._hosts[0]} or {self._hosts[-1]}, or add the host to {HOSTS} of the API server."
        return await JSONResponse({"detail": found + remedy}, status_code=421)(scope, receive, send_framed)


class OperationsPermissions:
    """ASGI middleware: an operation on a pipeline requires the permission that the Pipelines page requires."""

    def __init__(self, app) -> None:
        self._app = app

    async def __call__(self, scope, receive, send) -> None:
        path = scope.get("path", "")
        is_change = scope["type"] == "http" and scope["method"] in _CHANGES and not _READS.search(path)
        if not is_change or not (_RUNS.search(path) or _BACKFILLS.search(path)):
            return await self._app(scope, receive, send)
        from starlette.concurrency import run_in_threadpool
        from starlette.requests import Request
        from starlette.responses import JSONResponse

        request = Request(scope, receive)
        body = await request.body()
        user = await _user(request)
        if user is not None and (refusal := await run_in_threadpool(_refusal, path, body, user)):
            return await JSONResponse({"detail": refusal}, status_code=403)(scope, receive, send)
        return await self._app(scope, _replayed(body, receive), send)


def _replayed(body: bytes, receive):
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def again():
        return messages.pop() if messages else await receive()

    return again


async def _user(request) -> Any:
    """The user that Airflow will see, or None: then Airflow itself refuses."""
    from airflow.api_fastapi.core_api import security
    from fastapi import HTTPException

    try:
        return await security.get_user(request, None, await security.bearer_scheme(request))
    except HTTPException:
        return None


def _refusal(path: str, body: bytes, user: Any) -> str | None:
    """Why this user may not do this, or None."""
    from plugins.pipelines_page import may_operate

    for dag_id, run_conf, owner in operations(path, body):
        if dag_id in NAMED and owner not in (None, user.get_name()):
            return f"The record of {dag_id} names the user who triggered the run. Trigger a run of your own instead."
        for pipeline in _pipelines(run_conf.get("pipeline")):
            if not may_operate(user, dag_id, pipeline):
                need = "see the runs of" if dag_id == VERIFY else "edit"
                return (
                    f"{dag_id} on pipeline {pipeline.name} requires permission to {need} {pipeline.name}_minute, which "
                    f"user {user.get_name()} does not have. Ask an administrator for it, or name another pipeline."
                )
    return None


def _pipelines(name: Any) -> list:
    """The pipeline of that name; all of them where none, or an unknown one, is named."""
    from include import pipelines

    known = pipelines.all_pipelines()
    return [known[name]] if isinstance(name, str) and name in known else [*known.values()]


class Operation(NamedTuple):
    """A run of an operations DAG that a request creates or changes."""

    dag_id: str
    conf: Mapping  # empty: any
    owner: str | None = ""  # who triggered it; None: the request does


def operations(path: str, body: bytes) -> Iterator[Operation]:
    """The runs of operations DAGs that the request creates or changes."""
    try:
        message = json.loads(body) if body else {}
    except ValueError:
        message = {}  # Airflow refuses it
    found = _RUNS.search(path)
    dag_id, run_id = (found["dag"], found["run"]) if found else (None, None)
    if dag_id in OPERATIONS:
        is_trigger = path.rstrip("/").endswith("/dagRuns")
        if is_trigger and isinstance(message, dict) and "actions" not in message:
            run_conf = message.get("conf")
            yield Operation(dag_id, run_conf if isinstance(run_conf, dict) else {}, None)
        else:
            run_id = (
                _TASKS_OF_RUN.sub("", run_id) if run_id else isinstance(message, dict) and message.get("dag_run_id")
            )
            of_one_run = isinstance(run_id, str) and not _goes_beyond_one_run(message)
            yield _known_run(dag_id, run_id) if of_one_run else Operation(dag_id, {})
    if dag_id in (None, "~") or _goes_beyond_one_run(
        message
    ):  # Airflow takes the names in the body before that of the path
        yield from (Operation(named, {}) for named in sorted(OPERATIONS.intersection(_texts(message)) - {dag_id}))


def _goes_beyond_one_run(message: Any) -> bool:
    """Whether the body names runs of its own, or asks for those before and after the run."""
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
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)
