"""Deletes rows past their retention, in short transactions. Killed anywhere, the next call resumes.

With `dry` each function counts what it would change, and changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta

from include.durations import MICROSECOND
from include.pipelines import Pipeline, Retention, all_pipelines
from include.warehouse import batches, drifts
from include.warehouse.drift import APPEARED
from include.warehouse.merge import oldest_kept_batch, staging_tables
from include.warehouse.session import in_transaction
from include.warehouse.sql import files

CHUNK = 1_000  # rows of one transaction; where a batch brings its own rows, fewer batches
_BATCHES_PER_CHUNK = 20
_KEPT_MERGED = 10  # newest merged batches of a pipeline that never go: estimates and freshness come from them

_OLD_PAYLOADS = (
    "SELECT rejected_id FROM etl.rejected_events WHERE rejected_id > %(after)s AND pipeline = %(pipeline)s "
    "AND rejected_at < CURRENT_TIMESTAMP(6) - INTERVAL %(age)s MICROSECOND AND payload <> '' "
    "ORDER BY rejected_id LIMIT %(limit)s"
)
_OLD_SAMPLES = (
    "SELECT r.check_result_id FROM etl.check_results AS r JOIN etl.batches AS b ON b.batch_id = r.batch_id "
    "WHERE r.check_result_id > %(after)s AND b.pipeline = %(pipeline)s AND r.sample IS NOT NULL "
    "AND r.checked_at < CURRENT_TIMESTAMP(6) - INTERVAL %(age)s MICROSECOND ORDER BY r.check_result_id LIMIT %(limit)s"
)
_OLD_BATCHES = (
    "SELECT batch_id FROM etl.batches WHERE batch_id > %(after)s AND batch_id < %(newest)s AND pipeline = %(pipeline)s "
    "AND state <> 'open' AND (state <> 'merged' OR batch_id < %(kept_merged)s) "
    "AND opened_at < CURRENT_TIMESTAMP(6) - INTERVAL %(age)s MICROSECOND ORDER BY batch_id LIMIT %(limit)s"
)
# The minutes that it covers and that are still held for it are judged by it when they are read again.
_OVER_DRIFTS = (
    "SELECT d.drift_id, d.kind, d.field FROM etl.drifts AS d WHERE d.pipeline = %(pipeline)s AND d.accepted_by IS NULL "
    "AND (d.ended_minute IS NOT NULL OR d.kind = %(appeared)s) "
    "AND GREATEST(d.found_at, COALESCE(d.ended_minute, d.last_minute, d.first_minute)) "
    "< CURRENT_TIMESTAMP(6) - INTERVAL %(age)s MICROSECOND "
    "AND NOT EXISTS (SELECT 1 FROM etl.minute_ledger AS l JOIN etl.holds AS h ON h.pipeline = l.pipeline "
    "AND h.minute = l.minute WHERE l.pipeline = d.pipeline AND l.state = 'held' "
    "AND l.minute >= d.first_minute - INTERVAL 1 DAY AND l.minute < COALESCE(d.ended_minute, '9999-12-31') "
    "AND h.failing_checks LIKE CASE d.kind "
    + " ".join(f"WHEN '{kind}' THEN %(check_{kind})s" for kind in drifts.KINDS)
    + " END)"
)


def known_pipelines(conn) -> dict[str, Retention]:
    """Every pipeline that ever ran here, and its retention: the default's for one that is no longer declared."""
    cursor = conn.cursor()
    cursor.execute("SELECT pipeline FROM etl.pipelines ORDER BY pipeline")
    names = [name for (name,) in cursor.fetchall()]
    conn.rollback()
    declared = all_pipelines()
    return {name: declared[name].retention if name in declared else Retention() for name in names}


def give_up_batches(conn, pipeline: str, age: timedelta, *, dry: bool = False) -> list[int]:
    """Close open batches without a new attempt for `age`: backfills and manual runs that failed, of paused DAGs."""
    overdue = batches.overdue(conn, pipeline, age)
    return overdue if dry else [batch_id for batch_id in overdue if batches.give_up(conn, pipeline, batch_id, age)]


