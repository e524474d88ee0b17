"""The web app behind "Pipelines" in Airflow's UI: routes and permissions. include/page/ has the rest.

All responses except errors require a logged-in Airflow user. Users with permission to read the runs of `<pipeline>_minute`
see the pipeline. Users with permission to edit that DAG can release its held minutes and accept its drift. Samples of rows
require permission to read the connection `warehouse_etl`, whose account can read them. The page's scripts start backfills
and verify runs through Airflow's own API, which checks permissions itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, get_user
from airflow.api_fastapi.logging.decorators import action_logging
from airflow.configuration import conf
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from include import commands, pipelines
from include.connections import WAREHOUSE_BI, WAREHOUSE_ETL, ConnectionMissing
from include.operations.held import accept_drift
from include.page import backfill, ledger, minutes, overview, problems, responses
from include.pipelines import Pipeline
from include.planner import RangeRefused
from include.warehouse.drifts import AcceptanceRefused
from include.warehouse.errors import WarehouseError
from include.warehouse.held import ReleaseRefused
from include.warehouse.lengths import LONGEST_REASON
from include.warehouse.session import warehouse
from include.window import WindowRefused, minute_in, open_range, parse_range
from plugins.permissions import editable_pipeline, has_permission, may_see_rows, may_start, visible_pipeline

STATIC = Path(overview.__file__).parent / "static"
FILES = {path.name: path for path in STATIC.iterdir() if path.suffix in (".css", ".js", ".svg")}
HEADERS = {
    # Nothing from elsewhere, nothing inline, in no frame but Airflow's own.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
CALLER = "X-Minutemark-Page"  # a header that a page of another origin cannot send without a preflight request
REFUSED = {ReleaseRefused: 409, AcceptanceRefused: 409, WindowRefused: 400, RangeRefused: 400, ledger.StateRefused: 400,
           pipelines.UnknownPipeline: 404, WarehouseError: 503, ConnectionMissing: 503}  # fmt: skip

# The user is required here, so that no route can be added without one.
app = FastAPI(dependencies=[Depends(get_user)], docs_url=None, redoc_url=None, openapi_url=None)


class Json(JSONResponse):
    def render(self, content: Any) -> bytes:
        return responses.as_json(content)


@app.middleware("http")
async def add_headers(request: Request, call_next: Callable) -> Response:
    response = await call_next(request)
    is_data = "/api/" in request.url.path
    response.headers.update(HEADERS | {"Cache-Control": "no-store" if is_data else "no-cache"})
    return response


def refusal(status: int) -> Callable[[Request, Exception], Json]:
    """A handler that responds with the error's message, which says what went wrong and what to do."""
    return lambda request, error: Json({"detail": str(error.args[0])}, status_code=status)


for kind, status in REFUSED.items():
    app.add_exception_handler(kind, refusal(status))


def require_this_page(request: Request) -> None:
    """Refuse a change that the user's browser requests on behalf of another site: a cookie alone does not show intent."""
    headers = request.headers
    is_json = headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
    if not is_json or CALLER not in headers:
        raise HTTPException(403, f"Send changes as application/json with the header {CALLER}: 1.")
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    hosts = {headers.get("host"), urlsplit(conf.get("api", "base_url", fallback="") or "").netloc}
    own = {host for host in hosts if host}  # the origin `null` has an empty host
    if (site and site != "same-origin") or (not site and origin and urlsplit(origin).netloc not in own):
        raise HTTPException(403, "Changes are accepted only from Airflow's own pages.")


VisiblePipeline = Annotated[Pipeline, Depends(visible_pipeline)]
SeesRows = Annotated[bool, Depends(may_see_rows)]


def bi_connection() -> Iterator[Any]:
    """A connection of account bi."""
    with warehouse(WAREHOUSE_BI) as conn:
        yield conn


def rows_connection(sees_rows: SeesRows) -> Iterator[Any]:
    """A read-only connection: of account etl for users with permission to see samples, otherwise of account bi."""
    with warehouse(WAREHOUSE_ETL if sees_rows else WAREHOUSE_BI) as conn:
        conn.cursor().execute("SET SESSION TRANSACTION READ ONLY")
        yield conn


BiConnection = Annotated[Any, Depends(bi_connection)]
RowsConnection = Annotated[Any, Depends(rows_connection)]


# The page


@app.get("/pipelines")
def page() -> FileResponse:
    return FileResponse(STATIC / "page.html")


@app.get("/static/{name}")
def file(name: str) -> FileResponse:
    if name not in FILES:
        raise HTTPException(404, "File not found.")
    return FileResponse(FILES[name])


# What the page shows


