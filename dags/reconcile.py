"""Compares lake and ledger every hour, and reprocesses the minutes that differ.

It compares the row count and the sum of id checksums of each minute in the last hour and the three hours before. This
finds rows that the minute DAG cannot see, because their writer does not touch the change log.

A backfill of this DAG reprocesses whole hours, whether they differ or not. A day takes 24 runs; the minute DAG would need
1,440.
"""

from airflow.sdk import CronDataIntervalTimetable

from plugins.minute_dag import chain_dag
from plugins.parsing import parsed_pipelines

for pipeline in parsed_pipelines():
    dag = chain_dag(
        pipeline,
        "reconcile",
        schedule=CronDataIntervalTimetable("0 * * * *", timezone="UTC"),
        doc=__doc__,
        priority=50,  # the live minute goes first
    )
    globals()[dag.dag_id] = dag
