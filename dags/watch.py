"""Checks once a minute whether every pipeline is fresh, and alerts if one is not.

1. **check_pipelines** queries the warehouse for the state of each pipeline. A pipeline is
   - *stale* if a change of a live minute, or any change while nothing is merged, waits longer than `delay_limit`,
   - *blind* if its lake has not been polled within `look_limit`,
   - *failing* if minutes are pending and at least the last two batches failed,
   - *held* if some of its minutes are held,
   - *stuck* if messages wait in a partition of its topic or dead-letter topic, and the consumer has made no progress there
     for longer than `delay_limit`, if a topic is missing, or if its topics could not be checked for that long,
   - *lakehouse_behind* if minutes wait to be written to the lakehouse, and none has been written for 15 minutes,
   - *bigquery_behind* if hours wait to be loaded into BigQuery after its first load, and none has been loaded for 15
     minutes,
   - *hours_differ* if hours of the lakehouse have differed from the fact for 15 minutes.

A source that sends nothing causes no alert. Each problem is reported when it starts, once an hour while it lasts, and when
it is over. Reports go to the log and to every channel whose connection is defined (docs/deploy.md). If Airflow's metrics
are on, the task also sends its figures as metrics (docs/monitoring.md).

If the warehouse does not answer, this task fails. If no worker takes the task, the run times out after five minutes. In
both cases Airflow reports the failed run.
"""

from datetime import timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable, task

from plugins.minute_dag import SETTINGS
from plugins.notifiers import Notify, has_failed


@task(execution_timeout=timedelta(minutes=2))
def check_pipelines(**context) -> None:
    from include import metrics
    from include.notice import RESOLVED, Notice
    from include.operations.watch import line_of, watch

    def notify(notice: Notice) -> bool:
        notifier = Notify(notice)
        notifier(context)
        return notifier.reached

    entries = watch(notify)
    print("\n".join(map(line_of, entries)))
    metrics.send_gauges(entries)
    ti = context["ti"]
    if has_failed(ti.get_previous_dagrun()):
        notify(Notice(ti.dag_id, "failed", RESOLVED, "The watch runs again."))


with DAG(
    "minutemark_watch",
    # Half a minute after the minute DAGs, which need the whole machine when they start.
    schedule=CronDataIntervalTimetable("* * * * * 30", timezone="UTC"),
    description="Alerts when a pipeline is stale, not polled, failing, held or stuck, and when that is over.",
    doc_md=__doc__,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=5),
    default_args={"owner": "minutemark", "retries": 2, "retry_delay": timedelta(seconds=5)},
    tags=["minutemark", "operations"],
    **SETTINGS,
):
    check_pipelines()
