"""`@task` for functions whose data sets OpenLineage collects: Airflow's own `@task` reports only inlets and outlets."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from airflow.providers.openlineage.conf import is_disabled
from airflow.providers.standard.decorators.python import _PythonDecoratedOperator
from airflow.sdk import Context
from airflow.sdk.bases.decorator import task_decorator_factory

from include import pipelines
from plugins.lineage import Lineage
from plugins.lineage_operator import ReportsLineage

log = logging.getLogger(__name__)


class ReportingTask(ReportsLineage, _PythonDecoratedOperator):
    """Runs the function, whose arguments are names of pipelines, and then calls `data_sets` with these pipelines."""

    def __init__(self, *, data_sets: Callable[..., Lineage], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_sets = data_sets

    def execute(self, context: Context) -> Any:
        result = super().execute(context)
        if not is_disabled():
            self.report()
        return result

    def report(self) -> None:
        """Name the data sets. The work is done by then: if they cannot be named, the task does not fail."""
        try:
            self.lineage = self.data_sets(*map(pipelines.get, self.op_args))
        except Exception:
            log.warning("The data sets of this task could not be named; OpenLineage gets none.", exc_info=True)


def reporting_task(data_sets: Callable[..., Lineage], **kwargs: Any):
    """The decorator; `kwargs` as `@task` takes them."""
    return task_decorator_factory(decorated_operator_class=ReportingTask, data_sets=data_sets, **kwargs)
