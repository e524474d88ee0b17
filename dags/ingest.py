"""Every minute, for every pipeline: what producers send to its topic goes into the lake, within seconds.

**follow_topic** follows the topic until the next minute's task takes over. Every half second it writes what has come:
events into the lake, then their minutes into the change log; messages that can be no event into `etl.rejected_events`,
with topic, partition and offset. Only then it commits.

The tasks of two minutes overlap for a moment, on purpose: the new one takes the place of the old one in the consumer
group, which ends the old one, so that nobody waits while a task starts. A task that is killed leaves messages uncommitted;
they come again, and are the same rows. Without a successor a task goes on for 30 seconds longer than its minute.

These DAGs exist with `MINUTEMARK_INGEST=dag`. With `connect` Kafka Connect does their work instead.
"""

from datetime import timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable

from include import pipelines
from include.chain import START
from include.kafka.way_in import DAG as BY_DAG
from include.kafka.way_in import way_in
from plugins.ingest import FollowTopic
from plugins.notifiers import TellOfFailedRun


def ingest_dag(pipeline: pipelines.Pipeline) -> DAG:
    with DAG(
        f"{pipeline.name}_ingest",
        description=f"Follows topic {pipeline.topic} into {pipeline.lake_table}.",
        doc_md=__doc__,
        # Away from the tick of the minute DAGs, which need the cores then.
        schedule=CronDataIntervalTimetable("* * * * * 45", timezone="UTC"),
        start_date=START,
        catchup=False,  # the group's offset says where to go on
        max_active_runs=2,  # the one that follows, and its successor while it takes over
        dagrun_timeout=timedelta(minutes=5),
        default_args={"owner": pipeline.owner, "retries": 2, "retry_delay": timedelta(seconds=5)},
        on_failure_callback=TellOfFailedRun(),
        tags=sorted({"ingest", "minutemark", *pipeline.tags}),
    ) as dag:
        FollowTopic(task_id="follow_topic", pipeline=pipeline.name, execution_timeout=timedelta(minutes=3))
    return dag


if way_in() == BY_DAG:
    for pipeline in pipelines.all_pipelines().values():
        dag = ingest_dag(pipeline)
        globals()[dag.dag_id] = dag
