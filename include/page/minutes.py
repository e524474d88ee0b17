"""The last minutes of a pipeline one by one: the state of each, the fates of its rows, and the run that took it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from include.durations import MINUTE, minute_floor
from include.page import batches
from include.pipelines import Pipeline
from include.warehouse.session import rows, server_time, value
from include.warehouse.statements import Statements

sql = Statements(__file__)

SHOWN = 60
_SEARCHED = 240  # newest batches that are searched for these minutes: four hours of them, if one is opened each minute

# A minute is in one of these states; the first that fits.
OPEN = "open"  # has not ended; or is not in the ledger, and the lake has not been polled since its end: rows may follow
FAILED = "failed"  # pending, and its last finished batch failed
PENDING = "pending"  # also a held minute that was released or touched
HELD = "held"
CLOSED = "closed"
EMPTY = "empty"  # no rows
MERGED = "merged"

_COUNTS = ("raw_rows", "counted_rows", "ignored_rows", "rejected_rows")
_POLL_CLOCK = "SELECT lake_clock FROM etl.looks WHERE pipeline = %(pipeline)s"


def last_minutes(conn, pipeline: Pipeline) -> list[dict]:
    """The last sixty minutes, oldest first: minute, state, reason, raw_rows, counted_rows, ignored_rows, rejected_rows,
    merged_at, and `run`: dag_id and run_id of its last batch (for a failed minute, of the batch that failed), or None.
    """
    clock = server_time(conn.cursor())
    newest = minute_floor(clock)
    minutes = [newest - number * MINUTE for number in reversed(range(SHOWN))]
    binds = batches.newest_binds(pipeline, _SEARCHED) | {"start": minutes[0], "now": clock}
    known = {row["minute"]: row for row in rows(conn.cursor(), sql("ledger"), binds)}
    # Oldest first: the last batch of each minute stays.
    tries = rows(conn.cursor(), sql("tries", newest=batches.sql("newest")), binds)
    last_batches = {row["minute"]: row for row in tries}
    finished_batches = {row["minute"]: row for row in tries if row["state"] != "open"}
    polled_at = value(conn.cursor(), _POLL_CLOCK, binds)
    runs = batches.runs_of(conn, (row["batch_id"] for row in known.values()))
    cells = []
    for minute in minutes:
        row = known.get(minute, {})
        state = state_of(minute, row, finished_batches.get(minute), polled_at, clock)
        batch = finished_batches[minute] if state == FAILED else last_batches.get(minute)
        run = {"dag_id": batch["dag_id"], "run_id": batch["run_id"]} if batch else runs.get(row.get("batch_id"))
        cells.append(
            {
                "minute": minute,
                "state": state,
                "reason": batch["reason"] if state == FAILED else row.get("reason"),  # ty: ignore[not-subscriptable]
                "merged_at": row.get("merged_at"),
                "run": run,
                **{name: row.get(name) for name in _COUNTS},
            }
        )
    return cells


def state_of(minute: datetime, row: Mapping, batch: Mapping | None, polled_at: datetime | None, clock: datetime) -> str:
    """One of the states above. `row` is the ledger's, or empty; `batch` the minute's last finished batch, if any;
    `polled_at` when the lake was last polled, by its own clock.
    """
    if minute + MINUTE > clock:
        return OPEN
    if not row:
        return EMPTY if polled_at is not None and polled_at >= minute + MINUTE else OPEN
    if row["pending"]:
        return FAILED if batch is not None and batch["state"] == "failed" else PENDING
    if row["state"] in (HELD, CLOSED):
        return row["state"]
    return MERGED if row["raw_rows"] else EMPTY
