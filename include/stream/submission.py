"""Prepares what spark-submit needs for a stream: the job with its accounts, properties, jars, and the project's code."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

from include.connections import Endpoint, endpoint
from include.pipelines import Pipeline
from include.spark.cluster import STANDALONE
from include.spark.installation import ROOT, CannotSubmit, jars_of, spark_defaults, spark_jars
from include.spark.jvm import environment, is_local
from include.spark.settings import authentication_problem, driver_properties, properties_text, runs_here
from include.spark.submission import Submission, private_folder, sweep, write_private
from include.stream.job import SECONDS, STORES, Job
from include.stream.kafka_clients import java_settings

APPLICATION = ROOT / "include" / "stream" / "run.py"
CHECKPOINTS = "MINUTEMARK_STREAM_CHECKPOINTS"
_TUNING = {
    "spark.driver.memory": "512m",
    "spark.sql.streaming.numRecentProgressUpdates": "4",
    "spark.sql.streaming.minBatchesToRetain": "2",
    "spark.sql.streaming.stopTimeout": "20s",
}


def stream_jars() -> list[str]:
    """Spark's Kafka source and its dependencies, from MINUTEMARK_STREAM_JARS or .local/stream. Raises CannotSubmit."""
    return jars_of(
        "include/stream/pom.xml",
        "MINUTEMARK_STREAM_JARS",
        ".local/stream",
        what="jars of Spark's Kafka source",
        condition=" if MINUTEMARK_INGEST=spark is set",
    )


def prepare(pipeline: Pipeline, spark: Endpoint, *, seconds: float = SECONDS, to_the_end: bool = False) -> Submission:
    """Write job and properties into a private folder. Raises MinutemarkError."""
    master = f"{spark.host}:{spark.port}" if spark.port else spark.host
    conf: Mapping[str, object] = spark.extra.get("conf") or {}
    jars = stream_jars()
    if problem := authentication_problem(master, conf):
        raise CannotSubmit(problem)
    if not runs_here(conf) or spark.extra.get("deploy-mode") == "cluster":
        raise CannotSubmit(
            "A stream's driver runs on this host (client mode): it commits the group's offsets and uses the connections. Set "
            'spark.submit.deployMode to "client", or leave it out, in spark-defaults.conf and in extra `conf` of '
            "spark_default, and leave out its extra `deploy-mode`."
        )
    stores = tuple(map(endpoint, STORES))
    kafka = java_settings(stores[-1].extra, spark.extra.get("kafka"))
    defaults = {**_TUNING, **_cores(master, pipeline), **spark_defaults()}
    # The class archive is valid only for the transform's class path, so the Kafka source comes with --jars.
    properties = driver_properties(master, {**defaults, **conf}, jars=spark_jars(), short_lived=False, others={})
    env_vars = environment(master)
    sweep()
    folder, lock = private_folder()  # late, because nobody removes it if this function fails
    job_file, properties_file = folder / "job", folder / "spark.properties"
    job = Job(
        pipeline=pipeline,
        seconds=seconds,
        to_the_end=to_the_end,
        checkpoints=os.environ.get(CHECKPOINTS) or f"file://{folder}/checkpoints",
        result=folder / "summary.json",
        stores=stores,
        kafka=kafka,
    )
    write_private(job_file, job.to_bytes())
    write_private(properties_file, properties_text(properties).encode())
    return Submission(
        application=str(APPLICATION),
        properties_file=str(properties_file),
        application_args=["--job", str(job_file)],
        job_file=job_file,
        driver_key=None,
        jars=",".join(jars),
        env_vars=env_vars,
        dir=folder,
        lock=lock,
        py_files=None if is_local(master) else str(archive_project(folder)),
    )


def _cores(master: str, pipeline: Pipeline) -> dict[str, str]:
    """A limit: on a standalone cluster, an application gets all cores by default, and the next one waits until it ends."""
    return {"spark.cores.max": str(pipeline.shards)} if master.startswith(STANDALONE) else {}


def archive_project(folder: Path) -> Path:
    """Write the code of include/ into an archive, for the Python workers of a cluster."""
    file = folder / "minutemark.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((ROOT / "include").rglob("*.py")):
            archive.write(path, path.relative_to(ROOT))
    return file
