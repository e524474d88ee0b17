"""Every minute, for every pipeline: what has changed in the lake becomes facts.

A scheduled run takes what the ledger says is pending, not the minute it is named after: a late row is processed by the
next run, whatever its own minute, and after an outage one run takes up to ten hours' backlog behind the newest minutes.
A backfill takes exactly the minutes of its intervals.
"""

from airflow.sdk import CronDataIntervalTimetable

from include import pipelines
from include.chain import chain_dag

for pipeline in pipelines.all_pipelines().values():
    # A bare cron string would give runs an empty data interval, and a backfill nothing to take.
    dag = chain_dag(
        pipeline,
        "minute",
        schedule=CronDataIntervalTimetable("* * * * *", timezone="UTC"),
        doc=__doc__,
        priority=100,
    )
    globals()[dag.dag_id] = dag
