"""Loads changed minutes of the lake into the warehouse, every minute or continuously.

A scheduled run processes the minutes that the ledger lists as pending, not the minute in its name. A late row is therefore
processed by the next run that can take its minute, however old that minute is, unless it is closed. After an outage,
each run takes the newest minutes first and then the oldest, about 20 seconds' worth in all. A backfill takes exactly the
minutes of its intervals.

With `MINUTEMARK_SCHEDULE=continuous`, or `schedule="continuous"` in the declaration, the next run starts when the last one
ends. It waits in the triggerer for a change, up to two minutes.
"""

from airflow.sdk import CronDataIntervalTimetable

from include.schedule import is_continuous
from plugins.minute_dag import chain_dag
from plugins.parsing import parsed_pipelines
from plugins.timetable import ContinuousWithBackfills

for pipeline in parsed_pipelines():
    continuous = is_continuous(pipeline)
    # A bare cron string would give runs an empty data interval, and a backfill nothing to take.
    every_minute = CronDataIntervalTimetable("* * * * *", timezone="UTC")
    dag = chain_dag(
        pipeline,
        "minute",
        schedule=ContinuousWithBackfills() if continuous else every_minute,
        continuous=continuous,
        doc=__doc__,
        priority=100,
    )
    globals()[dag.dag_id] = dag
