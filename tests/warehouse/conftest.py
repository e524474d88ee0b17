"""An empty warehouse for each test."""

from __future__ import annotations

import pytest

from include.warehouse.session import warehouse
from tests.warehouse.lab import Lab

_KEPT = {"pipelines", "rejected_summary"}


@pytest.fixture
def lab(warehouse_schema: None):
    """A connection of the etl account on empty tables."""
    with warehouse() as conn:
        cursor = conn.cursor()
        cursor.execute(
            "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema IN ('etl', 'recruitment')"
        )
        for schema, table in cursor.fetchall():
            if table not in _KEPT:
                cursor.execute(f"DELETE FROM {schema}.{table}")
        conn.commit()
        yield Lab(conn)
