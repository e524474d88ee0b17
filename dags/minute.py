"""Loads changed minutes of the lake into the warehouse, every minute.

A scheduled run processes the minutes that the ledger lists as pending, not the minute in its name. The next run therefore
processes a late row, however old its minute is. After an outage, each run takes the newest minutes first and then
about 20 seconds' worth of the backlog. A backfill takes exactly the minutes of its intervals.
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
