"""Asset events of a pipeline: one for each complete hour of create_time, and one more each time such an hour is corrected.

Airflow records the event of a task and its success in one transaction. So a task first records in the warehouse which
hours it offers, and the next one looks in Airflow whether they were recorded. One task at a time does this: those of
`<pipeline>_minute`, whose runs follow one another. Runs of a backfill stand beside them, and emit nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.pipelines import Pipeline
    from include.warehouse.hours import Hour

CLOCKS_DIFFER = timedelta(minutes=10)  # at most, those of warehouse and Airflow


def hours_asset(pipeline: str) -> Asset:
    """The asset whose events are complete hours. Its name alone identifies it: `Asset("<pipeline>_hours")`."""
    return Asset(f"{pipeline}_hours")


class AnnouncesHours:
    """An operator of `<pipeline>_minute` whose success announces hours. They must be among its outlets.

    Airflow emits an event for every outlet of a task that succeeds, and fails one whose outlet is inactive. The outlet is
    therefore what the DAG's page and the graph of assets show, and a task has it only while it has hours to announce.
    """

    pipeline: str
    outlets: list[Any]
    announces = False  # set by Airflow's worker, for a task that has the outlet

    def prepare_for_execution(self) -> Any:
        task = super().prepare_for_execution()
        task.announces = hours_asset(self.pipeline) in task.outlets
        task.outlets = []
        return task

    def may_announce(self, context: Context) -> bool:
        """Whether this run is one of those that follow one another."""
        run_type = context["dag_run"].run_type
        return self.announces and str(getattr(run_type, "value", run_type)) != "backfill"

    def announce(self, context: Context, conn, pipeline: Pipeline) -> list[Hour]:
        """Have the success of this task announce the hours that are due. An error is logged: the next run tries again."""
        from include.warehouse import hours

        try:
            asset = hours_asset(pipeline.name)
            if offered := hours.offers(conn, pipeline):
                conn.rollback()
                hours.settle(conn, pipeline, offered, _recorded(asset, min(one.offered_at for one in offered)))
            due = hours.offer(conn, pipeline)
        except Exception:
            self.log.warning("Complete hours could not be announced; the next run tries again.", exc_info=True)
            return []
        if due:
            self.outlets = [asset]
            event = context["outlet_events"][asset]
            # Events of one task share one `extra`: each finds its own hour in it by its partition key.
            event.extra = {"pipeline": pipeline.name, "hours": {hour.key: hour.as_json() for hour in due}}
            event.add_partitions([hour.key for hour in due])
            self.log.info("Announced as %s: %s.", asset.name, ", ".join(map(_described, due)))
        return due


def _recorded(asset: Asset, since: datetime) -> set[tuple[datetime, int]]:
    """(hour, version) of the events that Airflow has recorded since then."""
    from airflow.sdk.execution_time.context import InletEventsAccessors

    events = InletEventsAccessors([asset])[asset].after(since.replace(tzinfo=UTC) - CLOCKS_DIFFER)
    found = ((event.partition_key, event.extra.get("hours", {}).get(event.partition_key)) for event in events)
    return {(datetime.fromisoformat(key), hour["version"]) for key, hour in found if hour}


def _described(hour: Hour) -> str:
    return f"{hour.start:%Y-%m-%d %H}:00{' (correction)' if hour.correction else ''}"
