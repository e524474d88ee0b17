"""Sends past demo events once, so that boards also show data from before the first start.

1. **send_past** sends events of the last day or, for `recruitment`, of the last two weeks. Only a few minutes of each
   hour have events. Like live demo events, they go to the pipeline's topic or, without MINUTEMARK_INGEST, to the lake.

The task is skipped if the warehouse already has events of another sender that are more than an hour old, or if a store
is external. If the events are sent again, they have the same ids and count once. These DAGs exist only with
MINUTEMARK_DEMO=1.
"""

import os
from datetime import timedelta
from importlib import import_module
from importlib.util import find_spec

from airflow.sdk import DAG, task

from include import pipelines
from plugins.minute_dag import SETTINGS
from plugins.parsing import parsed_pipelines


def past_dag(pipeline: pipelines.Pipeline) -> DAG:
    with DAG(
        f"{pipeline.name}_demo_past",
        description=f"Sends past demo events for {pipeline.name}, once.",
        doc_md=__doc__,
        schedule="@once",
        max_active_runs=1,
        dagrun_timeout=timedelta(minutes=30),
        # On a first start, minutemark_setup creates the pipeline's tables at the same time.
        default_args={"owner": pipeline.owner, "retries": 8, "retry_delay": timedelta(seconds=10)},
        tags=sorted({"demo", "minutemark", *pipeline.tags}),
        **SETTINGS,
    ) as dag:

        @task(execution_timeout=timedelta(minutes=10))
        def send_past() -> None:
            from airflow.sdk.exceptions import AirflowSkipException

            from include.demo import past
            from include.demo.traffic import foreign_hosts, import_demo_dimensions
            from include.lake.change_log import clock
            from include.lake.session import lake
            from include.warehouse.session import warehouse

            if hosts := foreign_hosts():
                raise AirflowSkipException(
                    f"No demo events were sent, because these stores are external: {', '.join(hosts)}."
                )
            with lake() as session:
                now = clock(session)
            with warehouse() as conn:
                if past.has_past(conn, pipeline, now):
                    raise AirflowSkipException(f"{pipeline.name} already has events that are more than an hour old.")
            import_demo_dimensions(pipeline)
            print(f"Sent {past.send_past(pipeline, now)} past events.")

        send_past()
    return dag


if os.environ.get("MINUTEMARK_DEMO") == "1":
    for pipeline in parsed_pipelines():
        name = f"include.demo.{pipeline.name}"
        if find_spec(name) and hasattr(import_module(name), "PAST"):
            demo = past_dag(pipeline)
            globals()[demo.dag_id] = demo
