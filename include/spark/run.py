"""The application that spark-submit runs: one attempt at one batch, from the lake to staging, or a warm driver.

1. read the batch's minutes once and decide every row's fate (an open minute still changes: nothing is read twice)
2. stage the contributions
3. stage the rejected rows
4. stage ids with several create_times, unless the event id is create_time itself
5. stage the counts of every minute, which mark the attempt as complete
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path

if __name__ == "__main__":
    # spark-submit puts this file's folder on the path; the project is two levels up.
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    # A datetime that passes between Python and the JVM is UTC, whatever the machine's time zone.
    os.environ["TZ"] = "UTC"
    time.tzset()

from pyspark.sql import DataFrame, SparkSession  # noqa: E402
from pyspark.sql import functions as F  # noqa: E402

from include import pipelines  # noqa: E402
from include.spark import cluster, contract, fate, lake, listener, staging  # noqa: E402
from include.spark.fate import COUNTED  # noqa: E402
from include.spark.jvm import is_local  # noqa: E402
from include.spark.problems import (  # noqa: E402
    FAILED,
    FAILED_FOR_GOOD,
    JobFailed,
    JobRefused,
    explanation_of,
    status_of,
    summary_of,
)
from include.spark.warehouse import Warehouse  # noqa: E402

log = logging.getLogger("minutemark")
LOG_FORMAT, LOG_TIME = "%(asctime)s minutemark %(message)s", "%H:%M:%S"
# Bare names that pyspark looks up through py4j again and again.
_CLASS_LOOKUPS = ("functions", "PythonSQLUtils", "PythonUtils", "SparkSession", "org", "java", "scala")


@dataclass(frozen=True)
class Job:
    """One attempt at one batch, as include/spark/submission.py writes it."""

    pipeline: str
    batch_id: int
    attempt: int
    minutes: tuple[datetime, ...]  # naive, UTC
    lake_clock: datetime  # naive, UTC
    options: dict[str, object]
    one_task: bool
    session: dict[str, str]  # Spark SQL's settings for a job of this size
    lake: dict[str, str] = field(repr=False)  # the connector's settings, including its account
    warehouse_url: str
    warehouse_properties: dict[str, str] = field(repr=False)  # of the JDBC driver, including its account

    @classmethod
    def read(cls, file: Path) -> Job:
        """The job in a job.json."""
        values = json.loads(file.read_text())
        warehouse = values.pop("warehouse")
        times = {"minutes": tuple(map(_utc, values["minutes"])), "lake_clock": _utc(values["lake_clock"])}
        return cls(**values | times, warehouse_url=warehouse["url"], warehouse_properties=warehouse["properties"])


def run(spark: SparkSession, job: Job) -> None:
    """Fill staging for one attempt."""
    pipeline = pipelines.get(job.pipeline)
    transform = transform_of(pipeline)
    with Warehouse(spark, job.warehouse_url, job.warehouse_properties) as warehouse:
        with step("read") as notes:
            raw = lake.read_minutes(spark, pipeline, job.minutes)
            if job.one_task:
                raw = raw.coalesce(1)
            rows = materialized(raw, transform, pipeline, job.options, job.lake_clock)
            minute_counts = staging.count_minutes(rows, pipeline)
            unknown = contract.unknown_by_minute(rows) if any(row.with_unknown for row in minute_counts) else {}
            total = Totals(*(sum(row[field.name] for row in minute_counts) for field in fields(Totals)))
            notes.append(f"{len(job.minutes)} minutes, {total}")
        for output in pipeline.staged if total.counted_rows else ():
            with step(f"stage {output.name}"):
                contributions = transform.OUTPUTS[output.name](rows.where(F.col("fate") == COUNTED))
                warehouse.append(_with_attempt(contributions, job.attempt), output.staging)
        if total.rejected_rows:
            with step("stage rejected rows"):
                warehouse.append(_with_attempt(staging.rejects(rows), job.attempt), staging.REJECTS_TABLE)
        if pipeline.event_id not in lake.KEY and total.raw_rows > 1:
            with step("stage repeated ids"):
                repeats = [[job.attempt, number, *row] for number, row in enumerate(staging.repeats(rows))]
                if repeats:
                    warehouse.insert(staging.REPEATS_TABLE, staging.REPEATS_COLUMNS, repeats)
        with step("stage counts"):
            counts = staging.counts(job.attempt, job.minutes, minute_counts, pipeline, unknown)
            warehouse.insert(staging.COUNTS_TABLE, staging.COUNTS_COLUMNS, counts)


def keep_class_lookups(spark: SparkSession) -> None:
    """Look up once the classes that every F.… and every list of columns needs.

    py4j caches nothing: for a bare name it tries each package that pyspark has imported, and each failed try searches all of
    Spark's 270 jars. That took a quarter of the time that a driver spent on its plans.
    """
    for name in _CLASS_LOOKUPS:
        setattr(spark._jvm, name, getattr(spark._jvm, name))


def transform_of(pipeline: pipelines.Pipeline):
    """The module that interprets the pipeline's rows: it has classify and OUTPUTS."""
    return importlib.import_module(f"include.spark.{pipeline.name}")


