"""Which minutes a run processes: those of its interval, those of its form, or the changed ones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from include.durations import HOUR, MINUTE
from include.errors import MinutemarkError

YEARS = range(1582, 5237)  # of time-UUIDs, and so of the lake's minutes
LOOK_BACK = timedelta(hours=3)  # before a reconcile run's interval: writers that do not touch minutes may be this late


class WindowRefused(MinutemarkError):
    """A window that is not valid; the message says what to enter instead."""


@dataclass(frozen=True)
class Window:
    """The minutes of a batch: pending minutes (`changes`), all of a `range`, or only those of it that differ (`differs`).

    Times are naive UTC minutes.
    """

    kind: str  # of the batch: minute, reconcile, backfill or manual
    what: str  # changes, range or differs
    start: datetime | None = None
    end: datetime | None = None  # not included


def window_of_run(
    *,
    dag_kind: str,
    run_type: str,
    run_after: datetime,
    interval: tuple[datetime, datetime] | None,
    from_text: str | None,
    to_text: str | None,
) -> Window:
    """The window of a run of a `minute` or `reconcile` DAG. Raises WindowRefused for a form that is not valid."""
    has_range = bool(from_text or to_text)
    if run_type == "backfill":
        if has_range:
            raise WindowRefused(
                "A backfill run takes its minutes from its own interval: leave `from` and `to` empty, "
                "or trigger one manual run with them instead of a backfill."
            )
        start, end = _interval(interval)
        return Window("backfill", "range", start, end)
    if has_range:
        return Window("manual", "range", *parse_range(from_text, to_text))
    batch_kind = "manual" if run_type == "manual" else dag_kind
    if dag_kind == "minute":
        return Window(batch_kind, "changes")
    start, end = _interval(interval) if interval else (as_minute(run_after) - HOUR, as_minute(run_after))
    return Window(batch_kind, "differs", start - LOOK_BACK, end)


def as_minute(time: datetime) -> datetime:
    """The naive UTC minute that a time falls in; a time without zone is UTC.

    A plain datetime: Airflow's times are pendulum's, whose differences cannot be divided by a timedelta.
    """
    if time.tzinfo is not None:
        time = time.astimezone(UTC)
    return datetime(time.year, time.month, time.day, time.hour, time.minute)


def open_range(from_text: str | None, to_text: str | None) -> tuple[datetime | None, datetime | None]:
    """Minutes from `from` to `to` (excluded), either of which may be empty: then that side is open. Raises WindowRefused."""
    return in_order(*_parse(from_text, to_text))


def minute_or_range(minute: datetime | None, start: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    """One minute, or those from `start` to `end` (excluded). Raises WindowRefused."""
    if minute and not (start or end):
        return minute, minute + MINUTE
    if minute or not (start or end):
        raise WindowRefused("Set either `minute`, or both `from` and `to`.")
    return whole_range(start, end)


def _interval(interval: tuple[datetime, datetime] | None) -> tuple[datetime, datetime]:
    if interval is None:
        raise WindowRefused(
            "This backfill run has no data interval, so its minutes are unknown. Create the backfill again."
        )
    return as_minute(interval[0]), as_minute(interval[1])


def parse_range(from_text: str | None, to_text: str | None) -> tuple[datetime, datetime]:
    """The minutes from `from` to `to` (excluded), as written in a form or on a command line. Raises WindowRefused."""
    return whole_range(*_parse(from_text, to_text))


def whole_range(start: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    """The range if both ends are set and in order. Raises WindowRefused."""
    if not (start and end):
        missing = "to" if start else "from"
        raise WindowRefused(f"`{missing}` is empty. Set both `from` and `to`.")
    in_order(start, end)
    return start, end


def in_order(start: datetime | None, end: datetime | None) -> tuple[datetime | None, datetime | None]:
    """The given range. Raises WindowRefused if `start` is not before `end`."""
    if start and end and start >= end:
        raise WindowRefused(
            f"`from` ({start:%Y-%m-%dT%H:%M}) must be before `to` ({end:%Y-%m-%dT%H:%M}). "
            "`to` is exclusive; for one minute, set it to the next minute."
        )
    return start, end


def _parse(from_text: str | None, to_text: str | None) -> tuple[datetime | None, datetime | None]:
    start, end = (minute_in(name, text) if text else None for name, text in (("from", from_text), ("to", to_text)))
    return start, end


def minute_in(name: str, text: str) -> datetime:
    """The minute in a string. Raises WindowRefused, which names the parameter."""
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        raise WindowRefused(
            f"`{name}` is {text!r}, which is not a date and time. "
            "Write it as 2026-11-22T14:05 or 2026-11-22T14:05:00Z (UTC)."
        ) from None
    if time.year not in YEARS:
        raise WindowRefused(
            f"`{name}` is {text!r}. Choose a year from {YEARS[0]} to {YEARS[-1]}: the lake has no others."
        )
    return as_minute(time)
