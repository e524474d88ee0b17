"""Every hour, for every pipeline: what the lake holds against what the ledger says was read.

It compares the row count and the sum of id checksums of each minute of the last hour and the three before, and
processes those that differ. So it finds what the minute DAG cannot: rows of writers that never touch the change log.
As a backfill it processes whole hours again, whether they differ or not: a day takes 24 runs, where the minute DAG
needs 1,440.
"""

from airflow.sdk import CronDataIntervalTimetable

from include import pipelines
from include.chain import chain_dag

for pipeline in pipelines.all_pipelines().values():
    dag = chain_dag(
        pipeline,
        "reconcile",
        schedule=CronDataIntervalTimetable("0 * * * *", timezone="UTC"),
        doc=__doc__,
        priority=50,  # the live minute goes first
    )
    globals()[dag.dag_id] = dag
