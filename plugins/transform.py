"""The second task of the chain: one Spark job that reads the batch's minutes and fills staging."""

from __future__ import annotations

import shutil
from typing import Any

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from include import pipelines
from include.connections import LAKE_READER, SPARK, WAREHOUSE_ETL, Endpoint, endpoint
from include.spark.listener import IDLE_SECONDS, MAX_AGE_SECONDS
from include.spark.warm_driver import DriverEnded
from plugins import lineage
from plugins.attempt_operator import AttemptOperator
from plugins.batch import batch_id_of


class TransformDelta(AttemptOperator):
    """Runs include/spark/run.py for one batch, as a new attempt of it.

    In client mode spark-submit starts a driver that keeps running and takes the next batches too, on any master.
    In cluster mode, and if extra `keep_driver` of the Spark connection is false, each attempt runs its own spark-submit.

    The stores' passwords travel in the job's file, of mode 0600, never in arguments, Spark properties, environment or
    rendered templates.
    """

    template_fields = (*AttemptOperator.template_fields, "batch_id")

    def __init__(self, *, pipeline: str, batch_id: str, **kwargs: Any) -> None:
        super().__init__(conn_id=SPARK, **kwargs)
        self.pipeline = pipeline
        self.batch_id = batch_id

    def execute(self, context: Context) -> None:
        from include.errors import MinutemarkError
        from include.operations.preflight import java_problem
        from include.spark import submission
        from include.spark.installation import CannotSubmit
        from include.warehouse import batches
        from include.warehouse.errors import BatchRefused
        from include.warehouse.session import warehouse

        batch_id = batch_id_of(self.batch_id, self.pipeline)
        spark = endpoint(SPARK)  # without a connection, the provider would use master=yarn
        master = f"{spark.host}:{spark.port}" if spark.port else spark.host
        if problem := java_problem():
            raise AirflowFailException(problem)
        idle_seconds, keep_driver = idle_seconds_of(spark), keeps_driver(spark)
        lake, target = endpoint(LAKE_READER), endpoint(WAREHOUSE_ETL)
        try:
            with warehouse(target) as conn:
                batch = batches.get(conn, batch_id)
                if batch.state in ("merged", "skipped"):
                    self.log.info("Batch %s is already %s: there is nothing to transform.", batch.batch_id, batch.state)
                    return
                attempt = batches.new_attempt(conn, batch.batch_id)
        except BatchRefused as refused:
            raise AirflowFailException(str(refused)) from None

        def record_failure(reason: str) -> None:
            """Without the warehouse, the task still fails with its own reason, which its log has too."""
            try:
                with warehouse(target) as conn:
                    batches.record_failure(conn, batch.batch_id, f"transform_delta: {reason}")
            except MinutemarkError as error:
                self.log.warning("The reason of the failure is not in etl.batches: %s", error)

        self.log.info("Submitting batch %s of %s, attempt %s, to %s.", batch.batch_id, batch.pipeline, attempt, master)
        self.lineage = lineage.transform_lineage(pipelines.get(batch.pipeline), lake, target)
        self.name = f"{batch.pipeline}-batch-{batch.batch_id}-attempt-{attempt}"
        self.spark = spark
        try:
            self.submission = submission.prepare(
                batch,
                attempt,
                lake=lake,
                warehouse=target,
                master=master,
                conf=spark.extra.get("conf"),
                keep=keep_driver,
                idle_seconds=idle_seconds,
                extra=spark.extra,
            )
        except CannotSubmit as error:
            record_failure(str(error))
            raise AirflowFailException(str(error)) from error
        self.application = self.submission.application
        try:
            super().execute(context)
        except (AirflowException, DriverEnded) as error:
            hook = self.hook  # None if it could not be created
            reason = hook.reason if hook and hook.reason else str(error)
            is_final = hook.is_final if hook else isinstance(error, AirflowFailException)
            record_failure(reason)
            raise (AirflowFailException if is_final else AirflowException)(reason) from error
        finally:
            # The folder holds the passwords.
            shutil.rmtree(self.submission.dir, ignore_errors=True)


def idle_seconds_of(spark: Endpoint) -> float:
    """How long an idle driver of this connection keeps running: the connection's extra `driver_idle_seconds`."""
    value = spark.extra.get("driver_idle_seconds", IDLE_SECONDS)
    try:
        seconds = -1.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 <= seconds <= MAX_AGE_SECONDS:
        raise AirflowFailException(
            f"Connection {SPARK!r} cannot be used: its extra driver_idle_seconds is {value!r}. Set it to a number of "
            f"seconds from 0 to {MAX_AGE_SECONDS}."
        )
    return seconds


def keeps_driver(spark: Endpoint) -> bool:
    """Whether a driver stays warm: not in cluster mode, nor if the connection's extra `keep_driver` is false.

    In a connection that is written as a URI, the values of the extra are strings.
    """
    value = spark.extra.get("keep_driver", True)
    text = str(value).lower()
    if text not in ("true", "false"):
        raise AirflowFailException(
            f"Connection {SPARK!r} cannot be used: its extra keep_driver is {value!r}. Set it to true or false."
        )
    return text == "true" and spark.extra.get("deploy-mode") != "cluster"
