"""Lake and warehouse as an earlier version left them; at the end both are dropped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from include import pipelines
from include.lake.session import lake
from include.warehouse.session import warehouse
from tests.spark.conftest import spark  # noqa: F401

FORMER = Path(__file__).parent / "former"


def statements(file: str) -> list[str]:
    """The statements of a recorded file, which has one on each line."""
    lines = (FORMER / file).read_text().splitlines()
    return [line.rstrip(";") for line in lines if line and not line.startswith("--")]


def _drop_lake(session) -> None:
    for keyspace in {"minutemark", *(pipeline.keyspace for pipeline in pipelines.all_pipelines().values())}:
        session.execute(f"DROP KEYSPACE IF EXISTS {keyspace}", timeout=60)


@pytest.fixture(scope="module")
def former(stores: dict[str, str]) -> Iterator[None]:
    """Lake and warehouse of an earlier version, without its views and grants, which set-up makes again anyway."""
    from tests import emptying  # which needs local/: without it, these tests are skipped

    emptying.drop_warehouse()
    with warehouse("warehouse_admin") as conn:
        for statement in statements("warehouse.sql"):
            conn.cursor().execute(statement)
        conn.commit()
    with lake("lake_admin") as session:
        _drop_lake(session)
        for statement in statements("lake.cql"):
            session.execute(statement, timeout=60)
    yield
    emptying.drop_warehouse()
    with lake("lake_admin") as session:
        _drop_lake(session)
