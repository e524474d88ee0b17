"""The sensor and its trigger, on the real stores."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from include import pipelines
from include.lake import change_log
from include.lake.session import lake
from include.warehouse import batches
from include.warehouse.session import warehouse
from tests import airflow_home  # noqa: F401  (before Airflow)

PIPELINE = pipelines.get("recruitment")
pytestmark = pytest.mark.usefixtures("schemas")


def context(run_type="scheduled", run_id=None, interval=None, late=timedelta(0), **params):
    from airflow.sdk.timezone import coerce_datetime

    now = datetime.now(UTC) - late
    result = {
        "dag_run": SimpleNamespace(
            dag_id="recruitment_minute", run_id=run_id or f"{run_type}__{now}", run_type=run_type, run_after=now
        ),
        "params": {"from": None, "to": None, "allow_shrink": False, **params},
    }
    if interval:
        # As Airflow has them.
        result["data_interval_start"], result["data_interval_end"] = map(coerce_datetime, interval)
    return result


def sensor(kind="minute", **kwargs):
    from plugins.changes import WaitForChanges

    return WaitForChanges(task_id="wait_for_changes", pipeline="recruitment", kind=kind, **kwargs)


def touch(*minutes: datetime) -> None:
    with lake("lake_writer") as session:
        change_log.touch(session, PIPELINE.lake_table, minutes)


def batch(batch_id: int):
    with warehouse() as conn:
        return batches.get(conn, batch_id)


def minutes_ago(count: int) -> datetime:
    now = datetime.now(UTC).replace(tzinfo=None, second=0, microsecond=0)
    return now - timedelta(minutes=count)


@pytest.fixture
def nothing_pending(schemas):
    """Mark all minutes seen so far as merged, by a read long after their last change."""
    mark_merged("read_at = '2099-01-01', settled_before = '2099-01-01'")


def mark_merged(read: str) -> None:
    """Mark all minutes seen so far as merged, with these values of their read."""
    with warehouse("warehouse_admin") as conn:
        conn.cursor().execute(
            f"UPDATE etl.minute_ledger SET state = 'merged', read_changed_at = seen_changed_at, {read}"
        )
        conn.commit()


def test_a_changed_minute_is_in_the_batch_at_once(nothing_pending):
    touched = minutes_ago(3)
    touch(touched)
    opened = batch(sensor().execute(context()))
    assert [planned.minute for planned in opened.minutes] == [touched]
    assert opened.run.kind == "minute"
    assert opened.run.options == dict(PIPELINE.options)


def test_options_and_shrinking_come_from_the_form(nothing_pending):
    touch(minutes_ago(3))
    opened = batch(sensor().execute(context("manual", recover=False, allow_shrink=True)))
    assert opened.run.options["recover"] is False
    assert opened.run.allow_shrink is True
    assert opened.run.kind == "manual"


def test_with_nothing_pending_the_sensor_defers_until_its_patience_ends(nothing_pending):
    from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred

    with pytest.raises(TaskDeferred) as deferred:
        sensor().execute(context())
    time_left = datetime.fromisoformat(deferred.value.trigger.deadline) - datetime.now(UTC)
    assert timedelta(seconds=35) < time_left <= timedelta(seconds=45)

    event = {"deadline": (datetime.now(UTC) - timedelta(seconds=1)).isoformat()}
    with pytest.raises(AirflowSkipException):
        sensor().execute_complete(context(), event)


def test_a_run_that_began_late_does_not_make_the_next_one_late(nothing_pending):
    from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred

    with pytest.raises(TaskDeferred) as deferred:
        sensor().execute(context(late=timedelta(seconds=30)))
    time_left = datetime.fromisoformat(deferred.value.trigger.deadline) - datetime.now(UTC)
    assert time_left <= timedelta(seconds=15)
    with pytest.raises(AirflowSkipException):
        sensor().execute(context(late=timedelta(minutes=5)))


def mark_read_just_now() -> None:
    """Mark pending minutes as merged by a read that was too soon after their last change to be final."""
    mark_merged(
        "read_at = seen_changed_time, settled_before = seen_changed_time - INTERVAL 30 SECOND WHERE pending = 1"
    )


def test_a_continuous_run_waits_for_two_minutes(nothing_pending):
    from airflow.sdk.exceptions import TaskDeferred

    with pytest.raises(TaskDeferred) as deferred:
        sensor(continuous=True).execute(context())
    time_left = datetime.fromisoformat(deferred.value.trigger.deadline) - datetime.now(UTC)
    assert timedelta(seconds=100) < time_left <= timedelta(seconds=120)
    assert deferred.value.trigger.wake is None


def test_a_continuous_run_reads_again_only_after_a_change_or_when_minutes_have_settled(nothing_pending):
    from airflow.sdk.exceptions import TaskDeferred

    touch(minutes_ago(2))
    assert sensor(continuous=True).execute(context())
    mark_read_just_now()
    with pytest.raises(TaskDeferred) as deferred:
        sensor(continuous=True).execute(context())
    wake = datetime.fromisoformat(deferred.value.trigger.wake)
    assert timedelta(0) < wake - datetime.now(UTC) <= PIPELINE.settle
    assert sensor().execute(context()), "A run that is not continuous reads the minute again."
    mark_read_just_now()
    touch(minutes_ago(2))
    assert sensor(continuous=True).execute(context())
    mark_merged(
        "seen_changed_time = seen_changed_time - INTERVAL 31 SECOND, read_at = seen_changed_time, "
        "settled_before = seen_changed_time - INTERVAL 1 SECOND WHERE pending = 1"
    )
    assert sensor(continuous=True).execute(context()), "The minute has settled: one more read makes it final."


def test_a_triggered_run_is_skipped_at_once_if_nothing_has_changed(nothing_pending):
    from airflow.sdk.exceptions import AirflowSkipException

    with pytest.raises(AirflowSkipException, match=r"No minute of bedan\.tracking changed"):
        sensor().execute(context("manual"))


def test_after_the_trigger_the_sensor_polls_again_and_opens_the_batch(nothing_pending):
    touch(minutes_ago(2))
    event = {"deadline": (datetime.now(UTC) + timedelta(seconds=20)).isoformat()}
    opened = batch(sensor().execute_complete(context(), event))
    assert [planned.minute for planned in opened.minutes] == [minutes_ago(2)]


def test_backfill_run_takes_its_interval_changed_or_not(nothing_pending):
    start = datetime(2026, 11, 1, 10, tzinfo=UTC)
    opened = batch(sensor().execute(context("backfill", interval=(start, start + timedelta(minutes=2)))))
    assert [planned.minute for planned in opened.minutes] == [datetime(2026, 11, 1, 10), datetime(2026, 11, 1, 10, 1)]


def test_reconcile_without_a_difference_is_skipped_and_never_waits(nothing_pending):
    from airflow.sdk.exceptions import AirflowSkipException

    start = datetime(2026, 11, 1, 10, tzinfo=UTC)
    with pytest.raises(AirflowSkipException, match="agree from 2026-11-01"):
        sensor("reconcile").execute(context(interval=(start, start + timedelta(hours=1))))


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (("2026-11-22T09:00", "2026-11-22T08:00"), "must be before"),
        (("2026-11-01T00:00", "2026-11-03T00:00"), "recruitment_reconcile"),  # 2,880 minutes
    ],
)
def test_a_refused_window_is_not_retried(form, message):
    from airflow.sdk.exceptions import AirflowFailException

    with pytest.raises(AirflowFailException, match=message):
        sensor().execute(context("manual", **dict(zip(("from", "to"), form, strict=True))))


def trigger(digest: str, seconds: float, wake: float | None = None):
    from plugins.changes import LakeChangeTrigger

    now = datetime.now(UTC)
    times = [(now + timedelta(seconds=time_left)).isoformat() for time_left in (seconds, wake) if time_left is not None]
    original = LakeChangeTrigger("lake_reader", PIPELINE.lake_table, digest, *times)
    classpath, kwargs = original.serialize()
    assert classpath == "plugins.changes.LakeChangeTrigger"
    return LakeChangeTrigger(**kwargs)


def first_event(waiting, then=None):
    async def wait():
        events = waiting.run()
        task = asyncio.create_task(asyncio.to_thread(then)) if then else None
        try:
            return await anext(events)
        finally:
            await events.aclose()
            await waiting.cleanup()
            if task:
                await task

    return asyncio.run(wait())


def digest_now() -> str:
    with lake("lake_reader") as session:
        return change_log.digest(change_log.changed_days(session, PIPELINE.lake_table))


def test_trigger_fires_when_a_minute_is_touched():
    event = first_event(trigger(digest_now(), 20), then=lambda: touch(minutes_ago(1)))
    assert set(event.payload) == {"deadline"}


def test_trigger_skips_the_task_at_the_deadline():
    from airflow.triggers.base import TaskSkippedEvent

    assert isinstance(first_event(trigger(digest_now(), 2)), TaskSkippedEvent)


def test_trigger_wakes_the_task_before_the_deadline():
    waiting = trigger(digest_now(), 60, wake=2)
    assert first_event(waiting).payload == {"deadline": waiting.deadline}


def test_triggers_of_a_process_share_their_threads():
    first_event(trigger("other", 20))
    before = threading.active_count()
    for _ in range(10):
        first_event(trigger("other", 20))
    assert threading.active_count() <= before + 2


def test_an_unreachable_lake_fails_the_task_with_the_lakes_error(monkeypatch):
    monkeypatch.setenv(
        "AIRFLOW_CONN_LAKE_READER",
        '{"conn_type": "cassandra", "host": "127.0.0.1", "port": 1, "login": "a", "password": "b"}',
    )
    event = first_event(trigger("digest", 20))
    assert "127.0.0.1:1" in event.payload["error"]
    with pytest.raises(RuntimeError, match="127.0.0.1:1"):
        sensor().execute_complete(context(), event.payload)


def test_a_missing_connection_is_named(monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_LAKE_READER")
    event = first_event(trigger("digest", 20))
    assert "lake_reader" in event.payload["error"]