@app.get("/api/pipelines")
def overview_of_all(conn: BiConnection, user: GetUserDep, sees_rows: SeesRows) -> Json:
    visible = [
        pipeline
        for pipeline in pipelines.all_pipelines().values()
        if has_permission(user, "GET", pipeline, DagAccessEntity.RUN)
    ]
    content = overview.overview(conn, visible)
    for entry, pipeline in zip(content["pipelines"], visible, strict=True):
        entry["may_edit"] = has_permission(user, "PUT", pipeline)
    user_content = {
        "user": user.get_name(),
        "sees_rows": sees_rows,
        "may_verify": may_start(user, str(commands.get("verify").dag)),
    }
    return Json({**user_content, "all": len(pipelines.all_pipelines()), **content})


@app.get("/api/pipelines/{pipeline}/minutes")
def last_minutes(pipeline: VisiblePipeline, conn: BiConnection) -> Json:
    return Json({"minutes": minutes.last_minutes(conn, pipeline), "day": overview.day_of(conn, pipeline)})


@app.get("/api/pipelines/{pipeline}/ledger")
def ledger_page(pipeline: VisiblePipeline, conn: BiConnection, request: Request) -> Json:
    query = request.query_params
    start, end = open_range(query.get("from"), query.get("to"))
    before = minute_in("before", query["before"]) if query.get("before") else None
    return Json(ledger.page(conn, pipeline, start=start, end=end, before=before, state=query.get("state") or "all"))


@app.get("/api/pipelines/{pipeline}/held")
def held_minutes(pipeline: VisiblePipeline, conn: RowsConnection, sees_rows: SeesRows) -> Json:
    return Json({"sees_rows": sees_rows, **problems.held_minutes(conn, pipeline, samples=sees_rows)})


@app.get("/api/pipelines/{pipeline}/drift")
def drift(pipeline: VisiblePipeline, conn: BiConnection) -> Json:
    return Json(problems.drift(conn, pipeline))


@app.get("/api/pipelines/{pipeline}/rejected")
def rejected_events(pipeline: VisiblePipeline, conn: RowsConnection, sees_rows: SeesRows, request: Request) -> Json:
    start, end = open_range(request.query_params.get("from"), request.query_params.get("to"))
    content = problems.rejected_events(conn, pipeline, start, end, payloads=sees_rows)
    return Json({"sees_rows": sees_rows, **content})


@app.get("/api/pipelines/{pipeline}/gates")
def gate_results(pipeline: VisiblePipeline, conn: RowsConnection, sees_rows: SeesRows) -> Json:
    return Json({"sees_rows": sees_rows, **problems.gate_results(conn, pipeline, samples=sees_rows)})


@app.get("/api/pipelines/{pipeline}/backfill")
def backfill_plan(pipeline: VisiblePipeline, conn: BiConnection, request: Request) -> Json:
    query = request.query_params
    start, end = parse_range(query.get("from"), query.get("to"))
    return Json(backfill.plan(conn, pipeline, start, end, query.get("chunk") or "hour"))


# What the page changes


class ReleaseRequest(BaseModel):
    """One minute, or those from `from` to `to` (excluded); UTC."""

    model_config = ConfigDict(extra="forbid")

    minute: str | None = None
    start: str | None = Field(None, alias="from")
    end: str | None = Field(None, alias="to")
    why: str | None = Field(None, max_length=LONGEST_REASON)


@app.post(
    "/api/pipelines/{pipeline}/release",
    dependencies=[Depends(require_this_page), Depends(action_logging("minutemark_release"))],
)
def release(pipeline: Annotated[Pipeline, Depends(editable_pipeline)], body: ReleaseRequest, user: GetUserDep) -> Json:
    values = {"pipeline": pipeline.name, "minute": body.minute, "from": body.start, "to": body.end, "why": body.why}
    result = commands.get("release").run(values, user=user.get_name())
    return Json({"message": str(result), "minutes": result.minutes})


class Acceptance(BaseModel):
    """The drift of one field that is not accepted yet: of one kind, or of all kinds. With `drift_id`, only that record."""

    model_config = ConfigDict(extra="forbid")

    field: str = Field(max_length=128)
    kind: str | None = None
    drift_id: int | None = None
    why: str | None = Field(None, max_length=LONGEST_REASON)


@app.post(
    "/api/pipelines/{pipeline}/accept",
    dependencies=[Depends(require_this_page), Depends(action_logging("minutemark_accept"))],
)
def accept(pipeline: Annotated[Pipeline, Depends(editable_pipeline)], body: Acceptance, user: GetUserDep) -> Json:
    record = {"user": user.get_name(), "why": body.why}
    result = accept_drift(pipeline.name, body.field, body.kind, drift_id=body.drift_id, **record)
    return Json({"message": str(result), "minutes": result.minutes})
