"""Runs bqemulator, in its own environment: `python serve.py PORT FOLDER`, with a token in BIGQUERY_EMULATOR_TOKEN.

Requests need the token as a bearer token, and gRPC is off: other users of the machine could otherwise read every file that
the user running the emulator can. `gs://bucket/name` is the file FOLDER/buckets/bucket/name. Corrections make load jobs behave
like those of BigQuery: the id of a known job is refused, columns of a Parquet file are matched by name, and a column that is
nullable in the file is refused if it is required in the table.
"""

from __future__ import annotations

import hmac
import os
import sys
from pathlib import Path

import duckdb
import duckdb_extension_spatial
import grpc
from bqemulator import cli, server
from bqemulator.api.routes import jobs
from bqemulator.domain.errors import AlreadyExistsError, InvalidQueryError
from bqemulator.jobs import executor
from fastapi.responses import JSONResponse

_create_app, _start_load = server.create_app, jobs._handle_load_job_with_async_envelope
_load_file = executor._load_path_into_target


def _app_with_login(context):
    app, expected = _create_app(context), f"Bearer {os.environ['BIGQUERY_EMULATOR_TOKEN']}".encode()

    @app.middleware("http")
    async def require_token(request, call_next):
        if hmac.compare_digest(request.headers.get("authorization", "").encode(), expected):
            return await call_next(request)
        error = {
            "code": 401,
            "message": "The token of BIGQUERY_EMULATOR_TOKEN is required",
            "status": "UNAUTHENTICATED",
        }
        return JSONResponse({"error": error}, 401)

    return app


async def _start_load_if_new(project: str, job_id: str, config: dict, context):
    if context.catalog.get_job(project, job_id):
        raise AlreadyExistsError(f"Already Exists: Job {project}:US.{job_id}")
    return await _start_load(project, job_id, config, context)


def _load_if_modes_match(path: str, job, context) -> None:
    """Load a file, but refuse a Parquet file that lacks a required column of the table, or has it as nullable."""
    table = context.catalog.get_table(job.project_id, job.dataset_id, job.table_id)
    if job.source_format == "PARQUET" and table:
        columns = "SELECT name, repetition_type FROM parquet_schema(?)"
        modes = dict(context.engine.execute(columns, [path]).fetchall())
        for field in table.schema_.fields:
            if field.mode == "REQUIRED" and modes.get(field.name) != "REQUIRED":
                raise InvalidQueryError(
                    f"Provided Schema does not match Table {job.project_id}:{job.dataset_id}.{job.table_id}. "
                    f"Field {field.name} has changed mode from REQUIRED to NULLABLE"
                )
    _load_file(path, job, context)


def _insert_parquet_by_name(path: str, table: str, context) -> None:
    context.engine.execute(f"INSERT INTO {table} BY NAME SELECT * FROM read_parquet(?)", [path])


def main(port: str, folder: str) -> None:
    os.umask(0o077)
    os.environ |= {
        "HOME": folder,  # DuckDB keeps its extensions in it
        "BQEMU_ENABLE_FORMAT_EXTENSIONS": "0",  # DuckDB would download them
        "BQEMU_GCS_LOCAL_ROOT": f"{folder}/buckets",
        "BQEMU_QUERY_CACHE_TTL_SECONDS": "0",
        "BQEMU_UPLOAD_STAGING_DIR": f"{folder}/uploads",
    }
    Path(folder, "buckets").mkdir(parents=True, exist_ok=True)
    (extension,) = Path(duckdb_extension_spatial.__file__).parent.glob("extensions/*/spatial.duckdb_extension")
    duckdb.execute(f"INSTALL '{extension}'")
    server.create_app = _app_with_login
    server.build_grpc_server = lambda context: (grpc.aio.server(), 0)
    jobs._handle_load_job_with_async_envelope = _start_load_if_new
    executor._load_path_into_target = _load_if_modes_match
    executor._LOAD_FORMAT_HANDLERS["PARQUET"] = _insert_parquet_by_name
    cli.main(["start", "--rest-port", port, "--data-dir", folder, "--log-level", "warning"])


if __name__ == "__main__":
    main(*sys.argv[1:])
