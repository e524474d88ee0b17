"""The DAGs of the lakehouse: outside the chain and its pool, and only if the lakehouse is on."""

from tests.airflow_home import PROJECT


def test_events_are_written_and_counted_outside_the_spark_pool(dags):
    dag = dags["ecommerce_lakehouse"]
    assert [(task.task_id, task.downstream_task_ids) for task in dag.tasks] == [
        ("write_events", {"count_hours", "all_succeeded"}),
        ("count_hours", {"load_into_bigquery", "all_succeeded"}),
        ("load_into_bigquery", {"all_succeeded"}),
        ("all_succeeded", set()),
    ]
    assert [task.trigger_rule for task in dag.tasks] == ["all_success", "all_done", "all_done", "all_success"], (
        "A failed task must not keep later tasks from running; all_succeeded then fails the run."
    )
    assert {task.pool for task in dag.tasks} == {"default_pool"}
    assert [task.task_id for task in dags["ecommerce_lakehouse_upkeep"].tasks] == ["upkeep"]


def test_without_a_dataset_nothing_is_loaded_into_bigquery(monkeypatch):
    from airflow.models import DagBag

    monkeypatch.setenv("MINUTEMARK_LAKEHOUSE", "file:///lakehouse")
    monkeypatch.delenv("MINUTEMARK_BIGQUERY", raising=False)
    dag = DagBag(str(PROJECT / "dags" / "lakehouse.py")).dags["ecommerce_lakehouse"]
    assert dag.task_ids == ["write_events", "count_hours", "all_succeeded"]


def test_there_is_no_lakehouse_dag_without_the_declaration_or_without_the_setting(dags, monkeypatch):
    from airflow.models import DagBag

    assert "recruitment_lakehouse" not in dags
    monkeypatch.delenv("MINUTEMARK_LAKEHOUSE", raising=False)
    assert DagBag(str(PROJECT / "dags" / "lakehouse.py")).dags == {}
