"""Rules for every DAG of the project. A failure says how to comply."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import timedelta

import pytest
import yaml

from tests.airflow_home import PROJECT, bare_environment

HEAVY = (
    "pyspark",
    "cassandra",
    "MySQLdb",
    "mysql.connector",
    "confluent_kafka",
    "airflow.providers.apache.kafka.hooks.base",
    "pandas",
    "numpy",
    "include.spark.run",
    "airflow.providers.smtp.notifications.smtp",
    "aiosmtplib",
)


def offenders(dags, complaint) -> str:
    """The problems of all DAGs, one per line."""
    return "\n".join(f"{dag_id}: {text}" for dag_id, dag in sorted(dags.items()) if (text := complaint(dag)))


def test_dag_names_an_owner(dags):
    assert not offenders(
        dags, lambda dag: dag.owner in ("", "airflow") and "set owner in default_args to the responsible team."
    )


def test_dag_has_the_tag_of_the_project(dags):
    assert not offenders(dags, lambda dag: "minutemark" not in dag.tags and 'add "minutemark" to tags=.')


def test_dag_explains_itself_in_the_ui(dags):
    assert not offenders(dags, lambda dag: len(dag.doc_md or "") < 60 and "set doc_md to its numbered steps.")


def test_dag_does_not_catch_up(dags):
    assert not offenders(
        dags, lambda dag: dag.catchup and "set catchup=False: what was missed is pending in the ledger."
    )


def test_dag_runs_once_at_a_time(dags):
    def complaint(dag):
        # A run of an ingest DAG takes over while its predecessor still follows the topic.
        max_runs = 2 if "ingest" in dag.tags else 1
        return dag.max_active_runs != max_runs and f"set max_active_runs={max_runs}."

    assert not offenders(dags, complaint)


def test_dag_run_has_a_timeout(dags):
    assert not offenders(dags, lambda dag: dag.dagrun_timeout is None and "set dagrun_timeout.")


def test_dag_notifies_of_a_failed_run(dags):
    from plugins.notifiers import NotifyFailedRun

    def complaint(dag):
        callbacks = dag.on_failure_callback
        listed = callbacks if isinstance(callbacks, list) else [callbacks]
        notifies = any(isinstance(callback, NotifyFailedRun) for callback in listed)
        return not notifies and "set on_failure_callback=NotifyFailedRun() of plugins/notifiers.py."

    assert not offenders(dags, complaint)


def test_task_retries_soon(dags):
    def complaint(dag):
        if dag.default_args.get("retries", 0) < 2:
            return "set retries of at least 2 in default_args."
        slow = [task.task_id for task in dag.tasks if task.retries and task.retry_delay > timedelta(seconds=30)]
        return slow and f"set retry_delay of {slow} to 30 s or less; Airflow's default is 5 minutes."

    assert not offenders(dags, complaint)


def test_task_has_a_timeout(dags):
    def complaint(dag):
        endless = [task.task_id for task in dag.tasks if task.execution_timeout is None]
        return endless and f"set execution_timeout of {endless}."

    assert not offenders(dags, complaint)


def test_pool_of_every_task_is_in_airflow_settings(dags):
    settings = yaml.safe_load((PROJECT / "airflow_settings.yaml").read_text())
    pools = {pool["pool_name"] for pool in settings["airflow"]["pools"]} | {"default_pool"}

    def complaint(dag):
        unknown = {task.pool for task in dag.tasks} - pools
        return unknown and f"add {unknown} to pools in airflow_settings.yaml, which has only {pools}."

    assert not offenders(dags, complaint)


def test_preflight_knows_all_tasks_that_may_take_the_slots_of_a_pool(dags):
    from dags.operations import POOLS, users_of_pools

    in_pools = {pool: [] for pool in POOLS}
    for dag in dags.values():
        for task in dag.tasks:
            if task.pool != "default_pool" and not task.task_id.startswith("try_pool_"):
                in_pools.setdefault(task.pool, []).append((dag.dag_id, task.task_id))
    assert {pool: sorted(users) for pool, users in users_of_pools().items()} == {
        pool: sorted(users) for pool, users in in_pools.items()
    }


def test_periodic_dag_has_intervals_that_a_backfill_can_process(dags):
    def complaint(dag):
        import pendulum
        from airflow.serialization.serialized_objects import DagSerialization

        timetable = DagSerialization.from_dict(DagSerialization.to_dict(dag)).timetable
        if not timetable.periodic:
            return None
        interval = timetable.infer_manual_data_interval(run_after=pendulum.now("UTC"))
        return (
            interval.start >= interval.end
            and "use CronDataIntervalTimetable, not a cron string: its interval is empty."
        )

    assert not offenders(dags, complaint)


def test_dag_is_serialized_for_the_scheduler(dags):
    from airflow.serialization.serialized_objects import DagSerialization

    def complaint(dag):
        try:
            json.dumps(DagSerialization.to_dict(dag))
        except Exception as error:
            return f"{error}. Is the plugins folder set, and the class registered in plugins/minutemark.py?"
        return None

    assert not offenders(dags, complaint)


PARSE = """
import socket, sys
def refuse(*args, **kwargs):
    raise AssertionError(f"a connection to {args[-1:]} was opened while DAG files were parsed")
