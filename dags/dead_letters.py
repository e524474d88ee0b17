"""Keeps the dead letters of Kafka Connect as rejected events, every minute.

**consume_dead_letters** reads the topic `<topic>.dead` of every pipeline up to its end, for at most 30 seconds each.
Connect puts a message there when the project's transform cannot turn it into an event. The message is kept in
`etl.rejected_events` with its reason and its original topic, partition and offset. A message that turns out
to be an event is written to the lake. The offset is committed only after that.

This DAG exists with `MINUTEMARK_INGEST=connect`.
"""

from datetime import timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable, task

from include import pipelines
from include.kafka.ingest_mode import CONNECT, DEAD_LETTERS, ingest_mode
from plugins.minute_dag import SETTINGS


@task(execution_timeout=timedelta(minutes=3))
def consume_dead_letters() -> None:
    from include.kafka.dead_letters import with_dead_letters
    from include.kafka.ingest import ingest_dead_letters
    from plugins.topics import FollowerHook

    errors = []
    for pipeline in pipelines.all_pipelines().values():
        hook = FollowerHook(with_dead_letters(pipeline), DEAD_LETTERS)
        try:
            print(ingest_dead_letters(pipeline, hook.get_consumer, seconds=30))  # the next run consumes the rest
        except Exception as error:  # one pipeline's missing table or topic must not stop the others
            print(f"{pipeline.name}: {error}")
            errors.append(error)
    if errors:
        raise ExceptionGroup("Dead letters of some pipelines were not consumed.", errors)


if ingest_mode() == CONNECT:
    with DAG(
        "minutemark_dead_letters",
        # At second 45, because the minute DAGs need the cores at their tick.
        schedule=CronDataIntervalTimetable("* * * * * 45", timezone="UTC"),
        description="Keeps the messages that Kafka Connect's transform refused. They become rejected events.",
        doc_md=__doc__,
        max_active_runs=1,
        dagrun_timeout=timedelta(minutes=5),
        default_args={"owner": "minutemark", "retries": 2, "retry_delay": timedelta(seconds=5)},
        tags=["minutemark", "operations"],
        **SETTINGS,  # no catchup: the group's offset says where to start
    ):
        consume_dead_letters()
