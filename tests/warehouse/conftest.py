"""An empty warehouse for each test, and sessions of the lake for tests that need one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from include import pipelines
from include.lake.session import lake
from include.warehouse.session import warehouse
from tests.warehouse.lab import Lab

_KEPT = {"pipelines", "view_definitions", "reporting_zone", "reporting_days"}


@pytest.fixture
def lab(warehouse_schema: None):
    """A connection of the etl account on empty tables."""
    with warehouse() as conn:
        cursor = conn.cursor()
        databases = {"etl", *(pipeline.database for pipeline in pipelines.all_pipelines().values())}
        cursor.execute(
            "SELECT table_schema, table_name FROM information_schema.tables"
            f" WHERE table_type = 'BASE TABLE' AND table_schema IN {tuple(databases)}"
        )
        for schema, table in cursor.fetchall():
            if table not in _KEPT:
                cursor.execute(f"DELETE FROM {schema}.{table}")
        conn.commit()
        yield Lab(conn)


@pytest.fixture(scope="module")
def reader(schemas: None) -> Iterator:
    """A session that reads the lake; the lake's tables are emptied first."""
    with lake("lake_reader") as session:
        yield session


@pytest.fixture(scope="module")
def writer(schemas: None) -> Iterator:
    """A session that writes to that lake."""
    with lake("lake_writer") as session:
        yield session


@pytest.fixture
def waits(lab: Lab) -> Iterator[Callable[[], int]]:
    """Counts the row lock waits since the server started. A wait fails after a second, not after 50."""
    with warehouse("warehouse_admin") as admin:
        cursor = admin.cursor()

        def count_waits() -> int:
            cursor.execute("SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_waits'")
            return int(cursor.fetchone()[1])

        cursor.execute("SELECT @@GLOBAL.innodb_lock_wait_timeout")
        before = cursor.fetchone()[0]
        cursor.execute("SET GLOBAL innodb_lock_wait_timeout = 1")
        yield count_waits
        cursor.execute(f"SET GLOBAL innodb_lock_wait_timeout = {before}")
