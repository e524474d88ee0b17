"""The merge: replaces the contributions of a batch's minutes and recomputes their facts, in one transaction.

The pipeline's row is locked before the transaction reads anything else, so that two batches that share a fact key cannot
each compute it without the other's contributions.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from include import pipelines
from include.connections import WAREHOUSE_ETL, Endpoint
from include.durations import MICROSECOND
from include.pipelines import Pipeline
from include.warehouse import folded_hours, rejected_share
from include.warehouse.errors import DEADLOCK, LOCK_WAIT, LOST, BatchRefused, code_of
from include.warehouse.pipeline_lock import lock
from include.warehouse.session import column, execute, in_transaction, read, rows, value, warehouse, write
from include.warehouse.sql import control, files
from include.warehouse.statements import Statements

sql = Statements(__file__)

log = logging.getLogger(__name__)

_SHARED_STAGING = ("etl.staged_rejects", "etl.staged_repeats", "etl.staged_counts")
FRESHNESS_DAYS = 7  # the history that etl.freshness keeps


@dataclass(frozen=True)
class MergeResult:
    """The outcome of a batch; str() is the line for the task's log."""

    batch_id: int
    pipeline: str
    state: str  # merged or skipped
    attempt: int | None
    minutes: int
    left_out: int  # minutes of the batch that it did not publish
    raw_rows: int = 0
    counted_rows: int = 0
    ignored_rows: int = 0
    rejected_rows: int = 0
    changed: bool = True  # False: the batch already had this state
    seconds: float | None = None  # from opened to merged
    inserted: Mapping[str, int] = field(default_factory=dict)  # rows inserted by this call, by table

    def __str__(self) -> str:
        if self.state == "skipped":
            return f"Batch {self.batch_id} is skipped: none of its minutes was left to publish; etl.batch_minutes says why."
        if not self.changed:
            return f"Batch {self.batch_id} was already merged (attempt {self.attempt}): nothing changed."
        dropped = f"; {self.left_out} left out (etl.batch_minutes says why)" if self.left_out else ""
        return (
            f"Batch {self.batch_id}, attempt {self.attempt}: {self.minutes} minutes merged{dropped}; {self.raw_rows} rows = "
            f"{self.counted_rows} counted + {self.ignored_rows} ignored + {self.rejected_rows} rejected."
        )


def merge(batch_id: int, conn_id: str | Endpoint = WAREHOUSE_ETL) -> MergeResult:
    """Publish the attempt that passed the staging gate. Repeating it changes nothing.

    After a deadlock, a lock timeout or a lost session it retries in a new session. Raises BatchRefused.
    """
    from tenacity import Retrying, before_sleep_log, retry_if_exception, stop_after_attempt, wait_random_exponential

    with warehouse(conn_id) as conn:
        _count_try(conn, batch_id)
    retrying = Retrying(
        retry=retry_if_exception(lambda error: code_of(error) in {DEADLOCK, LOCK_WAIT, *LOST}),
        stop=stop_after_attempt(4),
        wait=wait_random_exponential(multiplier=0.1, max=3),
        before_sleep=before_sleep_log(log, logging.WARNING),
        reraise=True,
    )
    return retrying(_merge_once, batch_id, conn_id)


def _count_try(conn, batch_id: int) -> None:
    """Count this try. It is committed first: a merge that kills its process must count, or it would be tried forever."""
    statement = "UPDATE etl.batches SET merge_tries = merge_tries + 1 WHERE batch_id = %(batch_id)s AND state = 'open'"
    write(conn, statement, {"batch_id": batch_id})


def _merge_once(batch_id: int, conn_id: str | Endpoint) -> MergeResult:
    with warehouse(conn_id, merge=True) as conn:
        query = "SELECT pipeline FROM etl.batches WHERE batch_id = %(batch_id)s"
        name = read(conn, value, query, {"batch_id": batch_id})
        if name is None:
            raise BatchRefused(f"Batch {batch_id} is not in etl.batches. Clear the run from wait_for_changes.")
        pipeline, cursor = pipelines.get(name), conn.cursor()
        lock(cursor, pipeline)
        result = _publish(cursor, pipeline, batch_id)
        conn.commit()
        if result.changed:
            _sweep(conn, pipeline)
        return result


def _publish(cursor, pipeline: Pipeline, batch_id: int) -> MergeResult:
    query = "SELECT * FROM etl.batches WHERE batch_id = %(batch_id)s FOR UPDATE"
    [batch] = rows(cursor, query, {"batch_id": batch_id})
    if batch["state"] in ("merged", "skipped"):
        return _result(cursor, batch_id, changed=False)
    attempt = _attempt_of(batch)
    binds = {
        "pipeline": pipeline.name,
        "batch_id": batch_id,
        "attempt": attempt,
        "settle_microseconds": pipeline.settle // MICROSECOND,
        "ahead_microseconds": pipeline.future_tolerance // MICROSECOND,
        "oldest_kept_freshness": _oldest_kept_freshness(cursor, pipeline),
        "oldest_kept_batch": oldest_kept_batch(cursor),
        "set_options": _set_options(pipeline, batch),
    }
    _drop_superseded(cursor, binds)
    folded_hours.unfold(cursor, pipeline.name, batch_id)
    [(planned, staged)] = execute(cursor, sql("staged"), binds).fetchall()
    if planned != staged:
        raise BatchRefused(
            f"Batch {batch_id}, attempt {attempt}: etl.staged_counts has {staged} of {planned} minutes, so its staging is "
            "no longer complete. Clear the run from transform_delta."
        )
    inserted: dict[str, int] = {}
    if planned == 0:
        cursor.execute("UPDATE etl.batches SET state = 'skipped' WHERE batch_id = %(batch_id)s", binds)
    else:
        for file in (*files(pipeline, "merge.sql"), *control("merge.sql")):
            for statement in file.statements:
                cursor.execute(statement, binds)
                if (table := _contributions_of(statement, pipeline)) is not None:
                    inserted[table] = inserted.get(table, 0) + cursor.rowcount
        query = "SELECT minute FROM etl.batch_minutes WHERE batch_id = %(batch_id)s AND state = 'merged'"
        rejected_share.recheck_hours(cursor, pipeline, column(cursor, query, binds), batch["lake_clock"])
    _remove_staged(cursor, pipeline, batch_id)
    return _result(cursor, batch_id, changed=True, inserted=inserted)


