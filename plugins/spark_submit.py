"""spark-submit for one attempt or stream: the provider's hook, which also records the reason of a failure.

Without a warm driver, the process of spark-submit ends when this one does (on Linux).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from include.connections import SPARK, Endpoint
from include.spark.installation import own_spark_submit
from include.spark.listener import end_with_parent
from include.spark.problems import FAILED, FAILED_FOR_GOOD
from include.spark.warm_driver import WarmDriver

if TYPE_CHECKING:
    from include.spark.submission import Submission


# These make Airflow parse only the DAG of the running task. A driver that outlives the task must not inherit them.
_TASK_VARIABLES = ("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "_AIRFLOW_PARSING_CONTEXT_TASK_ID")


class AttemptHook(SparkSubmitHook):
    """Submits one attempt or stream, to the warm driver of the submission's `driver_key` if it has one.

    After a failure, `reason` is what the driver logged about it, and `is_final` whether a retry would fail the same way.
    """

    def __init__(self, submission: Submission, spark: Endpoint, *, name: str, conf: dict[str, Any] | None) -> None:
        is_shared = submission.driver_key is not None  # with later batches: nothing may be specific to this task
        super().__init__(
            conf=None if is_shared else conf,
            conn_id=SPARK,
            name="minutemark" if is_shared else name,
            application_args=submission.application_args,
            jars=submission.jars,
            py_files=submission.py_files,
            properties_file=submission.properties_file,
            spark_binary=None if "spark-binary" in spark.extra else own_spark_submit(),
        )
        self._names_binary = "spark-binary" in spark.extra
        self.reason: str | None = None
        self.is_final = False
        self._submission = submission
        self._driver: WarmDriver | None = None

    def submit(self, application: str = "", **kwargs: Any) -> None:
        """Run the attempt or the stream. Raises AirflowException or DriverEnded; AirflowFailException without spark-submit."""
        try:
            self._run(application, kwargs)
        except FileNotFoundError as error:
            binary = self._connection["spark_binary"]
            if error.filename != binary:
                raise
            self.reason, self.is_final = self._not_found(binary), True
            raise AirflowFailException(self.reason) from error

    def _not_found(self, binary: str) -> str:
        other = (
            f"correct extra `spark-binary` of connection {SPARK!r}, or leave it out"
            if self._names_binary
            else "install pyspark in their environment"
        )
        return f"{binary} was not found. Put it on the PATH of Airflow's tasks, or {other}."

    def _run(self, application: str, kwargs: dict[str, Any]) -> None:
        # Passed as the operator's env_vars, these variables would become --conf on YARN and Kubernetes.
        environment = {**os.environ, **self._submission.env_vars}
        if self._submission.driver_key is None:
            if sys.platform == "linux":
                kwargs["preexec_fn"] = end_with_parent
            super().submit(application, env=environment, **kwargs)
            return
        for name in _TASK_VARIABLES:
            environment.pop(name, None)
        command = self._build_spark_submit_command(application)
        with WarmDriver(self._submission.driver_key, command, environment) as self._driver:
            status = self._driver.run(self._submission.job_file, lambda line: self.log.info("%s", self._read(line)))
        if status:
            raise AirflowException(f"The Spark driver ended the job with status {status}. Read its output above.")

    def on_kill(self) -> None:
        """Kill the Python driver too, a child of spark-submit: the provider kills only spark-submit."""
        import psutil

        if self._driver is not None:
            self._driver.end()
        if self._submit_sp is None:
            return
        children = []
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self._submit_sp.pid).children(recursive=True)
        super().on_kill()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()

    def _process_spark_submit_log(self, itr: Iterator[str]) -> None:
        super()._process_spark_submit_log(map(self._read, itr))

    def _read(self, line: str) -> str:
        for marker in (FAILED, FAILED_FOR_GOOD) if " minutemark " in line else ():
            if marker in line:
                self.reason, self.is_final = line.partition(marker)[2].strip(), marker == FAILED_FOR_GOOD
        return line
