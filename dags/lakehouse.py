"""Copies the events of settled minutes into an Apache Iceberg table, and counts hours from that table alone.

1. **write_events** reads minutes whose newest merged read the table does not have from the lake, by key, and replaces them
   in the table, in one commit. Most minutes are written once, a minute or two after their merge.
2. **count_hours** counts the hours whose events changed, with DuckDB over the table's files, and compares them with the
   fact of the warehouse. An hour that agrees gets a small Parquet file; if one differs, the task fails and names it.
3. **load_into_bigquery**, where `MINUTEMARK_BIGQUERY` names a dataset, starts a load job for the file of each hour that was
   counted since its last load.

Every hour, **upkeep** makes one file of each old hour, expires snapshots and deletes files that no snapshot names.

The runs are outside the chain of `<pipeline>_minute`, and need no Spark. These DAGs exist where `MINUTEMARK_LAKEHOUSE` names
the place of the files, for pipelines that declare a `lakehouse`.
"""

import os
from datetime import timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable, chain, task

from include import pipelines
from include.bigquery.settings import SETTING as BIGQUERY
from include.chain import START
from include.lakehouse.settings import SETTING
from plugins import lineage
from plugins.notifiers import TellOfFailedRun
from plugins.reporting_task import reporting_task


@reporting_task(lineage.of_export, execution_timeout=timedelta(minutes=10))
def write_events(pipeline: str) -> None:
    from include.lakehouse.export import export

    print(export(pipelines.get(pipeline)))


@reporting_task(lineage.of_count, execution_timeout=timedelta(minutes=5))
def count_hours(pipeline: str) -> None:
    from include.lakehouse import hourly

    for one in hourly.count(pipelines.get(pipeline)):
        print(one)


@task(execution_timeout=timedelta(minutes=10))
def load_into_bigquery(pipeline: str) -> None:
    from include.bigquery.due import load_due

    print(load_due(pipelines.get(pipeline)))


@task(execution_timeout=timedelta(minutes=30))
def upkeep(pipeline: str) -> None:
    from include.lakehouse.upkeep import upkeep as keep_up

    print(keep_up(pipelines.get(pipeline)))


def lakehouse_dag(pipeline: pipelines.Pipeline, kind: str, cron: str) -> DAG:
    return DAG(
        f"{pipeline.name}_{kind}",
        description=f"Events of {pipeline.name} as the Iceberg table {pipeline.lakehouse.table}.",
        doc_md=__doc__,
        schedule=CronDataIntervalTimetable(cron, timezone="UTC"),
        start_date=START,
        catchup=False,  # the ledger says what is due
        max_active_runs=1,
        dagrun_timeout=timedelta(minutes=60),
        default_args={"owner": pipeline.owner, "retries": 2, "retry_delay": timedelta(seconds=10)},
        on_failure_callback=TellOfFailedRun(),
        tags=sorted({"lakehouse", "minutemark", *pipeline.tags}),
    )


if os.environ.get(SETTING):
    for pipeline in pipelines.all_pipelines().values():
        if pipeline.lakehouse:
            # Away from the tick of the minute DAGs, which need the cores then.
            with lakehouse_dag(pipeline, "lakehouse", "* * * * * 25") as dag:
                steps = [write_events, count_hours, *([load_into_bigquery] if os.environ.get(BIGQUERY) else [])]
                chain(*(step(pipeline.name) for step in steps))
            globals()[dag.dag_id] = dag
            with lakehouse_dag(pipeline, "lakehouse_upkeep", "35 * * * *") as dag:
                upkeep(pipeline.name)
            globals()[dag.dag_id] = dag