def _contributions_of(statement: str, pipeline: Pipeline) -> str | None:
    """The table that a statement inserts into, if it is replaced minute by minute; otherwise None."""
    words = statement.split(maxsplit=3)
    return words[2] if words[:2] == ["INSERT", "INTO"] and words[2] in pipeline.tables_by_minute else None


def _set_options(pipeline: Pipeline, batch: dict) -> str | None:
    """The batch's options that differ from the declared defaults, as JSON, or None."""
    options = json.loads(batch["options"]) | ({"allow_shrink": True} if batch["allow_shrink"] else {})
    changed = {name: value for name, value in options.items() if pipeline.options.get(name) != value}
    return json.dumps(changed, sort_keys=True) if changed else None


def _attempt_of(batch: dict) -> int:
    if batch["state"] != "open":
        why = f" ({batch['reason']})" if batch["reason"] else ""
        raise BatchRefused(
            f"Batch {batch['batch_id']} has failed{why}. Clear the run from wait_for_changes, which opens a new batch."
        )
    if batch["checked_attempt"] is None:
        raise BatchRefused(
            f"No attempt of batch {batch['batch_id']} has passed the staging gate. Clear the run from check_staging."
        )
    return batch["checked_attempt"]


def _drop_superseded(cursor, binds: dict) -> None:
    """Leave out minutes that a newer attempt has merged, that have been closed, or whose release is used up."""
    cursor.execute(sql("drop_superseded"), binds)
    cursor.execute(sql("drop_unreleased"), binds)


def oldest_kept_batch(cursor) -> int:
    """The oldest batch that may still be checked.

    Rows that check_warehouse needs can be deleted for older batches: those were opened more than a day ago.
    """
    return value(cursor, sql("oldest_kept_batch")) or 0


def staging_tables(pipelines_: Iterable[Pipeline]) -> list[str]:
    """Every table that a transform of these pipelines fills."""
    return [*_SHARED_STAGING, *(output.staging for pipeline in pipelines_ for output in pipeline.staged)]


def attempts_in(cursor, table: str) -> list[int]:
    """The attempts with rows in a table of staging."""
    return column(cursor, sql("attempts_in", table=table))


def _oldest_kept_freshness(cursor, pipeline: Pipeline) -> datetime | None:
    """The time of the oldest entry to keep, which was in force when the last week started. None: keep all."""
    return value(cursor, sql("oldest_kept_freshness"), {"pipeline": pipeline.name, "days": FRESHNESS_DAYS})


def _remove_staged(cursor, pipeline: Pipeline, batch_id: int) -> None:
    query = "SELECT attempt FROM etl.attempts WHERE batch_id = %(batch_id)s"
    for attempt in column(cursor, query, {"batch_id": batch_id}):
        _remove_attempt(cursor, pipeline, attempt)


def _remove_attempt(cursor, pipeline: Pipeline, attempt: int) -> None:
    for table in staging_tables([pipeline]):
        cursor.execute(sql("remove_attempt", table=table), {"attempt": attempt})


def _sweep(conn, pipeline: Pipeline) -> None:
    """Remove staged rows of failed batches, and of drivers that wrote after their attempt was given up."""

    def remove(cursor) -> None:
        attempts: set[int] = set()
        for table in staging_tables([pipeline]):
            attempts.update(attempts_in(cursor, table))
        if not attempts:
            return
        for attempt in column(cursor, sql("ended_attempts"), {"attempts": attempts, "pipeline": pipeline.name}):
            _remove_attempt(cursor, pipeline, attempt)

    try:
        in_transaction(conn, remove)
    except Exception:  # the batch is merged: clean-up must not fail it, and the next merge tries again
        log.warning("Left-over staged rows could not be removed; the next merge tries again.", exc_info=True)


def _result(cursor, batch_id: int, *, changed: bool, inserted: Mapping[str, int] | None = None) -> MergeResult:
    batch = rows(cursor, "SELECT * FROM etl.batches WHERE batch_id = %(batch_id)s", {"batch_id": batch_id})[0]
    merged_at = batch["merged_at"]
    query = "SELECT COUNT(*) FROM etl.batch_minutes WHERE batch_id = %(batch_id)s AND state <> 'merged'"
    return MergeResult(
        batch_id=batch_id,
        pipeline=batch["pipeline"],
        state=batch["state"],
        attempt=batch["merged_attempt"],
        minutes=batch["merged_minutes"] or 0,
        left_out=value(cursor, query, {"batch_id": batch_id}),
        **{name: int(batch[name] or 0) for name in ("raw_rows", "counted_rows", "ignored_rows", "rejected_rows")},
        changed=changed,
        seconds=(merged_at - batch["opened_at"]).total_seconds() if merged_at else None,
        inserted=inserted or {},
    )