def remove_dead_staging(conn, *, given_up: Iterable[int] = (), dry: bool = False) -> int:
    """Remove staged rows of every attempt that no open batch has: none of them can be merged.

    An attempt that etl.attempts does not know is dead too: numbers are committed there before anything is staged.
    `given_up` are batches that a dry run would have closed.
    """
    given_up = set(given_up)
    removed = 0
    for table in staging_tables(all_pipelines().values()):
        for attempt in _attempts_in(conn, table):
            if not _is_dead(conn, attempt, given_up):
                continue
            binds = {"attempt": attempt}
            if dry:
                removed += _one(conn, f"SELECT COUNT(*) FROM {table} WHERE attempt = %(attempt)s", binds)
            else:
                removed += _until_none(conn, f"DELETE FROM {table} WHERE attempt = %(attempt)s LIMIT {CHUNK}", binds)
    return removed


def empty_payloads(conn, pipeline: str, age: timedelta, *, dry: bool = False) -> int:
    """Empty the payloads of rejected events older than `age`; the rows stay, since the ledger's counts lean on them."""

    def empty(cursor, ids: Sequence[int]) -> int:
        return _execute_in(cursor, "UPDATE etl.rejected_events SET payload = '' WHERE rejected_id", ids)

    return _walk(conn, _OLD_PAYLOADS, {"pipeline": pipeline, **_older(age)}, empty, dry)


def empty_samples(conn, pipeline: str, age: timedelta, *, dry: bool = False) -> int:
    """Empty the samples of check results older than `age`: they show rows of staging. The verdicts stay with the batch."""

    def empty(cursor, ids: Sequence[int]) -> int:
        return _execute_in(cursor, "UPDATE etl.check_results SET sample = NULL WHERE check_result_id", ids)

    return _walk(conn, _OLD_SAMPLES, {"pipeline": pipeline, **_older(age)}, empty, dry)


def remove_batches(conn, pipeline: str, age: timedelta, *, dry: bool = False) -> int:
    """Remove batches opened longer than `age` ago, with minutes, attempts and check results; returns how many batches.

    Never an open one, the newest one, or one of the ten newest that were merged. The numbers in the ledger stay as
    numbers: merges compare attempts, and nothing looks a batch up from there.
    """
    binds = {
        "pipeline": pipeline,
        **_older(age),
        "newest": _one(
            conn, "SELECT MAX(batch_id) FROM etl.batches WHERE pipeline = %(pipeline)s", {"pipeline": pipeline}
        )
        or 0,
        "kept_merged": _one(
            conn,
            "SELECT batch_id FROM etl.batches WHERE pipeline = %(pipeline)s AND state = 'merged' "
            f"ORDER BY batch_id DESC LIMIT 1 OFFSET {_KEPT_MERGED - 1}",
            {"pipeline": pipeline},
        )
        or 0,
    }

    def remove(cursor, ids: Sequence[int]) -> int:
        for table in ("etl.check_results", "etl.batch_minutes"):
            _execute_in(cursor, f"DELETE FROM {table} WHERE batch_id", ids)
        cursor.execute("SELECT MAX(attempt) FROM etl.attempts")
        # The newest stays whatever its batch: no server may ever begin to number from below it.
        cursor.execute(
            f"DELETE FROM etl.attempts WHERE attempt < %s AND batch_id IN ({_marks(ids)})",
            [cursor.fetchone()[0] or 0, *ids],
        )
        return _execute_in(cursor, "DELETE FROM etl.batches WHERE batch_id", ids)

    return _walk(conn, _OLD_BATCHES, binds, remove, dry, limit=_BATCHES_PER_CHUNK)


def remove_field_counts(conn, pipeline: str, age: timedelta, *, dry: bool = False) -> int:
    """Remove counts of fields that were merged longer than `age` ago; minutes that are read again get new ones."""
    old = (
        "FROM etl.minute_fields WHERE pipeline = %(pipeline)s "
        "AND merged_at < CURRENT_TIMESTAMP(6) - INTERVAL %(age)s MICROSECOND"
    )
    binds = {"pipeline": pipeline, **_older(age)}
    if dry:
        return _one(conn, f"SELECT COUNT(*) {old}", binds)
    return _until_none(conn, f"DELETE {old} LIMIT {CHUNK}", binds)


