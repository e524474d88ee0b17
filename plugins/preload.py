"""Imports what tasks need once in each program of Airflow, before it forks a process for each task.

A task of the chain runs for a fraction of a second, and half of its CPU time used to be imports.
"""

from __future__ import annotations

import importlib

from airflow.listeners import hookimpl

# Importing them opens no connection and starts no thread, so a fork does no harm.
MODULES = (
    "airflow.dag_processing.dagbag",
    "airflow.sdk.execution_time.task_runner",
    "cassandra.cluster",
    "MySQLdb",
    "include.planner",
    "include.warehouse.hours",
    "include.warehouse.session",
    "include.lake.session",
    "plugins.minute_dag",
)


class Preload:
    """A listener for the start of Airflow's programs."""

    @hookimpl
    def on_starting(self, component: object) -> None:
        """Scheduler, DAG processor and triggerer start with a `Job`; a task, with something else."""
        if type(component).__name__ == "Job":  # by its name: a task must not import its class
            for name in MODULES:
                importlib.import_module(name)
