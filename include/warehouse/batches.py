"""Batches: the record of one run's work, its attempts, and the handling of batches that never merged."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any

from include.durations import MICROSECOND, in_words
from include.pipelines import Pipeline, all_pipelines
from include.warehouse import folded_hours, ledger
from include.warehouse.delta import LastDelta, PlannedMinute, is_open
from include.warehouse.errors import BatchRefused
from include.warehouse.failed_batch import Decision, FailedBatch
from include.warehouse.lengths import LONGEST_REASON
from include.warehouse.pipeline_lock import lock
from include.warehouse.session import column, in_transaction, read, rows, value, write
from include.warehouse.statements import Statements

sql = Statements(__file__)


@dataclass(frozen=True)
class RunInfo:
    """The run that opens a batch."""

    dag_id: str
    run_id: str
    tick: datetime | None  # naive, UTC
    options: Mapping[str, object] = field(default_factory=dict)  # of the transform
    kind: str = "minute"  # or reconcile, backfill, manual
    allow_shrink: bool = False


@dataclass(frozen=True)
class Batch:
    """A row of etl.batches with its minutes, oldest first."""

    batch_id: int
    pipeline: str
    run: RunInfo
    lake_clock: datetime  # naive, UTC
    minutes: tuple[PlannedMinute, ...]
    estimated_rows: int
    is_delta: bool = False
    split_size: int | None = None
    state: str = "open"
    reason: str | None = None
    checked_attempt: int | None = None
    merged_attempt: int | None = None
    merge_tries: int = 0


def get(conn, batch_id: int) -> Batch:
    """The batch with this id. Raises BatchRefused if it does not exist."""
    cursor = conn.cursor()
    records = rows(cursor, "SELECT * FROM etl.batches WHERE batch_id = %(batch_id)s", {"batch_id": batch_id})
    if not records:
        raise BatchRefused(f"Batch {batch_id} is not in etl.batches. Clear the run from wait_for_changes.")
    planned = rows(cursor, sql("minutes"), {"batch_id": batch_id})
    values = {**records[0], "options": json.loads(records[0]["options"])}
    values |= {name: bool(values[name]) for name in ("allow_shrink", "is_delta")}
    values["run"] = RunInfo(**{field.name: values[field.name] for field in fields(RunInfo)})
    values["minutes"] = tuple(PlannedMinute(row["minute"], row["changed_at"]) for row in planned)
    return Batch(**{field.name: values[field.name] for field in fields(Batch)})


@dataclass(frozen=True)
class MergedBatch:
    """What a merge published: the content of an asset event."""

    batch_id: int
    pipeline: str
    kind: str
    attempt: int
    merged_at: datetime  # UTC
    minutes: int
    start: datetime  # of its oldest minute
    end: datetime  # of its newest minute
    raw_rows: int
    counted_rows: int
    ignored_rows: int
    rejected_rows: int

    def as_json(self) -> dict[str, Any]:
        return {
            name: value.replace(tzinfo=UTC).isoformat() if isinstance(value, datetime) else value
            for name, value in asdict(self).items()
        }


def merged_batch(conn, batch_id: int) -> MergedBatch | None:
    """What the batch published; None if it was not merged."""
    records = rows(conn.cursor(), sql("merged"), {"batch_id": batch_id})
    return MergedBatch(**records[0]) if records else None


def open_batch(
    conn,
    pipeline: Pipeline,
    run: RunInfo,
    *,
    lake_clock: datetime,
    minutes: Sequence[PlannedMinute],
    is_delta: bool = False,
    split_size: int | None = None,
) -> int:
    """Record a batch and return its id. Open batches that the same run opened before are closed.

    A minute of a folded hour brings the other minutes of that hour with it.
    """
    if not minutes:
        raise ValueError("A batch needs at least one minute.")
    batch = {
        "pipeline": pipeline.name,
        "kind": run.kind,
        "dag_id": run.dag_id,
        "run_id": run.run_id,
        "tick": run.tick,
        "lake_clock": lake_clock,
        "options": json.dumps(dict(run.options), sort_keys=True),
        "allow_shrink": int(run.allow_shrink),
        "is_delta": int(is_delta),
        "split_size": split_size,
        "estimated_rows": sum(minute.estimated_rows for minute in minutes),
        "minutes": len(minutes),
    }

    def record(cursor) -> int:
        former_ids = _query_under_lock(cursor, pipeline, sql("open_of_run"), batch)
        cursor.execute(sql("open_batch"), batch)
        batch_id = cursor.lastrowid
        cursor.executemany(
            "INSERT INTO etl.batch_minutes (batch_id, minute, changed_at) VALUES (%s, %s, %s)",
            [
                (batch_id, planned.minute, planned.changed_at)
                for planned in sorted(minutes, key=lambda entry: entry.minute)
            ],
        )
        folded_hours.add_missing_minutes(cursor, pipeline.name, batch_id, [planned.minute for planned in minutes])
        _close(cursor, pipeline, former_ids, f"replaced by batch {batch_id}")
        return batch_id

    return in_transaction(conn, record)


def new_attempt(conn, batch_id: int) -> int:
    """Record a new attempt, whose number is larger than all earlier ones. Call this before the lake is read.

    The gate must then pass again.
    """

    def record(cursor) -> int:
        cursor.execute(
            "SELECT state, reason, pipeline FROM etl.batches WHERE batch_id = %(batch_id)s FOR UPDATE",
            {"batch_id": batch_id},
        )
        row = cursor.fetchone()
        if row is None or row[0] != "open":
            raise BatchRefused(_not_open(batch_id, *(row or ("missing", None, None))))
        cursor.execute(
            "UPDATE etl.batches SET checked_attempt = NULL WHERE batch_id = %(batch_id)s", {"batch_id": batch_id}
        )
        cursor.execute("INSERT INTO etl.attempts (batch_id) VALUES (%(batch_id)s)", {"batch_id": batch_id})
        return cursor.lastrowid

    return in_transaction(conn, record)


def completed_attempt(conn, batch_id: int) -> int | None:
    """The newest attempt of the batch that has counts of every minute, which are written last."""
    return value(conn.cursor(), sql("completed_attempt"), {"batch_id": batch_id})


def record_failure(conn, batch_id: int, reason: str) -> None:
    """Record why a task of this batch failed, for people and for a minute that is held because of it."""
    statement = "UPDATE etl.batches SET reason = %(reason)s WHERE batch_id = %(batch_id)s AND state = 'open'"
    write(conn, statement, {"batch_id": batch_id, "reason": " ".join(reason.split())[:LONGEST_REASON]})


def last_delta(conn, pipeline: Pipeline) -> LastDelta:
    """Whether the newest delta batch had suspects, and the oldest suspect of the last batch that had any.

    Suspects are minutes of a batch that kept failing. The result decides which kind of batch is next.
    """
    cursor = conn.cursor()
    ordinary, suspect = (
        value(cursor, sql("newest_delta", suspects=suspects), {"pipeline": pipeline.name}) for suspects in (False, True)
    )
    if suspect is None:
        return LastDelta()
    cursor.execute("SELECT MIN(minute) FROM etl.batch_minutes WHERE batch_id = %(batch_id)s", {"batch_id": suspect})
    return LastDelta(suspect > (ordinary or 0), cursor.fetchone()[0])


def close_abandoned(conn, pipeline: Pipeline, dag_id: str, run_id: str) -> list[int]:
    """Close the open delta batches of other runs of this DAG, and the open batches of this run, which was cleared.

    The DAG has one active run, so the other runs have ended. Returns the ids of the closed batches.

    Minutes of a batch that kept failing in Spark or in the merge are read in smaller batches, or held: see FailedBatch.
    """
    binds = {"pipeline": pipeline.name, "dag_id": dag_id, "run_id": run_id}

    def close(cursor) -> list[int]:
        batch_ids = _query_under_lock(cursor, pipeline, sql("open_of_other_runs"), binds)
        _close(cursor, pipeline, batch_ids, "its run ended without a merge")
        batch_ids_of_run = _query_under_lock(cursor, pipeline, sql("open_of_run"), binds)
        _close(cursor, pipeline, batch_ids_of_run, "its run was cleared")
        return batch_ids + batch_ids_of_run

    return in_transaction(conn, close)


def overdue(conn, pipeline_name: str, age: timedelta) -> list[int]:
    """Open batches that no run can be working on: they were neither opened nor tried again within `age`."""
    return read(conn, column, sql("overdue"), {"pipeline": pipeline_name, "age": age // MICROSECOND})


def close_overdue(conn, pipeline_name: str, batch_id: int, age: timedelta) -> bool:
    """Mark an overdue batch as failed. Returns False if it is no longer overdue.

    To process its minutes in the same run, clear the run: it opens a new batch. The pipeline and the batch's row are locked
    first, as in a merge, so that no merge is interrupted.
    """
    declared = all_pipelines().get(pipeline_name)

    def close(cursor) -> bool:
        binds = {"pipeline": pipeline_name, "age": age // MICROSECOND, "batch_id": batch_id}
        if declared is not None:
            lock(cursor, declared)
        cursor.execute("SELECT batch_id FROM etl.batches WHERE batch_id = %(batch_id)s FOR UPDATE", binds)
        cursor.fetchall()
        if value(cursor, sql("overdue_one"), binds) is None:
            return False
        why = f"no run has worked on it for {in_words(age)}"
        if declared is not None:
            _close(cursor, declared, [batch_id], why)
        else:  # no run will process its minutes: there is nothing to split or hold
            cursor.execute(
                "UPDATE etl.batches SET state = 'failed', reason = %(why)s WHERE batch_id = %(batch_id)s",
                {"batch_id": batch_id, "why": f"{why}, and no pipeline of this name is declared"},
            )
        return True

    return in_transaction(conn, close)


def _query_under_lock(cursor, pipeline: Pipeline, query: str, binds: Mapping[str, object]) -> list[int]:
    """The batches that the query returns once the pipeline's lock is held: until then, a merge may commit one of them."""
    if not column(cursor, query, binds):  # without batches, do not wait for a merge to release the lock
        return []
    lock(cursor, pipeline)
    return column(cursor, query, binds)


