"""What the page's tests share: users, and minutes of the last hour on a real warehouse."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from include.page.overview import now
from include.warehouse import ledger, merge
from tests.warehouse.lab import Lab, contribution

USERS = {"vera": "viewer", "ulf": "user", "otto": "op", "ada": "admin"}
DATA = "/minutemark/api/pipelines"
CHANGE = {"X-Minutemark-Page": "1"}
MINUTE = timedelta(minutes=1)
GOOD, BAD = contribution(), contribution(bid_sum=-1)


def ago(lab: Lab, minutes: int) -> datetime:
    """The minute that many minutes before the warehouse's current one."""
    return now(lab.conn).replace(second=0, microsecond=0) - minutes * MINUTE


def text(minute: datetime) -> str:
    return f"{minute.isoformat()}Z"


def see(lab: Lab, *minutes: datetime) -> None:
    """A poll finds them touched, long enough ago to have settled, and the lake has been looked at until now."""
    clock = now(lab.conn)
    lab.see(*minutes, at=clock - 2 * MINUTE, clock=clock)
    ledger.record_look(lab.conn, lab.pipeline, clock)


def publish(lab: Lab, minute: datetime, run_id: str, rows: int = 1, **values) -> int:
    see(lab, minute)
    return lab.publish(
        {minute: [contribution(event_count=rows, clicks=rows)]}, run_id=run_id, clock=now(lab.conn), **values
    )


def hold(lab: Lab, minute: datetime, run_id: str = "hold") -> int:
    """That minute held by its staging gate, while the one before it passes and is merged."""
    see(lab, minute, minute - MINUTE)
    batch_id = lab.open(minute - MINUTE, minute, run_id=run_id, clock=now(lab.conn))
    lab.stage(batch_id, {minute - MINUTE: [GOOD], minute: [BAD]})
    assert lab.check(batch_id).held == (minute,)
    merge.merge(batch_id)
    return batch_id


def utc_now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
