"""Asset events of a pipeline: one for each complete hour of create_time, one more each time such an hour is corrected, and,
if it declares `batch_events`, one for each merged batch.

Airflow records the event of a task and its success in one transaction. So a task first records in the warehouse which
hours it offers, and the next one checks in Airflow whether they were recorded. Only tasks of `<pipeline>_minute` do this,
one at a time, because its runs follow one another. Runs of a backfill are parallel to these, and announce no hours.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset

from include.connections import WAREHOUSE_ETL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context
    from airflow.sdk.execution_time.comms import AssetEventResult

    from include.pipelines import Pipeline
    from include.warehouse.hours import Hour

MAX_CLOCK_DIFFERENCE = timedelta(minutes=10)  # between warehouse and Airflow


def hours_asset(pipeline: str) -> Asset:
    """The asset whose events are complete hours. Its name alone identifies it: `Asset("<pipeline>_hours")`."""
    return Asset(f"{pipeline}_hours")


def batches_asset(pipeline: str) -> Asset:
    """The asset whose events are merged batches; they have no partition."""
    return Asset(f"{pipeline}_batches")


class AnnouncementMixin:
    """Mixin of an operator whose success announces hours, or its batch, if their assets are among its outlets.

    Airflow emits an event for every outlet of a task that succeeds, and fails a task whose outlet is inactive. The declared
    outlets are therefore only for the DAG's page and the asset graph. A running task has one only if it announces something.
    """

    pipeline: str
    outlets: list[Any]
    log: Any
    declared: tuple[Any, ...] = ()  # the outlets of the DAG file, once a worker runs the task

    def prepare_for_execution(self) -> Any:
        task = super().prepare_for_execution()  # ty: ignore[missing-attribute]  # the operator's, next in the MRO
        task.declared, task.outlets = tuple(task.outlets), []
        return task

    def announces_hours(self, context: Context) -> bool:
        """Whether this task announces hours: its outlets declare them, and its run is not part of a backfill."""
        run_type = str(getattr(context["dag_run"].run_type, "value", context["dag_run"].run_type))
        return hours_asset(self.pipeline) in self.declared and run_type != "backfill"

    def announce_hours(self, context: Context, pipeline: Pipeline) -> list[Hour]:
        """Announce the due hours when this task succeeds. An error is logged: the next run tries again."""
        from include.warehouse import hours
        from include.warehouse.session import warehouse

        asset = hours_asset(pipeline.name)
        try:
            with warehouse(WAREHOUSE_ETL) as conn:
                self._check_merges(conn, pipeline)
                if offered := hours.offers(conn, pipeline):
                    conn.rollback()
                    hours.confirm(
                        conn, pipeline, offered, _recorded_versions(asset, min(offer.offered_at for offer in offered))
                    )
                due = hours.offer(conn, pipeline)
            if due:
                event = context["outlet_events"][asset]
                # Events of one task share one `extra`: each finds its own hour in it by its partition key.
                event.extra = {"pipeline": pipeline.name, "hours": {hour.key: hour.as_json() for hour in due}}
                event.add_partitions([hour.key for hour in due])
                self.outlets = [*self.outlets, asset]  # last: without it Airflow records no event
        except Exception:
            self.log.warning("Complete hours could not be announced; the next run tries again.", exc_info=True)
            return []
        if due:
            self.log.info("Announced as %s: %s.", asset.name, ", ".join(map(_hour_text, due)))
        return due

    def _check_merges(self, conn, pipeline: Pipeline) -> None:
        """Run check_warehouse for merges that have not passed it within CHECK_AFTER: their hours are complete only then."""
        from include.warehouse import gates, hours

        for batch_id in hours.unchecked(conn, pipeline):
            conn.rollback()
            result = gates.run_gate(conn, batch_id, gates.WAREHOUSE)
            self.log.log(logging.INFO if result.passed else logging.WARNING, "%s", result)

    def announce_batch(self, context: Context, conn, batch_id: int) -> None:
        """Announce the merged batch of this task when it succeeds. A task that is run again does not repeat the event."""
        from include.warehouse import batches

        asset = batches_asset(self.pipeline)
        if asset not in self.declared or (batch := batches.merged_batch(conn, batch_id)) is None:
            return
        if context["ti"].try_number > 1 and any(
            event.extra.get("batch_id") == batch_id for event in _events(asset, batch.merged_at)
        ):
            return
        self.outlets = [*self.outlets, asset]
        context["outlet_events"][asset].extra = batch.as_json()


def _recorded_versions(asset: Asset, since: datetime) -> set[tuple[datetime, int]]:
    """(hour, version) of the events that Airflow has recorded since then."""
    events: Iterator[Any] = (
        (event.partition_key, event.extra.get("hours", {}).get(event.partition_key)) for event in _events(asset, since)
    )
    return {(datetime.fromisoformat(key), hour["version"]) for key, hour in events if hour}  # ty: ignore[invalid-argument-type, invalid-explicit-return, not-subscriptable]


def _events(asset: Asset, since: datetime) -> Sequence[AssetEventResult]:
    """The asset's events that Airflow has recorded since then (UTC)."""
    from airflow.sdk.execution_time.context import InletEventsAccessors

    return InletEventsAccessors([asset])[asset].after(since.replace(tzinfo=UTC) - MAX_CLOCK_DIFFERENCE)  # ty: ignore[invalid-argument-type]


def _hour_text(hour: Hour) -> str:
    return f"{hour.start:%Y-%m-%d %H}:00{' (correction)' if hour.correction else ''}"
