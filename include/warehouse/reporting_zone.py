"""The time zone in which dashboards show times, as rows that any server can join.

Facts, ledger and everything else stay in UTC. The views for dashboards (include/sql/*/views.sql) add the offset of
MINUTEMARK_REPORTING_ZONE from `etl.reporting_days`, which set-up fills: a server needs no time zone tables.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from include.chunks import slices
from include.durations import DAY
from include.errors import MinutemarkError
from include.readings import YEARS
from include.warehouse.session import execute
from include.warehouse.statements import Statements

sql = Statements(__file__)

SETTING = "MINUTEMARK_REPORTING_ZONE"
DEFAULT = "UTC"

_FIRST, _END = datetime(YEARS.start, 1, 1), datetime(YEARS.stop, 1, 1)
_ROWS_AT_ONCE = 1_000


class UnknownZone(MinutemarkError):
    """A reporting zone that the IANA database does not have."""


def reporting_zone(environ: Mapping[str, str] = os.environ) -> str:
    """The name of the declared zone. Raises UnknownZone."""
    name = environ.get(SETTING) or DEFAULT
    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        raise UnknownZone(
            f"{SETTING} is {name!r}, which is not a time zone: use a name of the IANA database, such as Europe/Berlin."
        ) from None
    return name


def days_away_from_utc(name: str) -> Iterator[tuple]:
    """(day of UTC, offset in seconds, when the offset changes, offset afterwards) of each day whose offset is not zero.

    On a day without a change, the third value is the end of the day, and both offsets are the same. No zone has changed twice
    within a day.
    """
    zone, day = ZoneInfo(name), _FIRST
    before = _offset(zone, day)
    while day < _END:
        after = _offset(zone, day + DAY)
        if before or after:
            changes_at = day + DAY if before == after else _change(zone, day)
            yield day.date(), before, changes_at, after
        day, before = day + DAY, after


def _offset(zone: ZoneInfo, time: datetime) -> int:
    """Seconds ahead of UTC at that time of UTC."""
    return int(time.replace(tzinfo=UTC).astimezone(zone).utcoffset().total_seconds())


def _change(zone: ZoneInfo, day: datetime) -> datetime:
    """The first second of the day that has the next day's offset."""
    after, low, high = _offset(zone, day + DAY), 0, 86_400  # the change is after low and not after high
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(zone, day + timedelta(seconds=middle)) == after:
            high = middle
        else:
            low = middle
    return day + timedelta(seconds=high)


def write(cursor) -> None:
    """Write the rows for the declared zone and this machine's time zone data, if they differ from the stored ones."""
    name = reporting_zone()
    days = list(days_away_from_utc(name))
    if list(execute(cursor, sql("days")).fetchall()) != days:
        cursor.execute("DELETE FROM etl.reporting_days")
        for part in slices(days, _ROWS_AT_ONCE):
            cursor.executemany(sql("add_day"), part)
    cursor.execute("DELETE FROM etl.reporting_zone WHERE zone <> %(zone)s", {"zone": name})
    cursor.execute(sql("set_zone"), {"zone": name})