socket.socket.connect = refuse
from airflow.models import DagBag
from airflow.sdk import BaseHook
BaseHook.get_connection = refuse
bag = DagBag("dags")
for path, error in bag.import_errors.items():
    print("ERROR", path, error)
print("DAGS", *sorted(bag.dags))
print("MODULES", *sys.modules)
"""


def parse(**environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PARSE],
        cwd=PROJECT,
        env=bare_environment(**environment),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def parse_output() -> str:
    """Output of a fresh interpreter that parses the DAG files without stores, Java or connections."""
    return parse(MINUTEMARK_DEMO="1", MINUTEMARK_INGEST="dag")


def test_parsing_opens_no_connection(parse_output):
    errors = re.findall(r"^ERROR .*", parse_output, re.MULTILINE)
    assert not errors, f"Move code that connects to a store into execute(): {errors}"


@pytest.mark.parametrize("module", HEAVY)
def test_parsing_imports_nothing_heavy(parse_output, module):
    loaded = re.search(r"^MODULES (.*)", parse_output, re.MULTILINE)[1].split()
    assert module not in loaded, f"A DAG file imports {module} at its top: import it inside execute(), or the task."


def test_demo_dags_exist_only_with_the_demo_setting(parse_output):
    for dag_id in (" recruitment_demo_traffic", " recruitment_demo_past", " ecommerce_demo_past"):
        assert dag_id in parse_output
        assert dag_id not in parse()


@pytest.mark.parametrize("ingest_mode", ["", "connect"])
def test_dags_follow_topics_in_dag_mode_but_not_without_a_mode_or_with_connect(parse_output, ingest_mode):
    assert " recruitment_ingest" in parse_output
    result = parse(MINUTEMARK_INGEST=ingest_mode)
    assert " recruitment_minute" in result and " recruitment_ingest" not in result
    assert (" minutemark_dead_letters" in result) == (ingest_mode == "connect")


def test_parsing_for_streams_opens_no_connection_and_imports_nothing_heavy():
    result = parse(MINUTEMARK_INGEST="spark")
    assert " recruitment_ingest" in result and " minutemark_dead_letters" not in result
    assert not re.findall(r"^ERROR .*", result, re.MULTILINE)
    assert not set(HEAVY) & set(re.search(r"^MODULES (.*)", result, re.MULTILINE)[1].split())


def test_an_unknown_schedule_is_an_import_error_that_names_the_valid_ones():
    errors = re.findall(r"^ERROR .*|^\S*UnknownSchedule.*", parse(MINUTEMARK_SCHEDULE="hourly"), re.MULTILINE)
    assert len([line for line in errors if line.startswith("ERROR")]) == 1
    assert "MINUTEMARK_SCHEDULE is 'hourly'. Set it to minute or continuous, or leave it empty." in errors[-1]


def test_form_fields_say_what_they_do(dags):
    def complaint(dag):
        for name in dag.params:
            text = dag.params.get_param(name).description or ""
            if len(text) < 15 or not text.endswith("."):
                return f"describe the param {name} in a sentence or two; it says {text!r}."
        return None

    assert not offenders(dags, complaint)


def test_description_is_a_sentence(dags):
    assert not offenders(
        dags, lambda dag: not (dag.description or "").endswith(".") and "say in a sentence what it does."
    )


def test_the_process_of_a_task_makes_the_dags_of_its_pipeline_only(monkeypatch):
    """The cost of parsing must not grow with the number of pipelines: each start of a task parses the file again."""
    from airflow.models import DagBag
    from airflow.sdk.definitions._internal import dag_parsing_context

    for dag_id in ("recruitment_minute", "recruitment_reconcile"):
        with monkeypatch.context() as task:  # Airflow's own context manager leaves the variable set
            task.setenv(dag_parsing_context._AIRFLOW_PARSING_CONTEXT_DAG_ID, dag_id)
            bag = DagBag(str(PROJECT / "dags" / f"{dag_id.removeprefix('recruitment_')}.py"))
        assert bag.import_errors == {}
        assert set(bag.dags) == {dag_id}
