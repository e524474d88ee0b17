"""Hand-written events on their way into the facts: imported, read by a Spark job, checked and merged, without Airflow."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from include import pipelines, planner
from include.connections import LAKE_READER, WAREHOUSE_ETL, endpoint
from include.files.imports import import_events
from include.lake.session import lake
from include.pipelines import Pipeline
from include.spark import submission
from include.warehouse import batches
from include.warehouse.batches import RunInfo
from include.warehouse.gates import run_gate
from include.warehouse.merge import merge
from include.warehouse.session import warehouse

MASTER = "local[2]"
RECRUITMENT = pipelines.get("recruitment")


def publish(rows: Sequence[Mapping[str, str | None]], folder: Path) -> None:
    """Import these events and run the pipeline once; after that, their minutes are settled."""
    write(rows, folder)
    run(RECRUITMENT)


def run(pipeline: Pipeline) -> None:
    """Run the pipeline once, over every minute that has changed."""
    batch_id = _open_batch(pipeline)
    _transform(batch_id)
    for gate in ("staging", "warehouse"):
        with warehouse() as conn:
            result = run_gate(conn, batch_id, gate)
        assert result.passed, result
        if gate == "staging":
            merge(batch_id)
    with warehouse() as conn:
        # As if the settle time had passed.
        conn.cursor().execute("UPDATE etl.minute_ledger SET settled_before = seen_changed_time")
        conn.commit()


def write(rows: Sequence[Mapping[str, str | None]], folder: Path) -> None:
    """Import these events into the lake, without a run."""
    file = folder / "events.csv"
    with file.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, ["create_time", *RECRUITMENT.fields])
        writer.writeheader()
        writer.writerows(rows)
    assert import_events(RECRUITMENT, file).written == len(rows)


def _open_batch(pipeline: Pipeline) -> int:
    with lake(LAKE_READER) as session, warehouse() as conn:
        polled = planner.poll(pipeline, session, conn)
        run = RunInfo("history", f"history-{uuid.uuid4()}", None)
        batch_id = planner.open_delta(pipeline, session, conn, run, polled=polled)
    assert batch_id is not None
    return batch_id


def _transform(batch_id: int) -> None:
    with warehouse() as conn:
        batch = batches.get(conn, batch_id)
        attempt = batches.new_attempt(conn, batch_id)
    submitted = submission.prepare(
        batch,
        attempt,
        lake=endpoint(LAKE_READER),
        warehouse=endpoint(WAREHOUSE_ETL),
        master=MASTER,
    )
    command = ["spark-submit", "--master", MASTER, "--properties-file", submitted.properties_file]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    try:
        done = subprocess.run(
            [*command, submitted.application, *submitted.application_args],
            env={**os.environ, **submitted.env_vars, "PATH": path},
            capture_output=True,
            text=True,
        )
    finally:
        shutil.rmtree(submitted.dir)
    assert done.returncode == 0, done.stdout + done.stderr
