"""Copies the events of settled minutes into an Apache Iceberg table, and counts hours from that table alone.

1. **write_events** finds the minutes whose newest merged read is not yet in the table, reads them from the lake by key, and
   replaces their rows in the table, with at most about 200,000 events in a commit. Most minutes are written once, a
   minute or two after their merge.
2. **count_hours** counts the hours whose events changed, with DuckDB over the table's files, and compares them with the
   fact of the warehouse. An hour that agrees gets a small Parquet file, or keeps its last one while one of its
   minutes is not in the table as it was last merged. If an hour differs, the task fails and names it.
3. **load_into_bigquery**, if `MINUTEMARK_BIGQUERY` names a dataset, starts a load job for the file of each hour that was
   counted since its last load.

A run with the parameters `from` and `to`, or a backfill, writes the minutes of that range again, except closed ones: this
repairs a table whose rows or files were deleted. Every hour, **upkeep** compacts the files of past hours, expires replaced
snapshots and deletes files that no snapshot names.

The runs are outside the chain of `<pipeline>_minute`, and need no Spark. These DAGs exist if `MINUTEMARK_LAKEHOUSE` sets
the location of the files, for pipelines that declare a `lakehouse`.
"""

import os
from datetime import timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, CronDataIntervalTimetable, Param, chain, task

from include import pipelines
from include.bigquery.settings import SETTING as BIGQUERY
from include.lakehouse.settings import SETTING
from plugins import lineage
from plugins.minute_dag import SETTINGS
from plugins.parsing import parsed_pipelines
from plugins.reporting_task import reporting_task

RANGE = {
    "from": Param(None, type=["null", "string"], description="First minute to write again (UTC)."),
    "to": Param(None, type=["null", "string"], description="End of the range to write again (UTC), not included."),
}


@reporting_task(lineage.export_lineage, execution_timeout=timedelta(minutes=10))
def write_events(pipeline: str, params=None, dag_run=None) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from include.lakehouse.export import export, rewrite
    from include.window import WindowRefused, window_of_run

    declared = pipelines.get(pipeline)
    try:
        window = window_of_run(
            dag_kind="minute",
            run_type=str(getattr(dag_run.run_type, "value", dag_run.run_type)),
            run_after=dag_run.run_after,
            interval=(dag_run.data_interval_start, dag_run.data_interval_end),
            from_text=params["from"],
            to_text=params["to"],
        )
    except WindowRefused as refused:
        raise AirflowFailException(str(refused)) from None
    if window.what == "range":
        print(f"Minutes to write again: {rewrite(declared, window.start, window.end)}.")
    print(export(declared))


# Minutes that cannot be read, or hours that differ, must not keep the others from being counted and loaded.
@reporting_task(lineage.count_lineage, trigger_rule="all_done", execution_timeout=timedelta(minutes=5))
def count_hours(pipeline: str) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from include.lakehouse import hourly

    try:
        for count in hourly.count(pipelines.get(pipeline)):
            print(count)
    except hourly.HoursDiffer as differ:
        raise AirflowFailException(str(differ)) from None


@reporting_task(lineage.load_lineage, trigger_rule="all_done", execution_timeout=timedelta(minutes=10))
def load_into_bigquery(pipeline: str) -> None:
    from include.bigquery.due import load_due

    print(load_due(pipelines.get(pipeline)))


@task(execution_timeout=timedelta(minutes=30))
def upkeep(pipeline: str) -> None:
    from include.lakehouse.upkeep import upkeep as run_upkeep

    print(run_upkeep(pipelines.get(pipeline)))


def lakehouse_dag(pipeline: pipelines.Pipeline, kind: str, cron: str, params: dict | None = None) -> DAG:
    return DAG(
        f"{pipeline.name}_{kind}",
        description=f"Events of {pipeline.name} as the Iceberg table {pipeline.lakehouse.table}.",
        doc_md=__doc__,
        schedule=CronDataIntervalTimetable(cron, timezone="UTC"),
        max_active_runs=1,
        dagrun_timeout=timedelta(minutes=60),
        default_args={"owner": pipeline.owner, "retries": 2, "retry_delay": timedelta(seconds=10)},
        params=params or {},
        tags=sorted({"lakehouse", "minutemark", *pipeline.tags}),
        **SETTINGS,  # no catchup: the ledger says what is due
    )


if os.environ.get(SETTING):
    for pipeline in parsed_pipelines():
        if pipeline.lakehouse:
            # At second 25, because the minute DAGs need the cores at their tick.
            with lakehouse_dag(pipeline, "lakehouse", "* * * * * 25", RANGE) as dag:
                tasks = [write_events(pipeline.name), count_hours(pipeline.name)]
                if os.environ.get(BIGQUERY):
                    tasks.append(load_into_bigquery(pipeline.name))
                chain(*tasks)
                # The last task decides the state of a run. This task does nothing; if another task fails, it does not run,
                # and the run fails.
                tasks >> EmptyOperator(task_id="all_succeeded", execution_timeout=timedelta(minutes=1))
            globals()[dag.dag_id] = dag
            with lakehouse_dag(pipeline, "lakehouse_upkeep", "35 * * * *") as dag:
                upkeep(pipeline.name)
            globals()[dag.dag_id] = dag
