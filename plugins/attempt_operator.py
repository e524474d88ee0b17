"""The base of operators that run a prepared submission with the project's hook, and end it when the task is killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowFailException

from include.connections import SPARK, Endpoint
from plugins.lineage_operator import ReportsLineage, hidden_while_idle

with hidden_while_idle():
    from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator

    from plugins.spark_submit import AttemptHook

if TYPE_CHECKING:
    from include.spark.submission import Submission


class AttemptOperator(ReportsLineage, SparkSubmitOperator):
    """Subclasses set `name`, `application`, `spark` and `submission` in execute(), and then call super().execute()."""

    spark: Endpoint
    submission: Submission
    hook: AttemptHook | None = None  # set once the attempt starts

    def on_kill(self) -> None:
        if self.hook is not None:
            self.hook.on_kill()

    def _get_hook(self) -> AttemptHook:
        """`execute` of SparkSubmitOperator calls this when `conf` is complete."""
        try:
            self.hook = AttemptHook(self.submission, self.spark, name=self.name, conf=self.conf)
        except (ValueError, RuntimeError) as error:  # an extra of the connection, or a package that its master needs
            raise AirflowFailException(
                f"Connection {SPARK!r} cannot be used: {str(error).rstrip('.! ')}. Correct the connection, or install the "
                "package that it needs."
            ) from error
        return self.hook
