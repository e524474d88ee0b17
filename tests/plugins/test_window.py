"""Which minutes a run takes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from include.window import Window, WindowRefused, as_minute, window_of_run

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-22T{text}")


def window(dag_kind="minute", run_type="scheduled", interval=(TEN, TEN + timedelta(minutes=1)), form=(None, None)):
    return window_of_run(
        dag_kind=dag_kind,
        run_type=run_type,
        run_after=datetime(2026, 11, 22, 10, 1, 7, tzinfo=UTC),
        interval=interval,
        from_text=form[0],
        to_text=form[1],
    )


def test_scheduled_run_takes_the_changed_minutes_for_any_interval():
    assert window() == Window("minute", "changes")


def test_manual_run_without_times_takes_the_changed_minutes():
    assert window(run_type="manual", interval=None) == Window("manual", "changes")


def test_backfill_run_takes_exactly_its_interval():
    assert window(run_type="backfill") == Window("backfill", "range", at("10:00"), at("10:01"))
    assert window("reconcile", "backfill", (TEN, TEN + HOUR)) == Window("backfill", "range", at("10:00"), at("11:00"))


def test_manual_run_with_times_takes_exactly_that_range():
    form = ("2026-11-22T08:00", "2026-11-22T08:05")
    assert window(run_type="manual", form=form) == Window("manual", "range", at("08:00"), at("08:05"))


def test_reconcile_covers_three_more_hours():
    assert window("reconcile", interval=(TEN, TEN + HOUR)) == Window("reconcile", "differs", at("07:00"), at("11:00"))


def test_reconcile_without_interval_covers_the_hour_before_its_trigger():
    assert window("reconcile", "manual", None) == Window("manual", "differs", at("06:01"), at("10:01"))


@pytest.mark.parametrize(
    ("text", "minute"),
    [
        ("2026-11-22T08:00:59.9", "08:00"),  # floored
        ("2026-11-22 08:00", "08:00"),  # as people write it
        ("2026-11-22T08:00:00Z", "08:00"),  # as the form sends it
        ("2026-11-22T10:00:00+02:00", "08:00"),  # from another zone
    ],
)
def test_times_are_floored_to_utc_minutes(text, minute):
    assert window(run_type="manual", form=(text, "2026-11-22T09:00")).start == at(minute)


def test_naive_times_are_utc():
    assert as_minute(datetime(2026, 11, 22, 8, 0, 30)) == at("08:00")


def test_a_time_of_airflow_becomes_a_plain_datetime():
    """Airflow's times are pendulum's: their differences cannot be divided by a timedelta."""
    from airflow.sdk.timezone import coerce_datetime

    minute = as_minute(coerce_datetime(datetime(2026, 11, 22, 8, 0, 30, tzinfo=UTC)))
    assert (minute, type(minute)) == (at("08:00"), datetime)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (("2026-11-22T09:00", "2026-11-22T08:00"), "must be before"),
        (("2026-11-22T09:00:01", "2026-11-22T09:00:59"), "must be before"),  # one minute, not included
        (("2026-11-22T09:00", None), "`to` is empty"),
        ((None, "2026-11-22T09:00"), "`from` is empty"),
        (("yesterday", "2026-11-22T09:00"), "Write it as 2026-11-22T14:05"),
        (("2026-11-22T09:00", "9999-12-31T23:59"), "`to` is '9999-12-31T23:59'. .* a year from 1582 to 5236"),
        (("0001-01-01T00:00+05:00", "2026-11-22T09:00"), "`from` is .* a year from 1582 to 5236"),
    ],
)
def test_an_invalid_form_is_refused_with_a_hint(form, message):
    with pytest.raises(WindowRefused, match=message):
        window(run_type="manual", form=form)


def test_backfill_with_times_in_its_form_is_refused():
    with pytest.raises(WindowRefused, match="leave `from` and `to` empty"):
        window(run_type="backfill", form=("2026-11-22T08:00", "2026-11-22T09:00"))
