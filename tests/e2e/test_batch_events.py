"""A pipeline that declares `batch_events`: one asset event for each merged batch, even when its last task is run again."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from local.isolation import ROOT, copy_to
from tests.e2e.runs import Airflow, query, write
from tests.reference.rows import click

pytestmark = pytest.mark.usefixtures("schemas")

NOON = datetime(2026, 3, 1, 12, 0, 5)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("batches-airflow")


@pytest.fixture(scope="module")
def airflow(schemas, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    project = copy_to(tmp_path_factory.mktemp("batches") / "project")
    (project / ".local").symlink_to(ROOT / ".local")
    declaration = project / "include" / "pipelines" / "recruitment.py"
    declaration.write_text(
        declaration.read_text().replace('fact_time="ts",', 'fact_time="ts",\n    batch_events=True,')
    )
    worker = Airflow(home, project)
    yield worker
    worker.stop()


def events(home: Path) -> list[dict]:
    with contextlib.closing(sqlite3.connect(home / "airflow.db")) as conn:
        result = conn.execute(
            "SELECT e.extra FROM asset_event AS e JOIN asset AS a ON a.id = e.asset_id WHERE a.name = 'recruitment_batches'"
        )
        return [json.loads(extra) for (extra,) in result]


def test_each_merged_batch_is_one_event_even_when_its_task_is_cleared(airflow, home):
    write([click(NOON, 1), click(NOON + timedelta(minutes=2), 2)])
    run = airflow.run().must_succeed()
    [(batch_id, attempt, merged_at)] = query("SELECT batch_id, merged_attempt, merged_at FROM etl.batches")
    expected = {
        "batch_id": batch_id, "pipeline": "recruitment", "kind": "manual", "attempt": attempt, "minutes": 2,
        "merged_at": f"{merged_at.isoformat()}+00:00",
        "start": "2026-03-01T12:00:00+00:00", "end": "2026-03-01T12:03:00+00:00",
        "raw_rows": 2, "counted_rows": 2, "ignored_rows": 0, "rejected_rows": 0,
    }  # fmt: skip
    assert events(home) == [expected]
    airflow.run(run_id=run.run_id, clear=["check_warehouse"]).must_succeed()
    assert events(home) == [expected]
