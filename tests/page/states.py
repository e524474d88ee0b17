"""States that the page's tests give to minutes of the last hour on a real warehouse, and the users who look at them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from include.warehouse import ledger, merge
from include.warehouse.session import server_time
from tests.warehouse.lab import Lab, contribution

USERS = {"vera": "viewer", "ulf": "user", "otto": "op", "ada": "admin"}
DATA = "/minutemark/api/pipelines"
CHANGE = {"X-Minutemark-Page": "1"}
MINUTE = timedelta(minutes=1)
SECRET = '{"secret": "payload"}'  # of a rejected row
GOOD, BAD = contribution(), contribution(bid_sum=-1)


def minutes_ago(lab: Lab, minutes: int) -> datetime:
    """The start of the minute that was current `minutes` minutes ago by the warehouse's clock."""
    return server_time(lab.conn.cursor()).replace(second=0, microsecond=0) - minutes * MINUTE


def text(minute: datetime) -> str:
    return f"{minute.isoformat()}Z"


def see(lab: Lab, *minutes: datetime) -> None:
    """Record a poll at the current time that finds these minutes touched long enough ago to have settled."""
    clock = server_time(lab.conn.cursor())
    lab.see(*minutes, at=clock - 2 * MINUTE, clock=clock)
    ledger.record_poll_time(lab.conn, lab.pipeline, clock)


def publish(lab: Lab, minute: datetime, run_id: str, rows: int = 1, **values) -> int:
    see(lab, minute)
    return lab.publish(
        {minute: [contribution(event_count=rows, clicks=rows)]},
        run_id=run_id,
        clock=server_time(lab.conn.cursor()),
        **values,
    )


def hold(lab: Lab, minute: datetime, run_id: str = "hold") -> int:
    """Hold this minute at the staging gate, and merge the minute before it."""
    see(lab, minute, minute - MINUTE)
    batch_id = lab.open(minute - MINUTE, minute, run_id=run_id, clock=server_time(lab.conn.cursor()))
    lab.stage(batch_id, {minute - MINUTE: [GOOD], minute: [BAD]})
    assert lab.check(batch_id).held == (minute,)
    merge.merge(batch_id)
    return batch_id


def reject_and_hold(lab: Lab) -> datetime:
    """Hold a minute, and reject an event of the minute before it; returns the held minute."""
    minute = minutes_ago(lab, 5)
    hold(lab, minute)
    lab.query(
        "INSERT INTO etl.rejected_events (pipeline, origin, origin_key, minute, reason, payload) "
        "VALUES ('recruitment', 'lake', 'k1', %s, 'bid is negative: -1', %s)",
        minute - MINUTE,
        SECRET,
    )
    return minute


def drift(lab: Lab, minute: datetime, field: str = "job_id", new: str = "jobId") -> None:
    """Hold this minute because a field was renamed, after four minutes that had the field."""
    rows = 200
    for before in range(4, -1, -1):
        at = minute - before * MINUTE
        present, unknown = ({field: rows}, {}) if before else ({}, {new: rows})
        see(lab, at)
        batch_id = lab.open(at, run_id=f"fields {before}", clock=server_time(lab.conn.cursor()))
        counts = json.dumps({"present": present, "unreadable": {}, "unknown": unknown})
        staged = {at: [contribution(event_count=rows, clicks=rows)]}
        lab.stage(batch_id, staged, counts={at: {"field_counts": counts}})
        if lab.check(batch_id).passed:
            merge.merge(batch_id)
    assert lab.ledger(minute)["state"] == "held"
