"""Test rigs: a lake of any size with its own warehouse, and a run of the pipeline as the DAG's tasks do it, without Airflow.

Airflow's share of a run, a few seconds, does not depend on the size of the lake, and would hide the costs that do.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from include import pipelines, planner
from include.connections import LAKE_READER, LAKE_WRITER, WAREHOUSE_ETL, endpoint
from include.lake import change_log
from include.lake.session import lake
from include.pipelines import Pipeline
from include.spark import jvm, stores, submission
from include.warehouse import batches, schema
from include.warehouse.batches import RunInfo
from include.warehouse.gates import run_gate
from include.warehouse.merge import merge
from include.warehouse.session import warehouse
from local import connections, throwaway

MASTER = "local[*]"


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of one run, of its Spark job, and of its other steps by name; `minutes` is the number of minutes in its batch."""

    run: float
    job: float
    minutes: int
    steps: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Rig:
    """The pipeline that reads a lake, and the variables of its warehouse's connections."""

    name: str
    pipeline: Pipeline
    variables: Mapping[str, str]

    @contextlib.contextmanager
    def activate(self) -> Iterator[Pipeline]:
        """Set the pipeline and the connections of this process to this rig's; the next rig replaces them."""
        os.environ.update(self.variables)
        pipelines.all_pipelines()[self.pipeline.name] = self.pipeline
        yield self.pipeline

    def touch(self, minutes: Sequence[datetime]) -> None:
        """Mark these minutes as changed in the change log."""
        with self.activate() as pipeline, lake(LAKE_WRITER) as session:
            change_log.touch(session, pipeline.lake_table, minutes)

    def settle(self) -> None:
        """Mark every minute read so far as settled, so that it is not read again."""
        with self.activate(), warehouse(WAREHOUSE_ETL) as conn:
            cursor = conn.cursor()
            cursor.execute(
                "UPDATE etl.minute_ledger SET settled_before = seen_changed_time WHERE settled_before < seen_changed_time"
            )
            cursor.execute("UPDATE etl.day_cursors SET drilled_at = drilled_at + INTERVAL 1 DAY")
            conn.commit()

    def run(self, spark) -> Timing | None:
        """Process pending minutes in one run; None if none is pending. Raises RuntimeError if a step fails."""
        from include.spark import run

        with self.activate() as pipeline:
            started = time.perf_counter()
            with lake(LAKE_READER) as session, warehouse(WAREHOUSE_ETL) as conn:
                polled = planner.poll(pipeline, session, conn)
                run_info = RunInfo("bench", f"{started}", None)
                batch_id = planner.open_delta(pipeline, session, conn, run_info, polled=polled)
            if batch_id is None:
                return None
            steps = {"open": time.perf_counter() - started}
            batch, submitted = self.submission(batch_id)
            try:
                job = run.Job.read(submitted.job_file)
                job_started = time.perf_counter()
                status = run.attempt(spark, job)
                job_seconds = time.perf_counter() - job_started
            finally:
                shutil.rmtree(submitted.dir)
            if status:
                raise RuntimeError(
                    f"The Spark job of batch {batch_id} in {self.name} ended with status {status}; its log is above."
                )
            steps["submit"] = job_started - started - steps["open"]
            steps |= self.publish(batch_id)
            return Timing(time.perf_counter() - started, job_seconds, len(batch.minutes), steps)

    def submission(self, batch_id: int) -> tuple[batches.Batch, submission.Submission]:
        """A batch, and what the transform task hands to Spark for a new attempt at it."""
        with warehouse(WAREHOUSE_ETL) as conn:
            batch = batches.get(conn, batch_id)
            attempt = batches.new_attempt(conn, batch_id)
        return batch, submission.prepare(
            batch,
            attempt,
            lake=endpoint(LAKE_READER),
            warehouse=endpoint(WAREHOUSE_ETL),
            master=MASTER,
            keep=True,
        )

    def publish(self, batch_id: int) -> dict[str, float]:
        """Check and merge a batch that has a complete attempt; returns the seconds of each step."""
        steps = {}
        for step in ("staging", "merge", "warehouse"):
            started = time.perf_counter()
            if step == "merge":
                merge(batch_id)
            else:
                with warehouse(WAREHOUSE_ETL) as conn:
                    if not (result := run_gate(conn, batch_id, step)).passed:
                        raise RuntimeError(f"Batch {batch_id} in {self.name}: {result}")
            steps[step] = time.perf_counter() - started
        return steps

    def catch_up(self, spark, minutes: Sequence[datetime]) -> float:
        """Touch these minutes and run until none is pending; returns the seconds of the runs."""
        self.touch(minutes)
        seconds = 0.0
        while timing := self.run(spark):
            seconds += timing.run
            self.settle()
        return seconds


@contextlib.contextmanager
def rig(folder: Path, name: str, pipeline: Pipeline, passwords: Mapping[str, str]) -> Iterator[Rig]:
    """A rig with an empty warehouse, whose server stops when the context ends."""
    home = folder / name
    home.mkdir()
    with throwaway.warehouse_server(home, passwords) as variables:
        result = Rig(name, pipeline, variables)
        with result.activate():
            schema.apply_schema()
        yield result


def session(passwords: Mapping[str, str]):
    """A session like that of the pipeline's own driver, with the properties that the transform task sets.

    Outside a job, it reads and writes the lake with the account of LAKE_READER.
    """
    from pyspark.sql import SparkSession

    from include.spark import run

    # Only the account matters here; each job names its server.
    os.environ.update(connections.warehouse(passwords, port=1))
    run_info = RunInfo("bench", "session", None)
    large = batches.Batch(0, "recruitment", run_info, datetime(2000, 1, 1), minutes=(), estimated_rows=10**7)
    submitted = submission.prepare(large, 0, endpoint(LAKE_READER), endpoint(WAREHOUSE_ETL), MASTER, keep=True)
    os.environ.update(jvm.environment(MASTER))
    os.environ["PYSPARK_SUBMIT_ARGS"] = f"--master {MASTER} --properties-file {submitted.properties_file} pyspark-shell"
    try:
        spark = SparkSession.builder.getOrCreate()
    finally:
        shutil.rmtree(submitted.dir)
    for key, value in stores.lake_settings(endpoint(LAKE_READER)).items():
        spark.conf.set(key, value)
    run.keep_class_lookups(spark)
    return spark


def minutes_up_to(newest: datetime, count: int) -> list[datetime]:
    """`newest` and the minutes before it, the newest first."""
    return [newest - timedelta(minutes=number) for number in range(count)]
