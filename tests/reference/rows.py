"""Hand-written recruitment events for tests: the smallest valid row, whose cells a test can replace."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

_UUID_EPOCH = 0x01B21DD213814000
_UNIX_EPOCH = datetime(1970, 1, 1)


def event_id(when: datetime, node: int = 1, ticks: int = 0) -> uuid.UUID:
    """The time-UUID of that naive UTC time, plus `ticks` of 100 ns, sent by that node."""
    steps = (when - _UNIX_EPOCH) // timedelta(microseconds=1) * 10 + ticks + _UUID_EPOCH
    return uuid.UUID(fields=(steps & 0xFFFFFFFF, steps >> 32 & 0xFFFF, steps >> 48 & 0x0FFF | 0x1000, 0x80, 0, node))


def click(when: datetime, node: int = 1, **cells: str | None) -> dict[str, str | None]:
    """A click with a bid on job 7 by publisher 2; `cells` replace its cells, None empties one."""
    row = {
        "create_time": str(event_id(when, node)),
        "ev": "2",
        "custom_track": "click",
        "ts": when.isoformat(sep=" ", timespec="milliseconds"),
        "job_id": "7",
        "publisher_id": "2",
        "campaign_id": "30",
        "group_id": "40",
        "bid": "1.5",
    }
    return {**row, **cells}


def page_view(when: datetime, node: int = 1, **cells: str | None) -> dict[str, str | None]:
    """A page view of job 7 by publisher 2."""
    return click(when, node, **{"ev": "1", "custom_track": None, "bid": None, **cells})