def remove_drifts(conn, pipeline: str, age: timedelta, *, dry: bool = False) -> int:
    """Remove drift that ended longer than `age` ago, and undeclared fields that no kept count of fields has; the others hold
    minutes, or are reported once. What was accepted stays: it decides about its minutes whenever they are read again.

    Under the pipeline's lock, as gates take it.
    """

    def remove(cursor) -> int:
        cursor.execute("SELECT pipeline FROM etl.pipelines WHERE pipeline = %(pipeline)s FOR UPDATE", binds)
        cursor.fetchall()
        cursor.execute(_OVER_DRIFTS, binds)
        over = cursor.fetchall()
        seen = _undeclared_fields(cursor, pipeline) if any(kind == APPEARED for _, kind, _ in over) else set()
        ids = [drift_id for drift_id, kind, field in over if kind != APPEARED or field not in seen]
        if ids and not dry:
            _execute_in(cursor, "DELETE FROM etl.drifts WHERE drift_id", ids)
        return len(ids)

    checks = {f"check_{kind}": f'%"{name}"%' for kind, (name, _) in drifts.CHECKS.items()}
    binds = {"pipeline": pipeline, "appeared": APPEARED, **_older(age), **checks}
    return in_transaction(conn, remove)


def _undeclared_fields(cursor, pipeline: str) -> set[str]:
    """The names that minutes of the pipeline had, as long as their counts are kept."""
    cursor.execute(
        "SELECT field_counts FROM etl.minute_fields WHERE pipeline = %(pipeline)s "
        "AND field_counts NOT LIKE '%%\"unknown\": {}%%'",
        {"pipeline": pipeline},
    )
    return {name for (counts,) in cursor.fetchall() for name in json.loads(counts)["unknown"]}


def remove_of_pipeline(conn, pipeline: Pipeline, *, dry: bool = False) -> int:
    """Remove what housekeeping.sql of the pipeline and of its facts names; 0 in a dry run."""
    if dry:
        return 0
    cursor = conn.cursor()
    binds = {"oldest_kept_batch": oldest_kept_batch(cursor)}
    conn.rollback()
    statements = [statement for file in files(pipeline, "housekeeping.sql") for statement in file.statements]
    return sum(_until_none(conn, statement, binds) for statement in statements)


def _attempts_in(conn, table: str) -> Iterator[int]:
    cursor = conn.cursor()
    cursor.execute(f"SELECT DISTINCT attempt FROM {table}")  # a skip scan of the key
    attempts = sorted(attempt for (attempt,) in cursor.fetchall())
    conn.rollback()
    yield from attempts


def _is_dead(conn, attempt: int, given_up: set[int]) -> bool:
    cursor = conn.cursor()
    cursor.execute(
        "SELECT b.batch_id FROM etl.attempts AS a JOIN etl.batches AS b ON b.batch_id = a.batch_id "
        "WHERE a.attempt = %(attempt)s AND b.state = 'open'",
        {"attempt": attempt},
    )
    alive = cursor.fetchone()
    conn.rollback()
    return alive is None or alive[0] in given_up


def _walk(
    conn,
    find: str,
    binds: dict,
    change: Callable[[object, Sequence[int]], int],
    dry: bool,
    *,
    limit: int = CHUNK,
) -> int:
    """Change what `find` finds in chunks by key, each in its own transaction; returns how many rows."""
    after, changed = 0, 0
    while True:
        cursor = conn.cursor()
        cursor.execute(find, {**binds, "after": after, "limit": limit})
        ids = [found_id for (found_id,) in cursor.fetchall()]
        conn.rollback()
        if not ids:
            return changed
        changed += len(ids) if dry else in_transaction(conn, lambda cursor, ids=ids: change(cursor, ids))
        after = ids[-1]


def _until_none(conn, statement: str, binds: dict) -> int:
    """Run a DELETE with a LIMIT, a transaction each time, until it removes nothing."""

    def once(cursor) -> int:
        cursor.execute(statement, binds)
        return cursor.rowcount

    removed = 0
    while count := in_transaction(conn, once):
        removed += count
    return removed


def _execute_in(cursor, statement: str, ids: Sequence[int]) -> int:
    cursor.execute(f"{statement} IN ({_marks(ids)})", list(ids))
    return cursor.rowcount


def _marks(ids: Sequence[int]) -> str:
    return ", ".join(["%s"] * len(ids))


def _one(conn, query: str, binds: dict):
    cursor = conn.cursor()
    cursor.execute(query, binds)
    row = cursor.fetchone()
    conn.rollback()
    return row[0] if row else None


def _older(age: timedelta) -> dict[str, int]:
    return {"age": age // MICROSECOND}
