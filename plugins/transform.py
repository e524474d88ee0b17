"""The second task of the chain: one spark-submit that reads the batch's minutes and fills staging."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from include import pipelines
from include.connections import LAKE_READER, SPARK, WAREHOUSE_ETL, endpoint
from include.spark.listener import end_with_parent
from include.spark.problems import FAILED, FAILED_FOR_GOOD
from include.spark.warm_driver import DriverEnded, WarmDriver
from plugins import lineage
from plugins.batch import batch_id_of
from plugins.lineage_operator import ReportsLineage, left_out_while_idle

with left_out_while_idle():
    from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.spark.submission import Submission

PROJECT = Path(__file__).resolve().parent.parent


class TransformDelta(ReportsLineage, SparkSubmitOperator):
    """Runs include/spark/run.py for one batch, as a new attempt of it.

    On a local master spark-submit starts a driver that stays and takes the next batches too; elsewhere, and where extra
    `keep_driver` of the Spark connection is false, each attempt is a spark-submit of its own.

    Passwords travel in a properties file of mode 0600, never in arguments, environment or rendered templates.
    """

    template_fields = (*SparkSubmitOperator.template_fields, "batch_id")

    def __init__(self, *, pipeline: str, batch_id: str, **kwargs: Any) -> None:
        super().__init__(conn_id=SPARK, **kwargs)
        self.pipeline = pipeline
        self.batch_id = batch_id

    def execute(self, context: Context) -> None:
        from include.operations.preflight import java_problem
        from include.spark import submission
        from include.warehouse import batches
        from include.warehouse.errors import BatchRefused
        from include.warehouse.session import warehouse

        batch_id = batch_id_of(self.batch_id, self.pipeline)
        spark = endpoint(SPARK)  # the provider would take a missing connection for master=yarn
        master = f"{spark.host}:{spark.port}" if spark.port else spark.host
        if problem := java_problem():
            raise AirflowFailException(problem)
        lake, target = endpoint(LAKE_READER), endpoint(WAREHOUSE_ETL)
        try:
            with warehouse(target) as conn:
                batch = batches.get(conn, batch_id)
                if batch.state in ("merged", "skipped"):
                    self.log.info("Batch %s is %s already: nothing to transform.", batch.batch_id, batch.state)
                    return
                attempt = batches.mint_attempt(conn, batch.batch_id)
        except BatchRefused as refused:
            raise AirflowFailException(str(refused)) from None
        self.log.info("Batch %s of %s, attempt %s, on %s.", batch.batch_id, batch.pipeline, attempt, master)
        self.lineage = lineage.of_transform(pipelines.get(batch.pipeline), lake, target)
        self.name = f"{batch.pipeline}-batch-{batch.batch_id}-attempt-{attempt}"
        submitted = submission.prepare(
            submission.Delta.of(batch),
            attempt,
            lake=lake,
            warehouse=target,
            master=master,
            estimated_rows=batch.estimated_rows,
            settings=spark.extra.get("conf"),
            keep=bool(spark.extra.get("keep_driver", True)),
        )
        self._spark_binary = None if "spark-binary" in spark.extra else own_spark_submit()
        try:
            self._submit(submitted, master, context)
        except (AirflowException, DriverEnded) as error:
            reason = self._said or str(error)
            with warehouse(target) as conn:
                batches.note(conn, batch.batch_id, f"transform_delta: {reason}")
            raise (AirflowFailException if self._for_good else AirflowException)(reason) from error
        finally:
            shutil.rmtree(submitted.dir, ignore_errors=True)  # it holds the passwords; a sweep may be quicker

    def on_kill(self) -> None:
        """The provider kills spark-submit alone; its Python driver is a child of it."""
        import psutil

        if self._kept is not None:
            self._kept.end()
            return
        started = self._hook and self._hook._submit_sp
        if not started:
            return
        children = []
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(started.pid).children(recursive=True)
        super().on_kill()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()

    def _submit(self, submitted: Submission, master: str, context: Context) -> None:
        self.application = submitted.application
        self.properties_file = submitted.properties_file
        self.application_args = submitted.application_args
        self.jars = submitted.jars
        with environment({**submitted.env_vars, **driver_environment(master)}):
            if submitted.driver_key is None:
                super().execute(context)
            else:
                self._run_on_warm_driver(submitted)

    def _run_on_warm_driver(self, submitted: Submission) -> None:
        """The driver that an earlier attempt has started does it, or one that this attempt starts."""
        self.name = "minutemark"  # it will do other batches too
        command = self._get_hook()._build_spark_submit_command(self.application)
        with WarmDriver(submitted.driver_key, command, os.environ) as self._kept:
            status = self._kept.run(submitted.job_file, lambda line: self._show([line]))
        if status:
            raise AirflowException(f"The Spark driver answered with {status}.")

    _kept: WarmDriver | None = None
    _said: str | None = None  # what the driver gave as the reason of its failure
    _for_good: bool = False  # another try would fail the same way

    def _show(self, lines: Iterable[str]) -> None:
        for line in self._listening(lines):
            self.log.info("%s", line)

    def _get_hook(self) -> SparkSubmitHook:
        hook = super()._get_hook()
        if sys.platform == "linux":
            hook.submit = functools.partial(hook.submit, preexec_fn=end_with_parent)
        show = hook._process_spark_submit_log
        hook._process_spark_submit_log = lambda lines: show(iter(self._listening(lines)))
        return hook

    def _listening(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            for sign in (FAILED, FAILED_FOR_GOOD) if " minutemark " in line else ():
                if sign in line:
                    self._said, self._for_good = line.partition(sign)[2].strip(), sign == FAILED_FOR_GOOD
            yield line


def own_spark_submit() -> str | None:
    """The spark-submit beside the running interpreter, whatever PATH says; None to leave it to PATH."""
    beside = Path(sys.executable).parent / "spark-submit"
    return str(beside) if beside.exists() else None


def driver_environment(master: str) -> dict[str, str]:
    """What the driver, a child of this process in client mode, needs to find: this Python and this project."""
    variables = {
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH")))),
    }
    if master.startswith("local"):
        variables["PYSPARK_PYTHON"] = sys.executable
    return variables


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets environment variables for a while. The operator's env_vars would become --conf on YARN and Kubernetes."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
