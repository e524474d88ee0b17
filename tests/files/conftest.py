"""Fixtures of the stores to which files are written."""

from tests.kafka.conftest import by_dag, pipeline, send  # noqa: F401
from tests.lake.conftest import admin, connection, reader, recruitment, writer  # noqa: F401
