"""What Airflow's programs import before they fork tasks."""

from __future__ import annotations

import json
import subprocess
import sys

from local.layout import ROOT


def _modules_after(start: str) -> dict:
    """What a new process has imported, and its threads, after the plugin's listener was called."""
    program = (
        "import json, sys, threading\n"
        "from airflow.jobs.job import Job\n"
        "from airflow.sdk.execution_time.task_runner import TaskRunnerMarker\n"
        "from plugins.minutemark import MinutemarkPlugin\n"
        f"MinutemarkPlugin.listeners[0].on_starting(component={start})\n"
        "from plugins.preload import MODULES\n"
        "print(json.dumps([[name for name in MODULES if name in sys.modules], list(MODULES), threading.active_count()]))"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    imported, wanted, threads = json.loads(result.stdout.splitlines()[-1])
    return {"imported": imported, "wanted": wanted, "threads": threads}


def test_a_program_that_starts_tasks_imports_once_what_they_need_and_starts_no_thread_that_a_fork_would_lose():
    after = _modules_after("Job()")
    assert after["imported"] == after["wanted"]
    assert after["threads"] == 1


def test_a_task_imports_only_what_it_uses():
    after = _modules_after("TaskRunnerMarker()")
    assert "cassandra.cluster" not in after["imported"]
    assert "include.planner" not in after["imported"]
