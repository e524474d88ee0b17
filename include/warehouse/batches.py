"""Batches: the record of one run's work, its attempts, and what becomes of those that never merged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta

from include.pipelines import Pipeline, all_pipelines
from include.warehouse import folded_hours, ledger
from include.warehouse.delta import LastDelta, PlannedMinute, is_open
from include.warehouse.errors import BatchRefused
from include.warehouse.pipeline_lock import lock
from include.warehouse.session import in_transaction, rows

FAILURES_BEFORE_SPLIT = 2
_MICROSECOND = timedelta(microseconds=1)
_OVERDUE = (
    "SELECT b.batch_id FROM etl.batches AS b WHERE b.pipeline = %(pipeline)s AND b.state = 'open' "
    "AND b.opened_at < CURRENT_TIMESTAMP(6) - INTERVAL %(age)s MICROSECOND AND NOT EXISTS ("
    "SELECT 1 FROM etl.attempts AS a WHERE a.batch_id = b.batch_id "
    "AND a.started_at >= CURRENT_TIMESTAMP(6) - INTERVAL %(age)s MICROSECOND)"
)


@dataclass(frozen=True)
class Batch:
    """A row of etl.batches with its minutes, oldest first."""

    batch_id: int
    pipeline: str
    kind: str
    dag_id: str
    run_id: str
    tick: datetime | None
    lake_clock: datetime
    options: dict
    allow_shrink: bool
    is_delta: bool
    split_size: int | None
    state: str
    reason: str | None
    estimated_rows: int
    checked_attempt: int | None
    merged_attempt: int | None
    merge_tries: int
    minutes: tuple[PlannedMinute, ...]


def get(conn, batch_id: int) -> Batch:
    """The batch of that id, or BatchRefused."""
    cursor = conn.cursor()
    found = rows(cursor, "SELECT * FROM etl.batches WHERE batch_id = %(batch_id)s", {"batch_id": batch_id})
    if not found:
        raise BatchRefused(f"There is no batch {batch_id} in etl.batches: clear the run from wait_for_changes.")
    planned = rows(
        cursor,
        "SELECT minute, changed_at FROM etl.batch_minutes WHERE batch_id = %(batch_id)s ORDER BY minute",
        {"batch_id": batch_id},
    )
    batch = {name: found[0][name] for name in Batch.__dataclass_fields__ if name != "minutes"}
    batch["options"] = json.loads(batch["options"])
    batch["allow_shrink"], batch["is_delta"] = bool(batch["allow_shrink"]), bool(batch["is_delta"])
    return Batch(**batch, minutes=tuple(PlannedMinute(row["minute"], row["changed_at"]) for row in planned))


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

    def as_json(self) -> dict[str, object]:
        return {
            name: value.replace(tzinfo=UTC).isoformat() if isinstance(value, datetime) else value
            for name, value in asdict(self).items()
        }


def merged(conn, batch_id: int) -> MergedBatch | None:
    """What the batch published; None if it was not merged."""
    found = rows(
        conn.cursor(),
        "SELECT b.batch_id, b.pipeline, b.kind, b.merged_attempt AS attempt, b.merged_at, b.merged_minutes AS minutes, "
        "m.start, m.end, b.raw_rows, b.counted_rows, b.ignored_rows, b.rejected_rows FROM etl.batches AS b JOIN ("
        " SELECT MIN(minute) AS start, MAX(minute) + INTERVAL 1 MINUTE AS end FROM etl.batch_minutes "
        " WHERE batch_id = %(batch_id)s AND state = 'merged') AS m "
        "WHERE b.batch_id = %(batch_id)s AND b.state = 'merged'",
        {"batch_id": batch_id},
    )
    return MergedBatch(**found[0]) if found else None


def open_batch(
    conn,
    pipeline: Pipeline,
    *,
    kind: str,
    dag_id: str,
    run_id: str,
    tick: datetime | None,
    lake_clock: datetime,
    minutes: Sequence[PlannedMinute],
    options: dict,
    allow_shrink: bool = False,
    is_delta: bool = False,
    split_size: int | None = None,
) -> int:
    """Record a batch and return its id. Open batches that the same run had before are closed.

    A minute of a folded hour brings the other minutes of that hour with it.
    """
    if not minutes:
        raise ValueError("A batch needs at least one minute.")
    batch = {
        "pipeline": pipeline.name,
        "kind": kind,
        "dag_id": dag_id,
        "run_id": run_id,
        "tick": tick,
        "lake_clock": lake_clock,
        "options": json.dumps(dict(options), sort_keys=True),
        "allow_shrink": int(allow_shrink),
        "is_delta": int(is_delta),
        "split_size": split_size,
        "estimated_rows": sum(minute.estimated_rows for minute in minutes),
        "minutes": len(minutes),
    }

    def record(cursor) -> int:
        replaced = _locked(cursor, pipeline, lambda: _open_of_run(cursor, pipeline, dag_id, run_id))
        cursor.execute(
            f"INSERT INTO etl.batches ({', '.join(batch)}) VALUES ({', '.join(f'%({name})s' for name in batch)})", batch
        )
        batch_id = cursor.lastrowid
        cursor.executemany(
            "INSERT INTO etl.batch_minutes (batch_id, minute, changed_at) VALUES (%s, %s, %s)",
            [(batch_id, planned.minute, planned.changed_at) for planned in sorted(minutes, key=lambda one: one.minute)],
        )
        folded_hours.complete(cursor, pipeline.name, batch_id, [planned.minute for planned in minutes])
        _close(cursor, pipeline, replaced, f"replaced by batch {batch_id}")
        return batch_id

    return in_transaction(conn, record)


def mint_attempt(conn, batch_id: int) -> int:
    """A new attempt number, larger than all before; call it before the lake is read. The gate has to pass again."""

    def mint(cursor) -> int:
        cursor.execute(
            "SELECT state, reason FROM etl.batches WHERE batch_id = %(batch_id)s FOR UPDATE", {"batch_id": batch_id}
        )
        found = cursor.fetchone()
        if found is None or found[0] != "open":
            raise BatchRefused(_not_open(batch_id, *(found or ("missing", None))))
        cursor.execute(
            "UPDATE etl.batches SET checked_attempt = NULL WHERE batch_id = %(batch_id)s", {"batch_id": batch_id}
        )
        cursor.execute("INSERT INTO etl.attempts (batch_id) VALUES (%(batch_id)s)", {"batch_id": batch_id})
        return cursor.lastrowid

    return in_transaction(conn, mint)


def completed_attempt(conn, batch_id: int) -> int | None:
    """The newest attempt of the batch whose counts are there for every minute: they are written last."""
    cursor = conn.cursor()
    cursor.execute(
        "SELECT a.attempt FROM etl.attempts AS a WHERE a.batch_id = %(batch_id)s AND NOT EXISTS ("
        " SELECT 1 FROM etl.batch_minutes AS m LEFT JOIN etl.staged_counts AS c ON c.attempt = a.attempt"
        " AND c.minute = m.minute WHERE m.batch_id = a.batch_id AND c.minute IS NULL"
        ") ORDER BY a.attempt DESC LIMIT 1",
        {"batch_id": batch_id},
    )
    found = cursor.fetchone()
    return found[0] if found else None


def note(conn, batch_id: int, reason: str) -> None:
    """Keep why a step of this batch failed, for people and for the minute that may be held because of it."""

    def keep(cursor) -> None:
        cursor.execute(
            "UPDATE etl.batches SET reason = %(reason)s WHERE batch_id = %(batch_id)s AND state = 'open'",
            {"batch_id": batch_id, "reason": " ".join(reason.split())[:500]},
        )

    in_transaction(conn, keep)


def last_delta(conn, pipeline: Pipeline) -> LastDelta:
    """What the newest delta batch and the newest one of suspects were: whose turn it is follows from that."""
    ordinary = _newest_delta(conn, pipeline, "IS NULL")
    suspect = _newest_delta(conn, pipeline, "IS NOT NULL")
    if suspect is None:
        return LastDelta()
    cursor = conn.cursor()
    cursor.execute("SELECT MIN(minute) FROM etl.batch_minutes WHERE batch_id = %(batch_id)s", {"batch_id": suspect})
    return LastDelta(suspect > (ordinary or 0), cursor.fetchone()[0])


def _newest_delta(conn, pipeline: Pipeline, split_size: str) -> int | None:
    cursor = conn.cursor()
    cursor.execute(
        "SELECT MAX(batch_id) FROM etl.batches FORCE INDEX (by_split) "
        f"WHERE pipeline = %(pipeline)s AND is_delta = 1 AND split_size {split_size}",
        {"pipeline": pipeline.name},
    )
    return cursor.fetchone()[0]


def close_abandoned(conn, pipeline: Pipeline, dag_id: str, run_id: str) -> list[int]:
    """Close the open delta batches of other runs of this DAG, which has one active run: theirs are over.

    Minutes of a batch that kept failing in Spark or in the merge are split from then on, or held; see `_judge`.
    """

    def of_other_runs(cursor) -> list[int]:
        found = rows(
            cursor,
            "SELECT batch_id FROM etl.batches WHERE pipeline = %(pipeline)s AND state = 'open' AND is_delta = 1 "
            "AND dag_id = %(dag_id)s AND run_id <> %(run_id)s ORDER BY batch_id",
            {"pipeline": pipeline.name, "dag_id": dag_id, "run_id": run_id},
        )
        return [row["batch_id"] for row in found]

    def close(cursor) -> list[int]:
        batch_ids = _locked(cursor, pipeline, lambda: of_other_runs(cursor))
        _close(cursor, pipeline, batch_ids, "its run ended without a merge")
        batch_ids_of_run = _locked(cursor, pipeline, lambda: _open_of_run(cursor, pipeline, dag_id, run_id))
        _close(cursor, pipeline, batch_ids_of_run, "its run was cleared")
        return batch_ids + batch_ids_of_run

    return in_transaction(conn, close)


def overdue(conn, pipeline_name: str, age: timedelta) -> list[int]:
    """Open batches that no run can be working on: neither opened nor tried again within `age`."""
    cursor = conn.cursor()
    cursor.execute(f"{_OVERDUE} ORDER BY b.batch_id", {"pipeline": pipeline_name, "age": age // _MICROSECOND})
    found = [batch_id for (batch_id,) in cursor.fetchall()]
    conn.rollback()
    return found


def give_up(conn, pipeline_name: str, batch_id: int, age: timedelta) -> bool:
    """Close an overdue batch as failed; False when it is none any more. Whoever clears its run is told to open a new one.

    The pipeline and the batch's row are locked first, as a merge does, so that it is not cut off in the middle.
    """
    declared = all_pipelines().get(pipeline_name)

    def close(cursor) -> bool:
        binds = {"pipeline": pipeline_name, "age": age // _MICROSECOND, "batch_id": batch_id}
        if declared is not None:
            lock(cursor, declared)
        cursor.execute("SELECT batch_id FROM etl.batches WHERE batch_id = %(batch_id)s FOR UPDATE", binds)
        cursor.fetchall()
        cursor.execute(f"{_OVERDUE} AND b.batch_id = %(batch_id)s", binds)
        if cursor.fetchone() is None:
            return False
        why = f"no run has worked on it for {age.days} days"
        if declared is not None:
            _close(cursor, declared, [batch_id], why)
        else:  # nothing will ever process its minutes: there is nothing to judge
            cursor.execute(
                "UPDATE etl.batches SET state = 'failed', reason = %(why)s WHERE batch_id = %(batch_id)s",
                {"batch_id": batch_id, "why": f"{why}, and no pipeline of this name is declared"},
            )
        return True

    return in_transaction(conn, close)


def _locked(cursor, pipeline: Pipeline, find: Callable[[], list[int]]) -> list[int]:
    """The batches that `find` finds, under the pipeline's lock: until it is taken, a merge of one of them may commit."""
    if not find():  # the lock would wait for every merge
        return []
    lock(cursor, pipeline)
    return find()


