"""Fixtures of lake and warehouse."""

from tests.warehouse.conftest import lab, reader, writer  # noqa: F401