def _close(cursor, pipeline: Pipeline, batch_ids: Iterable[int], why: str) -> None:
    for batch_id in batch_ids:
        _split_or_hold(cursor, pipeline, batch_id)
        cursor.execute(sql("close"), {"batch_id": batch_id, "why": why})


def _split_or_hold(cursor, pipeline: Pipeline, batch_id: int) -> None:
    """Split or hold the minutes of a batch that failed too often: see FailedBatch. Take the pipeline's lock first."""
    binds = {"pipeline": pipeline.name, "batch_id": batch_id}
    [end] = rows(cursor, sql("end_of"), binds)
    minute, lake_clock, opened_at = end.pop("minute"), end.pop("lake_clock"), end.pop("opened_at")
    failed = FailedBatch(
        **end,
        is_open=is_open(minute, lake_clock, pipeline),
        is_folded_hour=folded_hours.is_one_folded_hour(cursor, pipeline.name, batch_id),
    )
    day = min(minute, lake_clock).date()
    decision = failed.decision(failed.fails_alone and _others_passed(cursor, binds, opened_at, failed.minutes, day))
    if decision is Decision.HOLD:
        pending = [
            (row["minute"], row["changed_at"], failed.why_held) for row in rows(cursor, sql("still_pending"), binds)
        ]
        ledger.hold(cursor, pipeline.name, pending, None, batch_id=batch_id)
    elif decision is Decision.SPLIT:
        cursor.execute(sql("split"), binds | {"size": max(1, failed.minutes // 2)})


def _others_passed(cursor, binds: dict, opened_at: datetime, minutes: int, day: date) -> bool:
    """Whether another batch has been merged since the minute or folded hour of this one first failed alone.

    If it has not failed alone before: since this batch was opened.

    Only batches with a minute of that `day` or a later one count: a problem of a new day, such as a missing partition, does
    not affect old minutes. Failures before the minute's last merge do not count.
    """
    since = value(cursor, sql("first_failure"), binds | {"minutes": minutes}) or opened_at
    return value(cursor, sql("merged_since"), binds | {"since": since, "day": day}) is not None


def state_text(state: str) -> str:
    """The state as the end of a sentence."""
    return "has failed" if state == "failed" else f"is {state}"


def _not_open(batch_id: int, state: str, reason: str | None, pipeline: str | None) -> str:
    why = f" ({reason})" if reason else ""
    # Not a cleared run: it may find that they are no longer pending.
    trigger = f"trigger {pipeline}_minute with `from` and `to`"
    remedy = {
        "merged": f"It needs no further attempt; to read its minutes again, {trigger}.",
        "skipped": f"None of its minutes was left to publish; to read them again, {trigger}.",
    }.get(state, "Clear the run from wait_for_changes, which opens a new batch.")
    return f"Batch {batch_id} is not open: it {state_text(state)}{why}. {remedy}"