def _open_of_run(cursor, pipeline: Pipeline, dag_id: str, run_id: str) -> list[int]:
    found = rows(
        cursor,
        "SELECT batch_id FROM etl.batches WHERE pipeline = %(pipeline)s AND state = 'open' AND dag_id = %(dag_id)s "
        "AND run_id = %(run_id)s ORDER BY batch_id",
        {"pipeline": pipeline.name, "dag_id": dag_id, "run_id": run_id},
    )
    return [row["batch_id"] for row in found]


def _close(cursor, pipeline: Pipeline, batch_ids: Iterable[int], why: str) -> None:
    for batch_id in batch_ids:
        _judge(cursor, pipeline, batch_id)
        cursor.execute(
            "UPDATE etl.batches SET state = 'failed', reason = LEFT(CONCAT_WS('; ', reason, %(why)s), 500) "
            "WHERE batch_id = %(batch_id)s AND state = 'open'",
            {"batch_id": batch_id, "why": why},
        )


def _judge(cursor, pipeline: Pipeline, batch_id: int) -> None:
    """Split the minutes of a delta that failed twice in Spark or merge; hold one that fails alone while others pass.

    A still-open minute is tried again instead: it will be another one by then. A gate's verdict is no such failure: it has
    held the minutes that it blames. Take the pipeline's lock first.
    """
    batch = rows(
        cursor,
        "SELECT is_delta, minutes, run_id, reason, merge_tries,"
        " (SELECT COUNT(*) FROM etl.attempts AS a WHERE a.batch_id = b.batch_id) AS attempts,"
        " EXISTS (SELECT 1 FROM etl.check_results AS r WHERE r.batch_id = b.batch_id AND r.gate = 'staging' AND r.attempt ="
        "  (SELECT MAX(a.attempt) FROM etl.attempts AS a WHERE a.batch_id = b.batch_id)) AS gate_ran,"
        " b.opened_at, b.lake_clock, (SELECT MIN(m.minute) FROM etl.batch_minutes AS m WHERE m.batch_id = b.batch_id) AS minute "
        "FROM etl.batches AS b WHERE b.batch_id = %(batch_id)s",
        {"batch_id": batch_id},
    )[0]
    failed_in_spark = batch["attempts"] >= FAILURES_BEFORE_SPLIT and not batch["gate_ran"]
    failed_in_merge = batch["merge_tries"] >= FAILURES_BEFORE_SPLIT
    if not batch["is_delta"] or not (failed_in_spark or failed_in_merge):
        return
    is_folded_hour = folded_hours.is_one(cursor, pipeline.name, batch_id)
    is_one_minute = batch["minutes"] == 1 and not is_open(batch["minute"], batch["lake_clock"], pipeline)
    is_alone = is_one_minute or is_folded_hour
    newest_day = min(batch["minute"], batch["lake_clock"]).date()
    if is_alone and _others_passed(cursor, pipeline, batch_id, batch["opened_at"], batch["minutes"], newest_day):
        step = "merge_into_warehouse" if failed_in_merge else "transform_delta"
        cause = batch["reason"] or f"the log of {step} in run {batch['run_id']} says why"
        planned = rows(
            cursor,
            "SELECT m.minute, m.changed_at FROM etl.batch_minutes AS m JOIN etl.minute_ledger AS l "
            "ON l.pipeline = %(pipeline)s AND l.minute = m.minute "
            "WHERE m.batch_id = %(batch_id)s AND l.pending = 1",
            {"pipeline": pipeline.name, "batch_id": batch_id},
        )
        minutes = [(row["minute"], row["changed_at"], f"fails alone in {step}: {cause}") for row in planned]
        ledger.hold(cursor, pipeline.name, minutes, None, batch_id=batch_id)
        return
    cursor.execute(
        "UPDATE etl.batch_minutes AS m FORCE INDEX (PRIMARY) "
        "STRAIGHT_JOIN etl.minute_ledger AS l FORCE INDEX (PRIMARY) ON l.pipeline = %(pipeline)s AND l.minute = m.minute "
        "SET l.split_size = LEAST(COALESCE(l.split_size, %(size)s), %(size)s) "
        "WHERE m.batch_id = %(batch_id)s AND m.state = 'planned' AND l.state <> 'held'",
        {"pipeline": pipeline.name, "batch_id": batch_id, "size": max(1, batch["minutes"] // 2)},
    )


def _others_passed(cursor, pipeline: Pipeline, batch_id: int, opened_at: datetime, minutes: int, day: date) -> bool:
    """Whether a batch was merged while this one failed, or since its one minute, or folded hour, had failed alone before.

    Without that the fault is the platform's, not the minute's. Only batches with a minute of that `day` or a later one
    count: what is wrong with a new day, such as a missing partition, does not touch old minutes. Failures before the minute's
    last merge do not count.
    """
    cursor.execute(
        "SELECT MIN(f.opened_at) FROM etl.batch_minutes AS m "
        "JOIN etl.batches AS f ON f.pipeline = %(pipeline)s AND f.state = 'failed' AND f.is_delta = 1 "
        "AND f.minutes = %(minutes)s "
        "JOIN etl.batch_minutes AS same ON same.batch_id = f.batch_id AND same.minute = m.minute "
        "LEFT JOIN etl.minute_ledger AS l ON l.pipeline = %(pipeline)s AND l.minute = m.minute "
        "WHERE m.batch_id = %(batch_id)s AND (l.merged_at IS NULL OR f.opened_at > l.merged_at)",
        {"pipeline": pipeline.name, "batch_id": batch_id, "minutes": minutes},
    )
    first_failure = cursor.fetchone()[0] or opened_at
    cursor.execute(
        "SELECT 1 FROM etl.batches AS b WHERE b.pipeline = %(pipeline)s AND b.state = 'merged' AND b.merged_at > %(since)s "
        "AND EXISTS (SELECT 1 FROM etl.batch_minutes AS m WHERE m.batch_id = b.batch_id AND m.state = 'merged' "
        "AND m.minute >= %(day)s) ORDER BY b.batch_id DESC LIMIT 1",
        {"pipeline": pipeline.name, "since": first_failure, "day": day},
    )
    return cursor.fetchone() is not None


def _not_open(batch_id: int, state: str, reason: str | None) -> str:
    why = f" ({reason})" if reason else ""
    remedy = {
        "merged": "It needs no other attempt; to read its minutes again, clear the run from wait_for_changes.",
        "skipped": "None of its minutes was left to publish; to read them again, clear the run from wait_for_changes.",
    }.get(state, "Clear the run from wait_for_changes, which opens a new batch.")
    return f"Batch {batch_id} is {state}{why}, not open. {remedy}"
