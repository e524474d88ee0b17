"""Sends demo events every minute. These DAGs exist only with MINUTEMARK_DEMO=1; do not use them together with real events.

1. **send_events** imports missing dimension rows of the demo. It then sends `events` events, spread over the current
   minute, to the pipeline's topic. Without MINUTEMARK_INGEST it writes them to the lake.

The other parameters are shares from 0 to 1:

- `late`: events with a time up to 30 minutes old, as from a sender that was offline.
- `duplicate`: events that are sent twice.
- `broken`: events that break the contract and must be rejected.
- `poison`: messages that are not events. They are sent in addition to `events`, and only to a topic.
"""

import os
from datetime import timedelta
from importlib.util import find_spec

from airflow.sdk import DAG, CronDataIntervalTimetable, Param, task

from include import pipelines
from include.demo import EVENTS_PER_MINUTE
from plugins.minute_dag import SETTINGS
from plugins.parsing import parsed_pipelines

SHARES = (
    ("late", 0.01, "Share of events (0 to 1) that arrive late, with a time up to 30 minutes old."),
    ("duplicate", 0.01, "Share of events (0 to 1) that are sent twice. They must count once."),
    ("broken", 0.005, "Share of events (0 to 1) that break the contract and must be rejected."),
    (
        "poison",
        0.001,
        "Messages that are not events, as a share (0 to 1) of `events`, sent in addition to them. Only with a topic.",
    ),
)
EVENTS = int(os.environ.get("MINUTEMARK_DEMO_EVENTS") or EVENTS_PER_MINUTE)


def traffic_dag(pipeline: pipelines.Pipeline) -> DAG:
    with DAG(
        f"{pipeline.name}_demo_traffic",
        description=f"Sends demo events for {pipeline.name} every minute.",
        doc_md=__doc__,
        schedule=CronDataIntervalTimetable("* * * * *", timezone="UTC"),
        max_active_runs=1,  # a run ends just before its minute does
        dagrun_timeout=timedelta(minutes=5),
        # On a first start, minutemark_setup creates the pipeline's tables at the same time.
        default_args={"owner": pipeline.owner, "retries": 8, "retry_delay": timedelta(seconds=5)},
        params={
            "events": Param(EVENTS, type="integer", minimum=0, description="Number of events to send in this minute."),
            **{
                name: Param(default, type="number", minimum=0, maximum=1, description=text)
                for name, default, text in SHARES
            },
        },
        tags=sorted({"demo", "minutemark", *pipeline.tags}),
        **SETTINGS,
    ) as dag:

        @task(execution_timeout=timedelta(minutes=2))
        def send_events(params=None) -> None:
            from airflow.sdk.exceptions import AirflowSkipException

            from include.demo.traffic import foreign_hosts, import_demo_dimensions, run_traffic

            if hosts := foreign_hosts():
                raise AirflowSkipException(
                    f"No demo events were sent, because these stores are external: {', '.join(hosts)}."
                )
            if missing := import_demo_dimensions(pipeline):
                print(f"Imported {missing} missing dimension rows.")
            shares = {name: params[name] for name, *_ in SHARES}
            print(run_traffic(pipeline, events=params["events"], **shares))

        send_events()
    return dag


if os.environ.get("MINUTEMARK_DEMO") == "1":
    for pipeline in parsed_pipelines():
        if find_spec(f"include.demo.{pipeline.name}"):
            demo = traffic_dag(pipeline)
            globals()[demo.dag_id] = demo
