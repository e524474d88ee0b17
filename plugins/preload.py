"""Imports libraries that tasks need once in each program of Airflow that forks tasks.

A task of the minute DAG runs for a fraction of a second, and imports were half of its CPU time. The LocalExecutor and the
DAG processor fork their programs' processes. Celery's workers do not load this, and import for each task.
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
        """Scheduler, DAG processor and triggerer start with a `Job`; a task starts with another component."""
        if type(component).__name__ != "Job":  # by its name: a task must not import its class
            return
        # The Cassandra driver imports NumPy, whose BLAS would start a thread for each core; a forked process has none of them.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        for name in LIBRARIES:
            with contextlib.suppress(ImportError):  # an optional library; the task that needs it reports the error
                importlib.import_module(name)
