"""The timetable of continuous runs of `<pipeline>_minute`: each starts when the previous one ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from airflow._shared.timezones.timezone import coerce_datetime, utcnow
from airflow.timetables.base import DagRunInfo
from airflow.timetables.interval import CronDataIntervalTimetable

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.models.dag import DagModel
    from airflow.timetables.base import DataInterval, TimeRestriction
    from pendulum import DateTime

EVERY_MINUTE = "* * * * *"


class ContinuousWithBackfills(CronDataIntervalTimetable):
    """Scheduled runs follow one another without a pause; a backfill has a run for each minute.

    Airflow's own ContinuousTimetable allows no backfill. Only a backfill enumerates intervals with catchup on, since
    the DAGs have it off. A scheduled run has the time of its creation as its logical date, which is not a full minute:
    a backfill never finds such a run at one of its own times, to skip or to clear.
    """

    active_runs_limit = 1

    def __init__(self, expression: str = EVERY_MINUTE, timezone: str = "UTC") -> None:
        super().__init__(expression, timezone)
        self.description = "Each run starts when the previous one ends; a backfill has a run for each minute."

    @property
    def summary(self) -> str:
        return "continuous"

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        if restriction.catchup:
            return super().next_dagrun_info(
                last_automated_data_interval=last_automated_data_interval, restriction=restriction
            )
        start = _now() if restriction.earliest is None else max(_now(), restriction.earliest)
        if restriction.latest is not None and start > restriction.latest:
            return None
        return DagRunInfo.exact(start)

    def next_run_info_from_dag_model(self, *, dag_model: DagModel) -> DagRunInfo | None:
        """The planned time is when the previous run was created; this run is due now."""
        planned = super().next_run_info_from_dag_model(dag_model=dag_model)
        return planned and DagRunInfo.exact(max(planned.run_after, _now()))


Time = TypeVar("Time", bound="datetime")


def _now() -> DateTime:
    return avoid_full_minute(coerce_datetime(utcnow()))


def avoid_full_minute(time: Time) -> Time:
    """The time, or a microsecond later: the logical date of a full minute belongs to a backfill."""
    return time if time.second or time.microsecond else time.replace(microsecond=1)
