"""`./minutemark ingest`: runs a stream if MINUTEMARK_INGEST=spark. Otherwise, or with --again, calls include/kafka/ingest.py."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from include import pipelines
from include.connections import SPARK, endpoint
from include.errors import MinutemarkError
from include.kafka import ingest
from include.kafka.ingest_mode import DAG, group_of, ingest_mode
from include.kafka.ingest_mode import SPARK as BY_SPARK
from include.kafka.topics import has_members
from include.pipelines import Pipeline
from include.spark.installation import CannotSubmit, own_spark_submit
from include.spark.listener import end_with_parent
from include.spark.problems import FAILED
from include.stream import submission

_SHOWN_LINES = 15


class StreamFailed(MinutemarkError):
    """A stream failed; the message says why."""


@dataclass(frozen=True)
class StreamSummary:
    """What one stream wrote, as counted by its driver."""

    written: int
    refused: int
    taken_over: bool
    lines: tuple[str, ...]  # of its log

    def __str__(self) -> str:
        return "\n".join(self.lines)


def consume(pipeline: str, seconds: float | None = None, again: bool = False) -> object:
    """Consume a pipeline's topic, up to its end or for `seconds`; with `again`, all messages that the topic still has."""
    if ingest_mode() != BY_SPARK or again:
        return ingest.consume(pipeline, seconds, again)
    declared = pipelines.get(pipeline)
    if has_members(group_of(declared.name, DAG)):
        raise StreamFailed(
            f"{declared.name}_ingest or another `./minutemark ingest` is consuming {declared.topic}, or was consuming it until "
            "it failed or was killed less than a minute ago. This command would end it, and the DAG might not start the next "
            "stream for ten minutes. Pause the DAG and mark its run as failed, or wait until the other command ends, and "
            "repeat this command. If nothing is consuming the topic, wait a minute and repeat it."
        )
    return run_stream(declared, seconds=seconds)


def run_stream(
    pipeline: Pipeline, *, seconds: float | None = None, report: Callable[[str], object] = lambda _: None
) -> StreamSummary:
    """Run one stream with spark-submit: up to the end of the topic, or for `seconds`.

    `report` gets each line of the stream's log. Raises StreamFailed, and what submission.prepare raises.
    """
    prepared = submission.prepare(
        pipeline, endpoint(SPARK), seconds=float("inf") if seconds is None else seconds, to_the_end=seconds is None
    )
    try:
        lines = []
        with subprocess.Popen(
            command(prepared, endpoint(SPARK)),
            env={**os.environ, **prepared.env_vars},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            preexec_fn=end_with_parent,
        ) as process:
            for line in process.stdout or ():
                lines.append(line.rstrip())
                report(lines[-1])
        if process.returncode:
            reasons = [line.partition(FAILED)[2] for line in lines if FAILED in line and " minutemark " in line]
            raise StreamFailed("; ".join(reasons) or "\n".join(lines[-_SHOWN_LINES:]))
        result = json.loads((prepared.dir / "summary.json").read_text())
        return StreamSummary(**result, lines=tuple(line for line in lines if " minutemark " in line))
    finally:
        shutil.rmtree(prepared.dir, ignore_errors=True)  # it holds the passwords


def command(prepared: submission.Submission, spark) -> list[str]:
    """The command line. Every user of the machine can see it, so it contains no credentials. Raises CannotSubmit."""
    if (binary := own_spark_submit() or shutil.which("spark-submit")) is None:
        raise CannotSubmit("spark-submit was not found. Put it on the PATH, or install pyspark in this environment.")
    master = f"{spark.host}:{spark.port}" if spark.port else spark.host
    arguments = [binary, "--master", master]
    arguments += ["--properties-file", prepared.properties_file, "--jars", prepared.jars or ""]
    if prepared.py_files:
        arguments += ["--py-files", prepared.py_files]
    return [*arguments, prepared.application, *prepared.application_args]
