"""A catalog that cannot be used raises an error that has its address and the remedy, but not the login."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler

import psycopg2
import pytest

from include.connections import endpoint
from include.lakehouse import table
from include.lakehouse.settings import LakehouseError
from tests.lakehouse.events import SHOP
from tests.lakehouse.faulty_network import served


@contextmanager
def read_only() -> Iterator[None]:
    """During the block, new sessions of the catalog's account can only read, as on a standby."""
    target = endpoint("lakehouse_catalog")
    conn = psycopg2.connect(
        host=target.host, port=target.port, user=target.login, password=target.password, dbname=target.schema
    )
    with closing(conn):
        conn.autocommit = True
        cursor = conn.cursor()
        cursor.execute("ALTER ROLE CURRENT_USER SET default_transaction_read_only = on")
        try:
            yield
        finally:
            cursor.execute("ALTER ROLE CURRENT_USER RESET default_transaction_read_only")


def test_a_catalog_that_cannot_create_a_table_is_named_with_a_remedy(lakehouse) -> None:
    table.catalog()  # creates the tables of the catalog itself
    with (
        read_only(),
        pytest.raises(
            LakehouseError, match=r"cannot be used: cannot execute INSERT in a read-only transaction\. Start"
        ),
    ):
        table.table(SHOP)


@pytest.fixture
def web_server() -> Iterator[str]:
    """The address of a server that answers each request with a page, and with status 500 below /broken."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 - the name of BaseHTTPRequestHandler
            self.send_response(500 if self.path.startswith("/broken") else 200)
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_: object) -> None:
            pass

    with served(Handler) as address:
        yield address


@pytest.mark.parametrize(("path", "cause"), [("", "Invalid JSON"), ("/broken", "500")])
def test_a_server_that_is_not_a_catalog_is_named_without_the_login_in_its_url(
    files, web_server, monkeypatch, path: str, cause: str
) -> None:
    """Not even in the traceback, which the log of a task shows."""
    connection = {"conn_type": "http", "host": f"http://reader:SECRETWORD@{web_server}{path}"}
    monkeypatch.setenv("AIRFLOW_CONN_LAKEHOUSE_CATALOG", json.dumps(connection))
    with pytest.raises(
        LakehouseError, match=rf"lakehouse_catalog \({web_server}{path}\) cannot be used: .*{cause}"
    ) as raised:
        table.find(SHOP)
    assert "SECRETWORD" not in "".join(traceback.format_exception(raised.value))
