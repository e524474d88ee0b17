"""A backfill must not starve the live minute: at equal weight, Airflow starts tasks of the oldest run first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from tests import airflow_home  # noqa: F401  (before Airflow)


def weight(run_id: str, run_after: datetime | None = None) -> int:
    from plugins.priority import LiveBeforeBackfill

    task_instance = SimpleNamespace(run_id=run_id, task=SimpleNamespace(priority_weight=100))
    if run_after:
        task_instance.dag_run = SimpleNamespace(run_after=run_after)
    return LiveBeforeBackfill().get_weight(task_instance)


def test_new_runs_keep_the_weight_of_their_task():
    assert weight("scheduled__2026-11-22T10:00:00+00:00") == 100
    assert weight("manual__2026-11-22T10:00:00+00:00") == 100


def test_runs_of_a_backfill_come_last():
    assert weight("backfill__2026-11-22T10:00:00+00:00") == 1


def test_old_runs_come_last_when_they_are_cleared():
    now = datetime.now(UTC)
    assert weight("scheduled__2026-11-22T10:00:00+00:00", now - timedelta(hours=2)) == 1
    assert weight("scheduled__2026-11-22T10:00:00+00:00", now - timedelta(minutes=2)) == 100


def test_airflow_finds_the_strategy_by_the_name_that_the_chain_uses():
    from airflow import plugins_manager

    from plugins.minute_dag import LIVE_BEFORE_BACKFILL

    assert LIVE_BEFORE_BACKFILL in plugins_manager.get_priority_weight_strategy_plugins()


def test_operators_are_not_imported_a_second_time_as_plugins():
    import sys

    from airflow import plugins_manager

    plugins_manager.get_priority_weight_strategy_plugins()
    assert not [name for name in ("changes", "gate", "transform") if name in sys.modules]
