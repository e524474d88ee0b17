"""The status of pipelines according to the warehouse's records, for the live table, `make status`, the watch and the
Pipelines page.

The accounts etl and bi can both query it. All ages are by the clock of the warehouse's server, which is assumed to agree
with the lake's within seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import takewhile

from include.durations import HOUR, MICROSECOND, MINUTE
from include.pipelines import Pipeline, all_pipelines
from include.warehouse import freshness as publications
from include.warehouse.session import column, rows, value
from include.warehouse.statements import Statements

sql = Statements(__file__)

# The state of a pipeline is the first of these that applies.
NEW = "new"  # its lake was never polled
BLIND = "blind"  # not polled for longer than look_limit: pending minutes are unknown
STALE = "stale"  # a live change, or any change while nothing is merged, has waited for longer than delay_limit
# In the next two, the lag is unknown or above delay_limit, and no live change waits.
HELD = "held"  # minutes newer than the published events are held
SILENT = "silent"  # no newer minute is held
FRESH = "fresh"  # lag within delay_limit, or a live change waits, but not yet for too long

_MAX_SEARCHED = 1_000  # newest pending minutes, and as many of failed batches, that are searched for the oldest change
_MAX_FAILURES = 100  # at most this many consecutive delta batches are counted
_MAX_SHOWN = 10  # fields


def recent_batches(conn, limit: int = 20) -> list[dict]:
    """The newest batches, newest first: the minutes and rows by fate of each."""
    return rows(conn.cursor(), sql("recent_batches"), {"limit": limit})


def freshness(conn) -> list[dict]:
    """For each pipeline its `state` and the values behind it; times are UTC, ages are seconds, None if unknown.

    newest_create_time  of all published events; see include/warehouse/freshness.py
    lag                 its age now; lag_median, lag_p95, lag_worst over the last hour, of which lag_covered is known
    delay               age of the oldest live change that was seen in the lake and is not merged; 0: none
    waiting_since       since when the change that makes the pipeline stale has waited, live or not
    looked_at, look_age when the lake was last polled
    pending, held       numbers of minutes; held does not include waiting ones
    last_merged_at      of the newest merge of any run; merge_age is its age
    new_fields          undeclared fields that were first found within the last day and are not accepted
    failures            delta batches in a row that did not merge, while a minute is pending; failing_since: when the
                        first was opened; failure: the newest reason
    """
    return [freshness_of(conn, pipeline) for pipeline in all_pipelines().values()]


def freshness_of(conn, pipeline: Pipeline) -> dict:
    """The freshness entry of one pipeline."""
    cursor = conn.cursor()
    counted = rows(cursor, sql("counts"), {"pipeline": pipeline.name})[0]
    now = counted.pop("queried_at")
    binds = {
        "pipeline": pipeline.name,
        "now": now,
        "live": pipeline.live_minutes * MINUTE // MICROSECOND,
        "ahead": pipeline.future_tolerance // MICROSECOND,
        "limit": _MAX_SEARCHED,
    }
    changes = rows(cursor, sql("changes"), binds)[0]
    published = publications.history(conn, pipeline, now - HOUR)
    hour = publications.lag_between(published, now - HOUR, now)
    # A warehouse older than etl.freshness may have no publications: take the newest event of its merged minutes.
    newest = published[-1][1] if published else value(cursor, sql("newest_in_ledger"), binds)
    waiting_since = _waiting_since(pipeline, now, changes, counted.pop("last_delta_at"))
    entry = {
        "pipeline": pipeline.name,
        **counted,
        "newest_create_time": newest,
        "lag": _seconds(newest, now),
        "lag_median": hour and hour.median,
        "lag_p95": hour and hour.p95,
        "lag_worst": hour and hour.worst,
        "lag_covered": hour.covered if hour else 0.0,
        "delay": max(0.0, _seconds(changes["oldest_live"], now) or 0.0),
        "waiting_since": waiting_since,
        "look_age": _seconds(counted["looked_at"], now),
        "merge_age": _seconds(counted["last_merged_at"], now),
        "new_fields": column(cursor, sql("new_fields"), binds),
        **_failures(cursor, binds, counted["pending"]),
    }
    held_newer = bool(rows(cursor, sql("held_newer"), binds | {"newest": newest or datetime(1000, 1, 1)}))
    return entry | {"state": _state(pipeline, entry, changes["oldest_live"], held_newer)}


def open_alerts(conn) -> list[dict]:
    """The open problems that minutemark_watch has found: pipeline, problem, began_at, told_at, found, remedy."""
    return rows(conn.cursor(), sql("open_alerts"))


def named_fields(names: Sequence[str]) -> str:
    """The new_fields as text; names come from data, so unusual ones are quoted."""
    shown = ", ".join(
        name if name.isprintable() and name == name.strip() != "" else repr(name) for name in names[:_MAX_SHOWN]
    )
    return shown + (f" and {len(names) - _MAX_SHOWN} more" if len(names) > _MAX_SHOWN else "")


def _waiting_since(pipeline: Pipeline, now: datetime, changes: dict, last_delta_at: datetime | None) -> datetime | None:
    """The time of a change that has waited longer than delay_limit, or None.

    It is the oldest live change or, if no delta batch was merged within delay_limit, the oldest of all changes.
    A backlog, such as an imported year, is not a delay: fresh minutes go first.
    """
    horizon = now - pipeline.delay_limit
    if changes["oldest_live"] is not None and changes["oldest_live"] < horizon:
        return changes["oldest_live"]
    nothing_merged = last_delta_at is None or last_delta_at < horizon
    if changes["oldest"] is not None and changes["oldest"] < horizon and nothing_merged:
        return changes["oldest"]
    return None


def _state(pipeline: Pipeline, entry: dict, oldest_live: datetime | None, held_newer: bool) -> str:
    if entry["looked_at"] is None:
        return NEW
    if entry["look_age"] > pipeline.look_limit.total_seconds():
        return BLIND
    if entry["waiting_since"] is not None:
        return STALE
    is_old = entry["lag"] is None or entry["lag"] > pipeline.delay_limit.total_seconds()
    if not is_old or oldest_live is not None:
        return FRESH
    return HELD if held_newer else SILENT


def _failures(cursor, binds: dict, pending: int) -> dict:
    """Failures, while a minute is pending: if none is, a run with `from` and `to` has processed the failed minutes."""
    deltas = rows(cursor, sql("deltas"), binds | {"failures": _MAX_FAILURES}) if pending else ()
    failed = list(takewhile(lambda batch: batch["state"] == "failed", deltas))
    return {
        "failures": len(failed),
        "failing_since": failed[-1]["opened_at"] if failed else None,
        "failure": failed[0]["reason"] if failed else None,
    }


def _seconds(since: datetime | None, now: datetime) -> float | None:
    return None if since is None else (now - since).total_seconds()
