"""Connections from variables: the URLs that their fields give, and those that are refused."""

from __future__ import annotations

import json
import sys

import pytest

from include import cli
from include.connections import Endpoint, endpoint, variable
from include.lakehouse import table
from include.lakehouse.settings import LakehouseError


@pytest.mark.parametrize(
    "fields, url",
    [
        ({"host": "catalog"}, "http://catalog/"),
        ({"host": "catalog", "port": 8181, "schema": "https"}, "https://catalog:8181/"),
        ({"host": "catalog", "port": 8181, "extra": {"path": "/api/catalog"}}, "http://catalog:8181/api/catalog"),
        ({"host": "https://catalog/api"}, "https://catalog/api"),
        ({"host": "https://catalog/api", "port": 8181}, "https://catalog:8181/api"),
        ({"host": "https://catalog:8181/api", "port": 9}, "https://catalog:8181/api"),
    ],
)
def test_the_url_of_a_connection_is_its_host_or_is_made_of_its_fields(monkeypatch, fields: dict, url: str) -> None:
    monkeypatch.setenv(variable("lakehouse_catalog"), json.dumps({"conn_type": "http", **fields}))
    assert endpoint("lakehouse_catalog").url("http") == url


@pytest.mark.parametrize(
    "value, uri, credential",
    [
        ("http://catalog:8181", "http://catalog:8181", None),
        ("https://me:secret@catalog", "https://catalog", "me:secret"),
        (
            '{"conn_type": "http", "host": "https://catalog/api/", "password": "secret"}',
            "https://catalog/api",
            "secret",
        ),
        ('{"conn_type": "http", "host": "catalog", "login": "me"}', "http://catalog", None),
    ],
)
def test_a_rest_catalog_is_used_by_its_url_with_the_credential_of_an_oauth2_client(
    monkeypatch, value: str, uri: str, credential: str | None
) -> None:
    catalog = pytest.importorskip("pyiceberg.catalog")
    monkeypatch.setenv(variable("lakehouse_catalog"), value)
    monkeypatch.setenv("MINUTEMARK_LAKEHOUSE", "file:///lakehouse")
    monkeypatch.setattr(catalog, "load_catalog", lambda name, **properties: properties)
    properties = table.catalog()
    assert (properties["type"], properties["uri"], properties.get("credential")) == ("rest", uri, credential)


@pytest.mark.parametrize(
    "value", ["http://catalog:8181/api", '{"conn_type": "http", "host": "http://catalog:x", "port": 1}']
)
def test_an_http_connection_without_an_http_url_is_refused_with_the_remedy(monkeypatch, value: str) -> None:
    """Airflow reads the path of a URI as the schema, so the first URL would begin with api://."""
    pytest.importorskip("pyiceberg.catalog")
    monkeypatch.setenv(variable("lakehouse_catalog"), value)
    monkeypatch.setenv("MINUTEMARK_LAKEHOUSE", "file:///lakehouse")
    with pytest.raises(
        LakehouseError, match="lakehouse_catalog has no http or https URL. Write the whole URL in its host"
    ):
        table.catalog()


@pytest.mark.parametrize("host", ["http://me:secret@cat:secret", "http://me:secret@ca\u2100t", "http://me:secret@"])
@pytest.mark.parametrize("port", [None, 8181])
def test_a_url_that_is_not_valid_is_not_quoted(host: str, port: int | None) -> None:
    with pytest.raises(ValueError, match="Connection lakehouse_catalog has no http or https URL") as refused:
        Endpoint("lakehouse_catalog", "http", host, port).url("http")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "value",
    [
        '{"conn_type": "mysql", "password": "secret',  # cut off
        '{"conn_type": "mysql", "port": "secret"}',
        '{"conn_type": "mysql", "extra": "secret"}',
        '{"conn_type": "mysql", "extra": ["secret"]}',
        '{"conn_type": "mysql", "port": [3306]}',
    ],
)
def test_a_variable_that_is_not_a_connection_is_refused_in_one_line_that_does_not_quote_it(
    monkeypatch, tmp_path, capsys, value: str
) -> None:
    monkeypatch.setenv("MINUTEMARK_STATE", str(tmp_path))
    monkeypatch.setenv(variable("warehouse_bi"), value)
    monkeypatch.delitem(sys.modules, "airflow", raising=False)  # in its presence, Airflow reads the variable
    assert cli.main(["query", "SELECT 1"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("AIRFLOW_CONN_WAREHOUSE_BI is not a connection. Write one JSON object")
    assert error.count("\n") == 1 and "secret" not in error
