"""A lakehouse of its own for each test: a folder, and a catalog in a real PostgreSQL."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import connections, postgres
from local.process import Child, free_port


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory) -> Iterator[tuple[postgres.Server, dict[str, str]]]:
    """A server and its passwords by account."""
    passwords = connections.metadata_passwords(connections.new_passwords())
    server = postgres.Server(home=tmp_path_factory.mktemp("catalog") / "postgres", port=free_port(), throw_away=True)
    child = Child(server.prepare(passwords), server.home.with_suffix(".log"))
    try:
        postgres.wait_until_ready(server.port, passwords, alive=child.alive, log=str(child.log))
        yield server, passwords
    finally:
        os.kill(child.pid, signal.SIGINT)  # sessions of the catalog are open still
        child.wait()


@pytest.fixture
def lakehouse(postgres_server, tmp_path: Path, monkeypatch) -> Path:
    """The folder of an empty lakehouse, which the environment names."""
    server, passwords = postgres_server
    catalog = {
        "conn_type": "postgres", "host": postgres.HOST, "port": server.port, "login": postgres.AIRFLOW,
        "password": passwords[postgres.AIRFLOW], "schema": postgres.DATABASE,
    }  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_LAKEHOUSE_CATALOG", json.dumps(catalog))
    monkeypatch.setenv("MINUTEMARK_LAKEHOUSE", f"file://{tmp_path}/lakehouse")
    yield tmp_path / "lakehouse"
    from include.lakehouse import table
    from tests.warehouse.shop import Shop

    if table.catalog().table_exists(Shop.pipeline.lakehouse.table):
        table.catalog().drop_table(Shop.pipeline.lakehouse.table)
