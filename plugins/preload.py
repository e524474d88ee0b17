"""Imports the libraries of tasks once, when one of Airflow's programs starts, and not again in each process that it forks.

Most tasks of the minute DAG run for a fraction of a second, and imports were half of their CPU time. The LocalExecutor
forks a process for each task, and the DAG processor one for each file. Celery's workers do not call this listener.
"""

from __future__ import annotations

import contextlib
import importlib
import os

from airflow.listeners import hookimpl

# No module of the project: edited code takes effect with the next task. None of these opens a connection when imported.
LIBRARIES = (
    "airflow.dag_processing.dagbag",
    "airflow.providers.apache.spark.operators.spark_submit",
    "airflow.providers.openlineage.extractors",
    "airflow.providers.standard.decorators.python",
    "airflow.sdk.execution_time.task_runner",
    "cassandra.cluster",
    "MySQLdb",
)


class Preload:
    """A listener for the start of Airflow's programs."""

    @hookimpl
    def on_starting(self, component: object) -> None:
        """Import LIBRARIES in the scheduler, the DAG processor and the triggerer, whose component is a `Job`; a task's is not."""
        if type(component).__name__ != "Job":  # by its name: a task must not import its class
            return
        # The Cassandra driver imports NumPy, whose BLAS would start a thread for each core. A fork does not copy threads.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        for name in LIBRARIES:
            with contextlib.suppress(ImportError):  # an optional library; the task that needs it reports the error
                importlib.import_module(name)
