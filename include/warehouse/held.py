"""Held minutes: lists them with their reasons, and releases them. Each release is recorded permanently."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from include.durations import MINUTE
from include.errors import MinutemarkError
from include.pipelines import Pipeline
from include.warehouse.gate_verdict import Pass, Release
from include.warehouse.lengths import LONGEST_NAME, LONGEST_REASON
from include.warehouse.pipeline_lock import lock
from include.warehouse.session import column, execute, in_transaction, reading, rows, server_time
from include.warehouse.statements import Statements

sql = Statements(__file__)

RELEASED = "released"  # in held_changed_at: it differs from every change, so that the minute is pending
_MAX_NAMED = 10  # minutes in a message
_NO_LIMIT = 2**63 - 1  # rows


class ReleaseRefused(MinutemarkError):
    """A release that is not possible; the message says what is held instead, or that the oldest minute is closed."""


@dataclass(frozen=True)
class Released:
    """The result of a release; `str()` describes it."""

    pipeline: str
    by: str
    minutes: tuple[datetime, ...]
    before: tuple[datetime, ...]  # released earlier, and still waiting for their batch

    def __str__(self) -> str:
        lines = []
        if self.minutes:
            lines.append(
                f"Released by {self.by}: {_listed(self.minutes)}. The next run of {self.pipeline}_minute reads and "
                "publishes them. Checks that they fail in that run's staging gate count as warnings, once."
            )
        if self.before:
            lines.append(f"Already released, waiting for the next run: {_listed(self.before)}.")
        return "\n".join(lines)


def release(
    conn, pipeline: Pipeline, start: datetime, end: datetime, *, by: str, reason: str | None = None
) -> Released:
    """Release the held minutes from `start` to `end` (excluded), under the pipeline's lock. Earlier releases stay as they are.

    The minutes are pending until a batch merges them or they are held again. Raises ReleaseRefused if none of them is held,
    or the oldest is closed.
    """
    by = by.strip()[:LONGEST_NAME] or "somebody"
    binds = {
        "pipeline": pipeline.name,
        "start": start,
        "end": end,
        "by": by,
        "reason": (reason or "").strip()[:LONGEST_REASON] or None,
        "released": RELEASED,
    }

    def work(cursor) -> Released:
        lock(cursor, pipeline)
        records = rows(cursor, sql("to_release"), binds)
        if not records:
            raise ReleaseRefused(_nothing_held(cursor, pipeline, start, end))
        _refuse_closed(cursor, pipeline, records[0]["minute"])
        # The ledger first, as in a hold, so that one of two transactions waits, and they do not deadlock.
        cursor.execute(sql("release"), binds)
        new = [row for row in records if row["release_id"] is None]
        cursor.executemany(
            "INSERT INTO etl.releases (pipeline, minute, held_reason, released_by, reason) VALUES (%s, %s, %s, %s, %s)",
            [(pipeline.name, row["minute"], row["reason"], binds["by"], binds["reason"]) for row in new],
        )
        before = tuple(row["minute"] for row in records if row["release_id"] is not None)
        return Released(pipeline.name, by, tuple(row["minute"] for row in new), before)

    return in_transaction(conn, work)


def outstanding(cursor, pipeline: Pipeline, minutes: Collection[datetime]) -> dict[datetime, Release]:
    """The releases of these minutes that are not used up yet."""
    releases = [Release(*row) for row in execute(cursor, sql("outstanding"), {"pipeline": pipeline.name}).fetchall()]
    return {release.minute: release for release in releases if release.minute in minutes}


def keep_passes(cursor, batch_id: int, attempt: int, passes: Iterable[Pass]) -> None:
    """Record which failing checks a release lets this attempt pass; replaces the record of an earlier gate."""
    cursor.execute(
        "DELETE FROM etl.release_passes WHERE batch_id = %(batch_id)s AND attempt = %(attempt)s",
        {"batch_id": batch_id, "attempt": attempt},
    )
    cursor.executemany(
        "INSERT INTO etl.release_passes (batch_id, attempt, minute, check_name, release_id) VALUES (%s, %s, %s, %s, %s)",
        [(batch_id, attempt, passed.minute, passed.check, passed.release.release_id) for passed in passes],
    )


def held_minutes(conn, pipelines: Iterable[Pipeline], *, samples: bool = True, limit: int | None = None) -> list[dict]:
    """Every held minute of each pipeline, or `limit` of them, oldest first: pipeline, minute, status, held_since, held_at,
    batch_id, reason, rows_before, rows_now, released_by, released_at, released_because, and `checks`: those it failed,
    with samples of offending rows.

    `limit` applies to each pipeline. `samples` need the account of warehouse_etl: they show rows of staging. Without
    them each check's sample is empty.
    """
    entries = []
    with reading(conn) as cursor:
        for pipeline in pipelines:
            binds = {"pipeline": pipeline.name, "limit": _NO_LIMIT if limit is None else limit}
            entries += rows(cursor, sql("held_minutes"), binds)
        results = {
            key: _failures(cursor, *key, samples)
            for key in {(row["batch_id"], row["attempt"]) for row in entries if row["attempt"]}
        }
    for row in entries:
        failures = results.get((row["batch_id"], row.pop("attempt")), {})
        row["checks"] = [
            _narrow_to_minute(failures[name], row["minute"])
            for name in json.loads(row.pop("failing_checks") or "[]")
            if name in failures
        ]
    return entries


def summary(conn, pipelines: Iterable[Pipeline]) -> str:
    """The held minutes, as text."""
    with reading(conn) as cursor:
        minutes_by_pipeline = {pipeline.name: _held(cursor, pipeline) for pipeline in pipelines}
    held = [f"Held in {name}: {_listed(minutes)}." for name, minutes in minutes_by_pipeline.items() if minutes]
    return f"{' '.join(held)} `./minutemark held` shows why." if held else "No minutes are held."


def _failures(cursor, batch_id: int, attempt: int, samples: bool) -> dict[str, dict]:
    records = rows(cursor, sql("failures", samples=samples), {"batch_id": batch_id, "attempt": attempt})
    return {row["check_name"]: row | {"sample": json.loads(row["sample"] or "[]")} for row in records}


def _narrow_to_minute(failure: dict, minute: datetime) -> dict:
    """The failure with the sampled rows of that minute, or with all sampled rows if the minute has none."""
    minute_rows = [row for row in failure["sample"] if row.get("minute") == str(minute)]
    return failure | {"sample": minute_rows or failure["sample"]}


def _held(cursor, pipeline: Pipeline) -> list[datetime]:
    query = "SELECT minute FROM etl.minute_ledger WHERE pipeline = %(pipeline)s AND state = 'held' ORDER BY minute"
    return column(cursor, query, {"pipeline": pipeline.name})


def _nothing_held(cursor, pipeline: Pipeline, start: datetime, end: datetime) -> str:
    binds = {"pipeline": pipeline.name, "start": start, "end": end}
    last = rows(cursor, sql("last_used_release"), binds)
    span = (
        f"{start:%Y-%m-%d %H:%M} of {pipeline.name} is not held."
        if end - start <= MINUTE
        else f"No minute of {pipeline.name} from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} (excluded) is held."
    )
    released = [
        f"{row['minute']:%Y-%m-%d %H:%M} was released by {row['released_by']} at {row['released_at']:%Y-%m-%d %H:%M:%S}, "
        f"and batch {row['used_by_batch']} has published it."
        for row in last
    ]
    closed = [
        f"{row['minute']:%Y-%m-%d %H:%M} is closed" + (f": {row['reason'].rstrip('.')}." if row["reason"] else ".")
        for row in rows(cursor, sql("oldest_closed"), binds)
    ]
    held = _held(cursor, pipeline)
    instead = (
        f"Held minutes: {_listed(held)}; `./minutemark held` shows why."
        if held
        else f"No minutes are held in {pipeline.name} now."
    )
    return " ".join([span, *released, *closed, instead])


def _refuse_closed(cursor, pipeline: Pipeline, oldest: datetime) -> None:
    """Raise ReleaseRefused for a closed minute: its next read would publish only the rows that the lake still has."""
    first_open = pipeline.first_open(server_time(cursor))
    if oldest < first_open:
        raise ReleaseRefused(
            f"{oldest:%Y-%m-%d %H:%M} of {pipeline.name} is closed: {pipeline.retention_text}, and its facts stay as they are. "
            f"Only minutes from {first_open:%Y-%m-%d %H:%M} on can be released."
        )


def _listed(minutes: Collection[datetime]) -> str:
    shown = ", ".join(f"{minute:%Y-%m-%d %H:%M}" for minute in list(minutes)[:_MAX_NAMED])
    return f"{shown} and {len(minutes) - _MAX_NAMED} more" if len(minutes) > _MAX_NAMED else shown
