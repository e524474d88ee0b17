"""Submits an attempt as the transform task does, without Airflow."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

from include.connections import Endpoint, endpoint
from include.spark import submission
from include.spark.warm_driver import WarmDriver
from include.warehouse.batches import Batch, RunInfo
from include.warehouse.delta import PlannedMinute
from tests.spark.rows import MINUTE

NEXT_MINUTE = MINUTE + timedelta(minutes=1)  # has no events
LOCAL = "local[2]"


def submit(
    attempt: int,
    warehouse: Endpoint | None = None,
    source: Endpoint | None = None,
    minutes=(MINUTE, NEXT_MINUTE),
    pipeline: str = "recruitment",
    keep: bool = False,
    master: str = LOCAL,
    conf: Mapping[str, object] | None = None,
    rows: float = 10,
    say: Callable[[str], None] = lambda line: None,
    **options: float,
) -> subprocess.CompletedProcess:
    """Run an attempt on a machine whose time zone is not UTC; with `keep`, in a warm driver.

    `say` gets each line of a warm driver as the driver logs it.
    """
    planned = tuple(PlannedMinute(minute) for minute in minutes)
    batch = Batch(1, pipeline, RunInfo("test", "run", None), NEXT_MINUTE, planned, estimated_rows=rows)
    warehouse, source = warehouse or endpoint("warehouse_etl"), source or endpoint("lake_reader")
    prepared = submission.prepare(batch, attempt, source, warehouse, master, conf, keep=keep, **options)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, **prepared.env_vars, "PATH": path, "TZ": "America/St_Johns"}
    command = ["spark-submit", "--master", master, "--properties-file", prepared.properties_file]
    command += ["--jars", prepared.jars] if prepared.jars else []
    command += [prepared.application, *prepared.application_args]
    try:
        if not keep:
            return subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        with WarmDriver(prepared.driver_key, command, env) as driver:
            lines: list[str] = []

            def take(line: str) -> None:
                lines.append(line)
                say(line)

            status = driver.run(prepared.job_file, take)
            return subprocess.CompletedProcess(command, status, "\n".join(lines), "")
    finally:
        shutil.rmtree(prepared.dir)
