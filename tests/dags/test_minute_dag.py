"""The chain that all pipelines share: same five steps, same limits."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.exceptions import ParamValidationError

from include import pipelines
from tests.airflow_home import PROJECT

CHAIN = ["wait_for_changes", "transform_delta", "check_staging", "merge_into_warehouse", "check_warehouse"]
KINDS = ("minute", "reconcile")


@pytest.fixture(params=[(name, kind) for name in pipelines.all_pipelines() for kind in KINDS], ids="_".join)
def dag(request, dags):
    return dags["_".join(request.param)]


def test_five_steps_one_after_the_other(dag):
    assert [task.task_id for task in dag.topological_sort()] == CHAIN
    edges = {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks}
    assert edges == {step: [following] for step, following in zip(CHAIN, CHAIN[1:], strict=False)} | {CHAIN[-1]: []}


def test_drivers_share_a_pool_and_no_merge_waits_for_another_pipeline(dag):
    assert {task.task_id: task.pool for task in dag.tasks} == {
        "wait_for_changes": "default_pool",
        "transform_delta": "spark",
        "check_staging": "default_pool",
        "merge_into_warehouse": "default_pool",
        "check_warehouse": "default_pool",
    }


def test_steps_are_retried_twice_after_ten_seconds(dag):
    assert {(task.retries, task.retry_delay) for task in dag.tasks} == {(2, timedelta(seconds=10))}


def test_the_minute_has_priority_over_the_reconciliation(dags):
    def weights(kind):
        return {task.priority_weight for name in pipelines.all_pipelines() for task in dags[f"{name}_{kind}"].tasks}

    assert min(weights("minute")) > max(weights("reconcile"))


def test_the_form_has_from_to_allow_shrink_and_the_options(dags):
    for name, pipeline in pipelines.all_pipelines().items():
        form = dags[f"{name}_minute"].params.dump()
        assert form == {"from": None, "to": None, "allow_shrink": False, **pipeline.options}


def test_runs_start_each_minute_or_when_the_previous_run_ends(dags, schedule):
    summary, wait = {"minute": ("* * * * *", 45), "continuous": ("continuous", 120)}[schedule]
    for name in pipelines.all_pipelines():
        minute, reconcile = dags[f"{name}_minute"], dags[f"{name}_reconcile"]
        assert after_serialization(minute).timetable.summary == summary
        assert after_serialization(minute).timetable.periodic, "Airflow would refuse a backfill of it."
        assert minute.get_task("wait_for_changes").patience == timedelta(seconds=wait)
        assert after_serialization(reconcile).timetable.summary != "continuous"


def after_serialization(dag):
    from airflow.serialization.serialized_objects import DagSerialization

    return DagSerialization.from_dict(DagSerialization.to_dict(dag))


def test_documentation_in_the_ui_describes_every_step(dag):
    assert all(f"**{step}**" in dag.doc_md for step in CHAIN)


def test_factory_names_no_pipeline():
    for path in (
        "plugins/minute_dag.py",
        "dags/minute.py",
        "dags/reconcile.py",
        "plugins/changes.py",
        "plugins/transform.py",
    ):
        text = (PROJECT / path).read_text()
        assert not [name for name in pipelines.all_pipelines() if name in text], path


def test_the_form_refuses_an_option_of_another_type(dags):
    option = dags["recruitment_minute"].params.get_param("recover")
    assert option.resolve(value=False) is False
    with pytest.raises(ParamValidationError, match="is not of type 'boolean'"):
        option.resolve(value="false")
