"""Continuous runs: when they begin, and what a backfill alongside them takes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests import airflow_home  # noqa: F401  (before Airflow)

START = datetime(2026, 11, 1, 10, tzinfo=UTC)
LAST = datetime(2026, 11, 1, 10, 2, tzinfo=UTC)


@pytest.fixture
def dag():
    """A continuous DAG as the scheduler loads it."""
    from airflow.sdk import DAG
    from airflow.serialization.serialized_objects import DagSerialization

    from plugins.timetable import ContinuousWithBackfills

    with DAG(
        "continuous", schedule=ContinuousWithBackfills(), start_date=START, catchup=False, max_active_runs=1
    ) as continuous:
        pass
    return DagSerialization.from_dict(DagSerialization.to_dict(continuous))


def test_a_backfill_has_a_run_for_each_minute(dag):
    intervals = [tuple(info.data_interval) for info in dag.iter_dagrun_infos_between(START, LAST)]
    minute = timedelta(minutes=1)
    assert intervals == [(START + number * minute, START + (number + 1) * minute) for number in range(3)]


def test_airflow_allows_backfills_of_a_continuous_dag(dag):
    assert dag.timetable.periodic


def test_the_first_and_every_later_run_is_due_at_once(dag):
    from airflow.timetables.base import DagRunInfo

    before = datetime.now(UTC)
    for last in (None, DagRunInfo.exact(before - timedelta(hours=3)), DagRunInfo.interval(START, LAST)):
        info = dag.next_dagrun_info(last_automated_run_info=last)
        assert before <= info.run_after <= datetime.now(UTC)


def test_a_run_is_due_when_it_is_created_however_long_the_run_before_took(dag):
    planned = datetime.now(UTC) - timedelta(minutes=10)
    from airflow.models.dag import DagModel

    model = DagModel(dag_id=dag.dag_id, next_dagrun=planned, next_dagrun_create_after=planned)
    before = datetime.now(UTC)
    info = dag.timetable.next_run_info_from_dag_model(dag_model=model)
    assert before <= info.run_after <= datetime.now(UTC)
    assert info.logical_date == info.run_after


def test_a_run_never_has_the_logical_date_of_a_backfill():
    from plugins.timetable import avoid_full_minute

    noon = datetime(2026, 11, 1, 12, tzinfo=UTC)
    assert avoid_full_minute(noon) == noon.replace(microsecond=1)
    assert avoid_full_minute(noon.replace(second=5)) == noon.replace(second=5)


def test_no_run_begins_before_the_start_or_after_the_end_of_the_dag(dag):
    from airflow.timetables.base import TimeRestriction

    later, earlier = datetime.now(UTC) + timedelta(hours=1), datetime.now(UTC) - timedelta(hours=1)
    plan = dag.timetable.next_dagrun_info
    info = plan(last_automated_data_interval=None, restriction=TimeRestriction(later, None, False))
    assert info.run_after == later
    assert plan(last_automated_data_interval=None, restriction=TimeRestriction(None, earlier, False)) is None
