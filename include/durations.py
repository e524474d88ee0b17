"""Units of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

MICROSECOND = timedelta(microseconds=1)
MILLISECOND = timedelta(milliseconds=1)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
EPOCH = datetime(1970, 1, 1)  # UTC

_UNITS = ((DAY, "day"), (HOUR, "hour"), (MINUTE, "minute"), (SECOND, "second"))


def utc_now() -> datetime:
    """The current time by the clock of this machine, naive and in UTC."""
    return datetime.now(UTC).replace(tzinfo=None)


def minute_floor(time: datetime) -> datetime:
    """The minute that a naive time falls in."""
    return time.replace(second=0, microsecond=0)


def minute_ceil(time: datetime) -> datetime:
    """The first minute that begins at or after a naive time."""
    return minute_floor(time + MINUTE - MICROSECOND)


def in_words(length: timedelta) -> str:
    """A length of time in the largest unit that divides it: `30 days`, `36 hours`."""
    unit, name = next(((unit, name) for unit, name in _UNITS if not length % unit), _UNITS[-1])
    number = length / unit
    return f"{number:g} {name}" if number == 1 else f"{number:g} {name}s"
