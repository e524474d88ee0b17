"""Consumes a pipeline's Kafka topic into the lake, within seconds.

1. **follow_topic** follows the topic until the task of the next run takes over. Twice a second it writes what arrived:
   events to the lake, then their minutes and days to the change log. Messages that are not events go to
   `etl.rejected_events`, with topic, partition and offset; while the warehouse is down or refuses writes, they go to
   the dead-letter topic, from which a later task takes them. Then the task commits the offsets.

The tasks of two runs overlap for a moment, so that the topic is followed without a gap. The new task takes the old
one's place in the consumer group, and the old one ends. A killed task leaves its messages uncommitted. They are read again
and produce the same rows.

These DAGs exist with `MINUTEMARK_INGEST=dag` or `MINUTEMARK_INGEST=spark`. With `dag`, a run starts each minute, and the
task itself reads and writes. Without a successor, it continues for 30 seconds after its minute. With `spark`, a run starts
every ten minutes, and its task runs Spark Structured Streaming with spark-submit. Without a successor, it continues for 90
seconds. With `connect`, Kafka Connect does this instead.
"""

from datetime import timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable

from include import pipelines
from include.kafka.ingest_mode import DAG as BY_DAG
from include.kafka.ingest_mode import SPARK as BY_SPARK
from include.kafka.ingest_mode import ingest_mode
from plugins.ingest import FollowTopic
from plugins.minute_dag import SETTINGS
from plugins.parsing import parsed_pipelines
from plugins.stream import StreamTopic

by_spark = ingest_mode() == BY_SPARK


def ingest_dag(pipeline: pipelines.Pipeline) -> DAG:
    with DAG(
        f"{pipeline.name}_ingest",
        description=f"Consumes the topic {pipeline.topic} into the lake table {pipeline.lake_table}.",
        doc_md=__doc__,
        # At second 45, because the minute DAGs need the cores at their tick, and starting a stream uses them for ten seconds.
        schedule=CronDataIntervalTimetable("*/10 * * * * 45" if by_spark else "* * * * * 45", timezone="UTC"),
        max_active_runs=2,  # the current one, and its successor while it takes over
        dagrun_timeout=timedelta(minutes=25 if by_spark else 5),
        # After a failed stream, nothing reads the topic until the next run, ten minutes later: retry until the run times out.
        default_args={
            "owner": pipeline.owner,
            "retries": 60 if by_spark else 2,
            "retry_delay": timedelta(seconds=5),
        },
        tags=sorted({"ingest", "minutemark", *pipeline.tags}),
        **SETTINGS,  # no catchup: the group's offset says where to continue
    ) as dag:
        if by_spark:
            StreamTopic(task_id="follow_topic", pipeline=pipeline.name, execution_timeout=timedelta(minutes=15))
        else:
            FollowTopic(task_id="follow_topic", pipeline=pipeline.name, execution_timeout=timedelta(minutes=3))
    return dag


if ingest_mode() in (BY_DAG, BY_SPARK):
    for pipeline in parsed_pipelines():
        dag = ingest_dag(pipeline)
        globals()[dag.dag_id] = dag
