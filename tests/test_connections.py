"""Connections as Airflow describes them."""

from __future__ import annotations

import json

import pytest

from include.connections import endpoint, variable


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
def test_the_url_of_a_connection_is_its_host_or_made_of_its_fields(monkeypatch, fields: dict, url: str) -> None:
    monkeypatch.setenv(variable("lakehouse_catalog"), json.dumps({"conn_type": "http", **fields}))
    assert endpoint("lakehouse_catalog").url("http") == url
