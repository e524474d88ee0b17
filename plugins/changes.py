"""The first task of the chain: a deferrable sensor that opens a batch as soon as the lake has changed.

It polls once before it defers, so that a run that finds work never waits for the triggerer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import BaseSensorOperator, Context
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowSkipException,
    DownstreamTasksSkipped,
    TaskDeferred,
)
from airflow.triggers.base import BaseTrigger, TaskSkippedEvent, TriggerEvent

from include import pipelines
from include.connections import LAKE_READER, WAREHOUSE_ETL, Endpoint, endpoint_in_trigger
from include.options import OptionRefused, options_of_run
from include.schedule import continuous_wait
from include.window import Window, WindowRefused, window_of_run
from plugins.assets import AnnouncementMixin

PATIENCE = timedelta(seconds=45)  # with one run per minute: the rest of the minute is for the next tasks
# If the triggerer is down or busy, the task fails this long after the deadline, instead of waiting forever.
GRACE = timedelta(seconds=60)
POLL_SECONDS = 1.5


@dataclass(frozen=True)
class OpenResult:
    """The opened batch, or what the poll found instead."""

    batch_id: int | None
    digest: str = ""  # of the change log
    settles_in: timedelta | None = None  # None unless all pending minutes have yet to settle
    hours_due: bool = False  # whether hours are to be announced


class WaitForChanges(AnnouncementMixin, BaseSensorOperator):
    """Opens the batch of this run and returns its id; skips the run when nothing changes within `patience`.

    A `minute` DAG takes changed minutes, a `reconcile` DAG those that differ from the ledger. A backfill run, or a manual
    run with `from` and `to`, takes exactly its minutes. Only scheduled runs of a `minute` DAG wait: a run that a user
    triggers is skipped at once if there is nothing to do.

    A continuous run waits longer. If nothing has changed since the last read, it also waits until the minutes that were
    read too close to their last change have settled: until then, reading them again leaves them pending.
    """

    def __init__(self, *, pipeline: str, kind: str, continuous: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.kind = kind
        self.continuous = continuous
        self.patience = continuous_wait(pipelines.get(pipeline)) if continuous else PATIENCE

    def execute(self, context: Context) -> int:
        # From the tick, not from now: a run that started late must not delay the next one as well.
        return self._open_or_wait(context, context["dag_run"].run_after + self.patience)

    def execute_complete(self, context: Context, event: dict[str, str]) -> int:
        """Resumes after the trigger: the lake has changed, a wait is over, or the lake could not be queried."""
        if "error" in event:
            raise RuntimeError(event["error"])
        return self._open_or_wait(context, datetime.fromisoformat(event["deadline"]))

    def _open_or_wait(self, context: Context, deadline: datetime) -> int:
        from include.planner import RangeRefused

        pipeline = pipelines.get(self.pipeline)
        try:
            window = self._window(context)
            result = self._open(pipeline, window, context)
        except (WindowRefused, RangeRefused, OptionRefused) as refused:
            raise AirflowFailException(str(refused)) from None
        if result.batch_id is not None:
            self.log.info("Opened batch %s of %s (%s).", result.batch_id, pipeline.name, _window_text(window))
            if result.hours_due:
                self.announce_hours(context, pipeline)
            return result.batch_id
        if window.what != "changes":
            raise AirflowSkipException(
                f"The lake and the ledger of {pipeline.name} agree from {_window_text(window)}. Held, closed and pending live "
                "minutes are not compared."
            )
        remaining = deadline - datetime.now(UTC)
        if remaining <= timedelta(0) or window.kind == "manual" or (result.hours_due and self.continuous):
            if result.hours_due and window.kind != "manual" and self.announce_hours(context, pipeline):
                raise DownstreamTasksSkipped(tasks=sorted(self.downstream_task_ids))
            raise AirflowSkipException(f"No minute of {pipeline.lake_table} changed; the next run polls again.")
        wait, wake = remaining, None
        if result.settles_in is not None and result.settles_in < remaining:
            wait, wake = result.settles_in, (datetime.now(UTC) + result.settles_in).isoformat()
        elif result.hours_due:
            wake = deadline.isoformat()  # the task announces them then; without `wake` the trigger skips it
        why = (
            "changed" if result.settles_in is None else "changed since its last read, but some minutes have not settled"
        )
        self.log.info("No minute of %s has %s; waiting %.0f s.", pipeline.lake_table, why, wait.total_seconds())
        raise TaskDeferred(
            trigger=LakeChangeTrigger(LAKE_READER, pipeline.lake_table, result.digest, deadline.isoformat(), wake),
            method_name="execute_complete",
            timeout=remaining + GRACE,
        )

    def _window(self, context: Context) -> Window:
        dag_run, params = context["dag_run"], context["params"]
        start, end = context.get("data_interval_start"), context.get("data_interval_end")
        return window_of_run(
            dag_kind=self.kind,
            run_type=str(getattr(dag_run.run_type, "value", dag_run.run_type)),
            run_after=dag_run.run_after,
            interval=(start, end) if start and end else None,
            from_text=params.get("from"),
            to_text=params.get("to"),
        )

    def _open(self, pipeline: pipelines.Pipeline, window: Window, context: Context) -> OpenResult:
        from include import planner
        from include.lake.session import lake
        from include.warehouse import hours, ledger
        from include.warehouse.batches import RunInfo
        from include.warehouse.session import warehouse

        dag_run = context["dag_run"]
        options, allow_shrink = options_of_run(pipeline, context["params"])
        tick = dag_run.run_after.astimezone(UTC).replace(tzinfo=None)
        run = RunInfo(dag_run.dag_id, dag_run.run_id, tick, options, window.kind, allow_shrink)
        with lake(LAKE_READER) as session, warehouse(WAREHOUSE_ETL) as conn:
            if window.what != "changes":
                open_window = planner.open_range if window.what == "range" else planner.open_reconcile
                return OpenResult(open_window(pipeline, session, conn, run, start=window.start, end=window.end))  # ty: ignore[invalid-argument-type]
            polled = planner.poll(pipeline, session, conn)
            hours_due = self.announces_hours(context) and hours.is_any_due(conn, pipeline)
            if self.continuous and window.kind == "minute":
                settles_at = ledger.settles_at(conn, pipeline)
                if settles_at is not None and settles_at > polled.clock:
                    return OpenResult(None, polled.digest, settles_at - polled.clock, hours_due)
            batch_id = planner.open_delta(pipeline, session, conn, run, polled=polled) if polled.pending_count else None
            return OpenResult(batch_id, polled.digest, hours_due=hours_due)


class LakeChangeTrigger(BaseTrigger):
    """Fires when the lake's change log differs from `digest`, and at `wake`; skips its task at the deadline, without a worker."""

    def __init__(self, conn_id: str, lake_table: str, digest: str, deadline: str, wake: str | None = None) -> None:
        super().__init__()
        self.conn_id = conn_id
        self.lake_table = lake_table
        self.digest = digest
        self.deadline = deadline  # ISO, with zone
        self.wake = wake  # ISO, with zone: when to resume the task; None: it is skipped at the deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = ("conn_id", "lake_table", "digest", "deadline", "wake")
        return f"plugins.changes.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self):
        """All triggers of a process share one session. If a poll fails, the task fails with its error."""
        until = datetime.fromisoformat(self.wake or self.deadline)
        try:
            endpoint = await endpoint_in_trigger(self.conn_id)
            while datetime.now(UTC) < until:
                if await self._digest(endpoint) != self.digest:
                    yield TriggerEvent({"deadline": self.deadline})
                    return
                await asyncio.sleep(POLL_SECONDS)
        except Exception as error:  # any error belongs in the task's log, not only in the triggerer's
            self.log.exception("The lake could not be polled for changes.")
            yield TriggerEvent({"error": f"{type(error).__name__}: {error}"})
            return
        yield TriggerEvent({"deadline": self.deadline}) if self.wake else TaskSkippedEvent()

    async def _digest(self, endpoint: Endpoint) -> str:
        from include.lake import change_log
        from include.lake.shared_session import shared_lake

        async with shared_lake(endpoint) as session:
            return change_log.digest(await change_log.changed_days_in_trigger(session, self.lake_table))


def _window_text(window: Window) -> str:
    if window.what == "changes":
        return "changed minutes"
    return f"{window.start:%Y-%m-%d %H:%M} to {window.end:%Y-%m-%d %H:%M} UTC"
