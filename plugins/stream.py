"""The task of `<pipeline>_ingest` with MINUTEMARK_INGEST=spark: one spark-submit that streams the topic into the lake."""

from __future__ import annotations

import json
import shutil
from typing import Any

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from include import pipelines
from include.connections import KAFKA, LAKE_WRITER, SPARK, endpoint
from plugins import lineage
from plugins.attempt_operator import AttemptOperator


class StreamTopic(AttemptOperator):
    """One run of include/stream/run.py: until the next run's stream takes over, or its time is up.

    Passwords travel in a file of mode 0600, never in arguments, environment or rendered templates.
    """

    ui_color = "#e3f2d9"

    def __init__(self, *, pipeline: str, **kwargs: Any) -> None:
        super().__init__(conn_id=SPARK, **kwargs)
        self.pipeline = pipeline

    def execute(self, context: Context) -> None:
        from include.errors import MinutemarkError
        from include.operations.preflight import java_problem
        from include.stream import submission

        pipeline = pipelines.get(self.pipeline)
        if problem := java_problem():
            raise AirflowFailException(problem)
        try:
            spark = endpoint(SPARK)  # without a connection, the provider would use master=yarn
            self.submission = submission.prepare(pipeline, spark)
        except MinutemarkError as error:
            raise AirflowFailException(str(error)) from error
        self.name, self.spark = f"{pipeline.name}-ingest", spark
        self.application = self.submission.application
        try:
            super().execute(context)
            result = json.loads((self.submission.dir / "summary.json").read_text())
        except AirflowFailException:
            raise  # a retry would fail in the same way
        except AirflowException as error:
            raise AirflowException((self.hook and self.hook.reason) or str(error)) from error
        finally:
            # The folder holds the passwords.
            shutil.rmtree(self.submission.dir, ignore_errors=True)
        servers = str(endpoint(KAFKA).extra.get("bootstrap.servers", ""))
        self.lineage = lineage.ingest_lineage(pipeline, servers, endpoint(LAKE_WRITER), result["written"])
