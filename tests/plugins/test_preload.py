"""What Airflow's programs import before they fork tasks."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from local.layout import ROOT


def _state_after_start(component: str) -> dict:
    """The modules and the number of threads of a new process after the plugin's listener was called with `component`."""
    program = (
        "import json, os, sys\n"
        "from airflow.jobs.job import Job\n"
        "from airflow.sdk.execution_time.task_runner import TaskRunnerMarker\n"
        "from plugins.minutemark import MinutemarkPlugin\n"
        f"MinutemarkPlugin.listeners[0].on_starting(component={component})\n"
        "print(json.dumps({'modules': sorted(sys.modules), 'threads': len(os.listdir('/proc/self/task'))}))"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def program() -> dict:
    return _state_after_start("Job()")


def test_a_program_that_forks_tasks_imports_what_they_need(program):
    from plugins.preload import LIBRARIES

    assert set(LIBRARIES) <= set(program["modules"])


def test_a_program_that_forks_tasks_starts_no_thread_that_a_task_would_lack(program):
    assert program["threads"] == 1


def test_a_program_that_forks_tasks_imports_nothing_of_dags_so_that_the_next_task_sees_an_edit(program):
    assert not [name for name in program["modules"] if name.startswith(("include", "dags", "plugins.minute_dag"))]


def test_a_task_imports_only_what_it_uses():
    modules = _state_after_start("TaskRunnerMarker()")["modules"]
    assert "cassandra.cluster" not in modules
    assert "airflow.providers.apache.spark.operators.spark_submit" not in modules
