"""Fixtures for all stores that verify compares."""

from tests.kafka.conftest import by_dag, pipeline, send  # noqa: F401
from tests.lakehouse.conftest import bigquery, bigquery_emulator, files, lakehouse, postgres_server, shop  # noqa: F401
from tests.warehouse.conftest import lab, reader, writer  # noqa: F401
