"""Every minute, for all pipelines: is what is published fresh, and if not, who is told.

**look_at_pipelines** asks the warehouse, and nothing else, how every pipeline is. A pipeline is *stale* when a change that
was seen in the lake is not merged within its `delay_limit`, *blind* when nobody looked at its lake within `look_limit`,
*failing* when two batches in a row were not merged, and has *held* minutes when a gate refused them. A source that sends
nothing is none of these. Each problem is told once when it begins, once an hour while it lasts, and once when it is over,
to the log and to every channel whose connection is defined (docs/deploy.md). Where Airflow sends metrics, the figures of
each look go there too (docs/monitoring.md).

When the warehouse itself is away, this task fails, and Airflow tells of the failed run. When no worker takes the task, the
run times out after five minutes, and Airflow tells of that too.
"""

from datetime import timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable, task

from include.chain import START
from plugins.notifiers import Tell, TellOfFailedRun, has_failed


@task(execution_timeout=timedelta(minutes=2))
def look_at_pipelines(**context) -> None:
    from include import metrics
    from include.notice import OVER, Notice
    from include.operations.watch import line_of, watch

    def tell(notice: Notice) -> bool:
        notifier = Tell(notice)
        notifier(context)
        return notifier.reached

    found = watch(tell)
    print("\n".join(map(line_of, found)))
    metrics.of_look(found)
    ti = context["ti"]
    if has_failed(ti.get_previous_dagrun()):
        tell(Notice(ti.dag_id, "failed", OVER, "The watch can see the pipelines again."))


with DAG(
    "minutemark_watch",
    # Half a minute after the minute DAGs, whose tick has the machine for itself.
    schedule=CronDataIntervalTimetable("* * * * * 30", timezone="UTC"),
    start_date=START,
    description="Tells when a pipeline is stale, blind or failing, or has held minutes, and when it is over.",
    doc_md=__doc__,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=5),
    default_args={"owner": "minutemark", "retries": 2, "retry_delay": timedelta(seconds=5)},
    on_failure_callback=TellOfFailedRun(),
    tags=["minutemark", "operations"],
):
    look_at_pipelines()
