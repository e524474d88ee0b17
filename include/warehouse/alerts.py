"""The alerts of the watch: one notice when a problem starts, one an hour while it lasts, and one when it is resolved.

A notice is recorded after it is sent, so it may be sent twice. While no channel accepts it, each check sends it again.
A problem that is over before a channel accepts its first notice is not reported.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from include.durations import HOUR
from include.notice import REMINDER, RESOLVED, STARTED, Notice
from include.warehouse.lengths import LONGEST_REASON
from include.warehouse.session import in_transaction, rows, write
from include.warehouse.statements import Statements

sql = Statements(__file__)

REMIND_AFTER = HOUR
# How long a problem must be absent before it is resolved. A problem that returns sooner is the same problem.
RESOLVE_AFTER = timedelta(minutes=2)
_REMINDER_TOLERANCE = timedelta(seconds=30)  # the watch runs once a minute, but not always at the same second


@dataclass(frozen=True)
class Problem:
    """A problem that a pipeline has now."""

    pipeline: str
    problem: str  # stale, blind, held, failing or stuck; lakehouse_behind, hours_differ, bigquery_behind
    since: datetime
    found: str
    remedy: str


@dataclass(frozen=True)
class Alert:
    """A row of etl.alerts."""

    pipeline: str
    problem: str
    state: str  # open or over
    began_at: datetime
    seen_at: datetime
    told_at: datetime | None
    found: str
    remedy: str


def update(conn, problems: Iterable[Problem], now: datetime) -> list[tuple[Alert, Notice]]:
    """Update etl.alerts with the current problems; returns the alerts to send. Call `mark_notified` once an alert is sent."""
    present = {(problem.pipeline, problem.problem): problem for problem in problems}

    def change(cursor) -> list[tuple[Alert, Notice]]:
        records = rows(cursor, sql("known"))
        known = {(row["pipeline"], row["problem"]): Alert(**row) for row in records}
        due = []
        for key in sorted(known.keys() | present.keys()):
            alert = updated_alert(known.get(key), present.get(key), now)
            if alert != known.get(key):
                cursor.execute(sql("keep"), vars(alert))
            if notice := notice_of(alert, now):
                due.append((alert, notice))
        return due

    return in_transaction(conn, change)


def mark_notified(conn, alert: Alert, now: datetime) -> None:
    """Record that a channel accepted the notice of this state of the alert."""
    write(conn, sql("keep"), vars(replace(alert, told_at=now)))


def updated_alert(alert: Alert | None, problem: Problem | None, now: datetime) -> Alert:
    """The alert at this check: opened, kept open with the latest text, or over after RESOLVE_AFTER without the problem."""
    if problem is not None:
        texts = {"found": problem.found[:LONGEST_REASON], "remedy": problem.remedy[:LONGEST_REASON]}
        if alert is None or alert.state == "over":
            return Alert(problem.pipeline, problem.problem, "open", min(problem.since, now), now, None, **texts)
        return replace(alert, seen_at=now, **texts)
    if alert.state == "open" and now - alert.seen_at >= RESOLVE_AFTER:
        # The end of an alert that was never sent is not sent either.
        return replace(alert, state="over", told_at=None if alert.told_at else now)  # ty: ignore[invalid-argument-type]
    return alert  # ty: ignore[invalid-explicit-return]


def notice_of(alert: Alert, now: datetime) -> Notice | None:
    """The notice to send now for an alert, if any."""
    if alert.told_at is None:
        state = STARTED if alert.state == "open" else RESOLVED
    elif alert.state == "open" and now - alert.told_at >= REMIND_AFTER - _REMINDER_TOLERANCE:
        state = REMINDER
    else:
        return None
    until = alert.seen_at if state == RESOLVED else None
    text = f"Last found: {alert.found}" if state == RESOLVED else alert.found
    return Notice(alert.pipeline, alert.problem, state, text, alert.remedy, alert.began_at, until)
