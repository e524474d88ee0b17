"""Invented events, a minute's worth every minute: only with MINUTEMARK_DEMO=1, never beside real events.

**send_events** brings the demo's dimension rows into the warehouse, where they are not there yet, and then sends
`events` events, spread over the running minute, into the pipeline's topic (with MINUTEMARK_INGEST), else straight into
the lake. `late`, `duplicate`, `broken` and `poison` are shares of 1: late events are those of a sender that was offline
and carry a time up to 30 minutes old, duplicates are the same event again, broken ones must be rejected, poison messages
are no events and come on top, in a topic only.
"""

import os
from datetime import timedelta
from importlib.util import find_spec

from airflow.sdk import DAG, CronDataIntervalTimetable, Param, task

from include import pipelines
from include.chain import START
from plugins.notifiers import TellOfFailedRun

EVENTS = int(os.environ.get("MINUTEMARK_DEMO_EVENTS") or 300)


def traffic_dag(pipeline: pipelines.Pipeline) -> DAG:
    with DAG(
        f"{pipeline.name}_demo_traffic",
        description=f"Sends invented events of {pipeline.name}.",
        doc_md=__doc__,
        schedule=CronDataIntervalTimetable("* * * * *", timezone="UTC"),
        start_date=START,
        catchup=False,
        max_active_runs=1,  # it ends just before its minute does
        dagrun_timeout=timedelta(minutes=5),
        default_args={"owner": pipeline.owner, "retries": 2, "retry_delay": timedelta(seconds=5)},
        params={
            "events": Param(EVENTS, type="integer", minimum=0, description="Events in the minute"),
            "late": Param(0.01, type="number", minimum=0, maximum=1, description="Share that comes late"),
            "duplicate": Param(0.01, type="number", minimum=0, maximum=1, description="Share that comes twice"),
            "broken": Param(0.005, type="number", minimum=0, maximum=1, description="Share that breaks the contract"),
            "poison": Param(0.001, type="number", minimum=0, maximum=1, description="Messages that are no event"),
        },
        on_failure_callback=TellOfFailedRun(),
        tags=sorted({"demo", "minutemark", *pipeline.tags}),
    ) as dag:

        @task(execution_timeout=timedelta(minutes=2))
        def send_events(params=None) -> None:
            from include.demo.traffic import import_demo_dimensions, run_traffic

            if missing := import_demo_dimensions(pipeline):
                print(f"{missing} dimension rows were missing.")
            shares = ("events", "late", "duplicate", "broken", "poison")
            print(run_traffic(pipeline, **{name: params[name] for name in shares}))

        send_events()
    return dag


if os.environ.get("MINUTEMARK_DEMO") == "1":
    for pipeline in pipelines.all_pipelines().values():
        if find_spec(f"include.demo.{pipeline.name}"):
            demo = traffic_dag(pipeline)
            globals()[demo.dag_id] = demo
