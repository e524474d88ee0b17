"""Live runs before backfills, when both need the slots of a pool."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from airflow.task.priority_strategy import PriorityWeightStrategy

if TYPE_CHECKING:
    from airflow.models.taskinstance import TaskInstance

LIVE_FOR = timedelta(minutes=5)
BACKFILL_WEIGHT = 1


class LiveBeforeBackfill(PriorityWeightStrategy):
    """The task's own weight for a live run, 1 for a backfill's runs and for old runs that are cleared.

    Among equal weights Airflow takes the oldest run first, so a backfill would starve the live minute. "Reprocess
    completed" clears old runs before it marks them as backfill; they are recognized by their age.
    """

    def get_weight(self, ti: TaskInstance) -> int:
        return BACKFILL_WEIGHT if self._is_backfill(ti) else ti.task.priority_weight

    @staticmethod
    def _is_backfill(ti: TaskInstance) -> bool:
        if ti.run_id and ti.run_id.startswith("backfill__"):
            return True
        dag_run = ti.__dict__.get("dag_run")  # loaded when a run is cleared; a new task instance has none yet
        run_after = getattr(dag_run, "run_after", None)
        return run_after is not None and run_after < datetime.now(UTC) - LIVE_FOR
