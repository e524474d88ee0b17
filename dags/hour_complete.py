"""An example DAG that starts when an hour is complete: it prints the hour's counts, and the fact hours that its events add to.

1. **report_hour** runs once for each complete hour of create_time (UTC). When late events, a release or a backfill change
   an hour that was announced before, the task runs again, marked as a correction.

Copy this file for a DAG of your own. The schedule is the asset `<pipeline>_hours`, which has a partition for each hour: a run
gets one hour, even if several are complete at once. These DAGs exist only with `MINUTEMARK_EXAMPLES=1`. See docs/assets.md.
"""

import os
from datetime import timedelta

from airflow.sdk import DAG, PartitionedAssetTimetable, task

from include import pipelines
from plugins.assets import hours_asset
from plugins.minute_dag import SETTINGS
from plugins.parsing import parsed_pipelines


@task(execution_timeout=timedelta(minutes=2))
def report_hour(pipeline: str, triggering_asset_events=None, dag_run=None) -> None:
    from include.warehouse.hours import figures

    key = dag_run.partition_key
    event = triggering_asset_events[hours_asset(pipeline)][-1]  # the newest, if a correction came before this run
    hour = event.extra["hours"][key]
    print(f"{pipeline}, {hour['start']} to {hour['end']}{': a correction' if hour['correction'] else ''}")
    print(hour)
    # Facts go by the event's own time: back-dated events add to earlier hours. Replace each of these hours, not `key` alone.
    for table, sums_of_hours in figures(pipelines.get(pipeline), hour["fact_hours"]).items():
        for sums in sums_of_hours:
            print(f"{table}: {sums}")
    if hour["fact_hours_count"] > len(hour["fact_hours"]):
        print(
            f"These are the newest {len(hour['fact_hours'])} of {hour['fact_hours_count']} hours. "
            "Read the others from the warehouse."
        )


if os.environ.get("MINUTEMARK_EXAMPLES") == "1":
    for pipeline in parsed_pipelines():
        with DAG(
            f"{pipeline.name}_hour_complete",
            description=f"An example: prints the figures of each complete hour of {pipeline.name}.",
            doc_md=__doc__,
            schedule=PartitionedAssetTimetable(assets=hours_asset(pipeline.name)),
            max_active_runs=1,  # the hours of a backfill run one after the other
            dagrun_timeout=timedelta(minutes=10),
            default_args={"owner": pipeline.owner, "retries": 2, "retry_delay": timedelta(seconds=10)},
            tags=sorted({"example", "minutemark", *pipeline.tags}),
            **SETTINGS,
        ) as dag:
            report_hour(pipeline.name)
        globals()[dag.dag_id] = dag