def materialized(
    raw: DataFrame,
    transform,
    pipeline: pipelines.Pipeline,
    options: dict[str, object],
    clock: datetime | None = None,
) -> DataFrame:
    """The classified rows. The first action on them stores them without lineage, so that nothing reads the lake again."""
    classified = transform.classify(lake.with_fields(raw, pipeline), {**pipeline.options, **options})
    return staging.classified_rows(fate.apply_common_rules(classified, pipeline, clock), pipeline).localCheckpoint(
        eager=False
    )


@dataclass(frozen=True)
class Totals:
    """The rows of a batch by fate."""

    raw_rows: int
    counted_rows: int
    ignored_rows: int
    rejected_rows: int

    def __str__(self) -> str:
        return ", ".join(f"{getattr(self, field.name)} {field.name.split('_')[0]}" for field in fields(self))


@contextmanager
def step(name: str) -> Iterator[list[str]]:
    """Log a step with its seconds and the notes that the caller adds."""
    notes: list[str] = []
    started = time.monotonic()
    yield notes
    log.info("%s: %.2f s%s", name, time.monotonic() - started, "".join(f", {text}" for text in notes))


def main() -> int:
    """Run the job of the command line, or stay and run jobs as they arrive. Returns 0 if the attempt is complete."""
    parser = argparse.ArgumentParser(description="One attempt at one batch, from the lake to staging.")
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--job", type=Path, help="job.json written by include/spark/submission.py")
    group.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="listen for jobs in this folder: include/spark/warm_driver.py"
    )
    parser.add_argument("--idle", type=float, metavar="SECONDS", default=listener.IDLE_SECONDS, help="with --keep")
    arguments = parser.parse_args()
    logging.basicConfig(format=LOG_FORMAT, datefmt=LOG_TIME, level=logging.WARNING)
    log.setLevel(logging.INFO)
    if arguments.keep:
        listener.end_with_parent()  # with the JVM, which this process needs
        driver = listener.Listener(arguments.keep, logging.Formatter(LOG_FORMAT, LOG_TIME))
        log.propagate = False  # its lines go to the client
    with step("start") as notes:
        spark = SparkSession.builder.getOrCreate()
        keep_class_lookups(spark)
        notes.append(f"application {spark.sparkContext.applicationId}")
    try:
        if not arguments.keep:
            return attempt(spark, Job.read(arguments.job))
        driver.serve(
            lambda job: attempt(spark, Job.read(job)),
            lambda: release_memory(spark),
            log,
            can_run=lambda: cluster.has_application(spark),
            idle_seconds=arguments.idle,
        )
    finally:
        with step("stop"):
            spark.stop()
    return 0


def release_memory(spark: SparkSession) -> None:
    """Free a job's memory now, and not in the middle of the next job.

    Executors that hold rows are never idle for dynamic allocation, and Spark removes rows only after a garbage collection that
    finds no reference to them. The JVM keeps every object that Python had until py4j releases it, which a thread of
    py4j does up to a second later: too late for the collection here.
    """
    gc.collect()
    for rows in list(spark.sparkContext._jsc.getPersistentRDDs().values()):
        rows.unpersist(False)
    released = getattr(spark.sparkContext._gateway._gateway_client, "finalizer_deque", None) or ()
    with suppress(IndexError):  # that thread was faster
        for _ in range(len(released)):
            client, target = released.pop()
            client.garbage_collect_object(target, False)
    spark._jvm.System.gc()


def attempt(spark: SparkSession, job: Job) -> int:
    """Run one job and log its failure; returns 0 if the attempt is complete, else a status of problems.py."""
    log.info("%s batch %d attempt %d", job.pipeline, job.batch_id, job.attempt)
    try:
        # As settings of the session, not properties: a driver serves its properties to others.
        for name, value in {**job.session, **job.lake}.items():
            spark.conf.set(name, value)
        with cluster.watch_application(spark):
            run(spark, job)
    except Exception as error:
        stores = _addresses_of(job)
        remedy = error if isinstance(error, (JobFailed, pipelines.UnknownPipeline)) else explanation_of(error, **stores)
        failed = FAILED_FOR_GOOD if isinstance(error, JobRefused) else FAILED
        if remedy is None:
            log.exception(
                "%s batch %d attempt %d%s%s", job.pipeline, job.batch_id, job.attempt, failed, summary_of(error)
            )
        else:
            log.error("%s batch %d attempt %d%s%s", job.pipeline, job.batch_id, job.attempt, failed, remedy)
        return status_of(error, is_local=is_local(str(spark.sparkContext.master)))
    return 0


def _with_attempt(frame: DataFrame, attempt: int) -> DataFrame:
    return frame.select(F.lit(attempt).alias("attempt"), "*")


def _addresses_of(job: Job) -> dict[str, str]:
    host, port = (job.lake[f"spark.cassandra.connection.{name}"] for name in ("host", "port"))
    return {"lake": f"{host}:{port}", "warehouse": job.warehouse_url.split("/")[2]}


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None)


if __name__ == "__main__":
    sys.exit(main())
