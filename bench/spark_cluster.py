"""How long a Spark job takes on a standalone cluster: `python -m bench.spark_cluster [--rounds 5] [--backlog 1000000]`.

Starts throw-away stores and, for `kept` and `cold`, throw-away clusters of two workers with one core each, on this machine.
The same minute of 5,000 events, and the same backlog, are staged by

- local: a driver that keeps running, with master local[2]
- kept: a driver that keeps running, with an application that keeps its executors
- cold: a spark-submit for each attempt

A job is measured from its submission to its end. The first job of each kind is reported separately.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from bench import lakes
from bench.rigs import minutes_up_to
from include import pipelines
from include.chunks import slices
from include.connections import LAKE_READER, LAKE_WRITER, WAREHOUSE_ETL, endpoint
from include.lake import schema as lake_schema
from include.spark import installation, settings, stores, submission
from include.spark.warm_driver import PID, WarmDriver, folder_of
from include.warehouse import schema as warehouse_schema
from include.warehouse.batches import Batch, RunInfo
from include.warehouse.delta import PlannedMinute
from local import throwaway
from local.process import free_port
from local.servers.spark_standalone import Master, Worker

LOCAL = "local[2]"
LIVE_MINUTE = datetime(2026, 6, 1, 12)
LIVE_ROWS = 5_000
NEWEST = LIVE_MINUTE - timedelta(minutes=1)  # the newest minute of the backlog
SECRET = "of-the-bench"
_attempts = itertools.count(1)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.spark_cluster", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backlog", type=int, default=1_000_000)
    args = parser.parse_args()
    os.environ["TZ"] = "UTC"
    time.tzset()
    with tempfile.TemporaryDirectory(prefix="mm-bench-") as name, contextlib.ExitStack() as opened:
        folder = Path(name)
        os.environ |= opened.enter_context(throwaway.cassandra_node(folder, heap_mb=1_024, throw_away=False))
        os.environ |= opened.enter_context(throwaway.warehouse_server(folder))
        lake_schema.apply_schema()
        warehouse_schema.apply_schema()
        backlog = fill(args.backlog)
        for kind in ("kept", "local", "cold"):
            with contextlib.ExitStack() as cluster:
                master = LOCAL if kind == "local" else start(cluster, folder / kind)
                measure(kind, master, args.rounds, backlog)
    return 0


def fill(rows: int) -> list[datetime]:
    """Write LIVE_MINUTE and a backlog of `rows` rows; returns the minutes of the backlog."""
    from pyspark.sql import SparkSession

    pipeline = pipelines.get("recruitment")
    own = settings.session_settings(LOCAL) | stores.lake_settings(endpoint(LAKE_WRITER))
    spark = SparkSession.builder.master(LOCAL).config(map=own).getOrCreate()
    lakes.fill(spark, pipeline, LIVE_MINUTE, LIVE_ROWS, rows_per_minute=LIVE_ROWS)
    minutes = lakes.fill(spark, pipeline, NEWEST, rows)
    spark.stop()
    return minutes_up_to(NEWEST, minutes)


def start(cluster: contextlib.ExitStack, home: Path) -> str:
    """Start a cluster that stops with the exit stack; returns its master's URL."""
    ports = {"port": free_port(), "web_port": free_port()}
    master = Master(home / "master", secret=SECRET, **ports)
    cluster.enter_context(master.running(10))
    for name in ("first", "second"):
        ports = {"port": free_port(), "web_port": free_port()}
        worker = Worker(home / name, secret=SECRET, master_url=master.url, memory_mb=768, **ports)
        cluster.enter_context(worker.running(10))
    return master.url


def measure(kind: str, master: str, rounds: int, backlog: Sequence[datetime]) -> None:
    """Print the seconds of the first job, of `rounds` later ones, and of the backlog."""
    keep, keys = kind != "cold", set()

    def job(minutes: Sequence[datetime], rows: int) -> float:
        started = time.perf_counter()
        keys.add(stage(master, minutes, rows, keep))
        return time.perf_counter() - started

    first = job([LIVE_MINUTE], LIVE_ROWS)
    for _ in range(rounds if keep else 0):  # until the driver has compiled its code
        job([LIVE_MINUTE], LIVE_ROWS)
    seconds = sorted(job([LIVE_MINUTE], LIVE_ROWS) for _ in range(rounds))
    max_rows = pipelines.get("recruitment").max_rows
    size = max_rows // lakes.ROWS_PER_MINUTE
    batches = list(slices(backlog, size))
    backlog_seconds = sum(job(batch, len(batch) * lakes.ROWS_PER_MINUTE) for batch in batches)
    rows = len(backlog) * lakes.ROWS_PER_MINUTE
    print(
        f"{kind}: first job {first:.1f} s; {rounds} later ones {statistics.median(seconds):.1f} s "
        f"({seconds[0]:.1f} to {seconds[-1]:.1f}); backlog of {rows:,} rows in {len(batches)} jobs {backlog_seconds:.1f} s, "
        f"{rows / backlog_seconds:,.0f} rows/s",
        flush=True,
    )
    for key in keys - {None}:
        end(key)


def stage(master: str, minutes: Sequence[datetime], rows: int, keep: bool) -> str | None:
    """One attempt as the transform task submits it; returns the key of its driver, or None."""
    planned = tuple(PlannedMinute(minute) for minute in minutes)
    batch = Batch(1, "recruitment", RunInfo("bench", "run", None), LIVE_MINUTE + timedelta(hours=1), planned, rows)
    own = {
        "spark.authenticate.secret": SECRET,
        "spark.executor.memory": "768m",
        "spark.dynamicAllocation.enabled": "false",  # one application gets all cores
    }
    conf = None if master == LOCAL else own
    submitted = submission.prepare(
        batch, next(_attempts), endpoint(LAKE_READER), endpoint(WAREHOUSE_ETL), master, conf, keep
    )
    command = [str(installation.spark_home() / "bin" / "spark-submit"), "--master", master]
    command += ["--properties-file", submitted.properties_file]
    command += ["--jars", submitted.jars] if submitted.jars else []
    command += [submitted.application, *submitted.application_args]
    environment = {**os.environ, **submitted.env_vars}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    lines: list[str] = []
    try:
        if submitted.driver_key is None:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            status, lines = done.returncode, [done.stdout, done.stderr]
        else:
            with WarmDriver(submitted.driver_key, command, environment) as driver:
                status = driver.run(submitted.job_file, lines.append)
    finally:
        shutil.rmtree(submitted.dir)
    if status:
        raise RuntimeError("\n".join(["The Spark job failed.", *lines]))
    return submitted.driver_key


def end(key: str) -> None:
    """End the driver, and wait until it is gone: the next kind needs its cores."""
    import psutil

    driver = psutil.Process(int((folder_of(key) / PID).read_text()))
    driver.terminate()
    driver.wait(60)


if __name__ == "__main__":
    sys.exit(main())
