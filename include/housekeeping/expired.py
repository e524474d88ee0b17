"""Deletes rows past their retention, in short transactions. After a kill, the next call resumes.

With `dry`, a function counts what it would change, and changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from include.durations import MICROSECOND
from include.pipelines import Pipeline, Retention, all_pipelines
from include.warehouse import batches, drifts
from include.warehouse.drift import APPEARED
from include.warehouse.merge import attempts_in, oldest_kept_batch, staging_tables
from include.warehouse.session import column, execute, in_transaction, read, reading, value, write
from include.warehouse.sql import files
from include.warehouse.statements import Statements

sql = Statements(__file__)

CHUNK = 1_000  # rows of one transaction
_BATCHES_PER_CHUNK = 20
_KEPT_MERGED = 10  # newest merged batches of a pipeline, which are never removed: estimates and freshness need them


def known_pipelines(conn) -> dict[str, Retention]:
    """The retention of every pipeline that set-up has added. A pipeline without a declaration gets the default."""
    names = read(conn, column, "SELECT pipeline FROM etl.pipelines ORDER BY pipeline")
    declared = all_pipelines()
    return {name: declared[name].retention if name in declared else Retention() for name in names}


def close_overdue_batches(conn, pipeline: str, age: timedelta, *, dry: bool = False) -> list[int]:
    """Close open batches without a new attempt for `age`: of failed backfills, or of manual runs of paused DAGs."""
    overdue = batches.overdue(conn, pipeline, age)
    return (
        overdue if dry else [batch_id for batch_id in overdue if batches.close_overdue(conn, pipeline, batch_id, age)]
    )


def remove_dead_staging(conn, *, overdue_batches: Iterable[int] = (), dry: bool = False) -> int:
    """Remove the staged rows of every attempt whose batch is not open: they cannot be merged.

    An attempt that etl.attempts does not know is dead too: numbers are committed there before anything is staged.
    `overdue_batches` count as closed: a dry run leaves them open.
    """
    overdue_batches = set(overdue_batches)
    removed = 0
    for table in staging_tables(all_pipelines().values()):
        with reading(conn) as cursor:
            attempts = sorted(attempts_in(cursor, table))
        for attempt in attempts:
            if not _is_dead(conn, attempt, overdue_batches):
                continue
            binds = {"attempt": attempt, "chunk": CHUNK}
            if dry:
                removed += read(conn, value, sql("count_attempt", table=table), binds)
            else:
                removed += _delete_all(conn, sql("remove_attempt", table=table), binds)
    return removed


def empty_payloads(conn, pipeline: str, age: timedelta, *, dry: bool = False) -> int:
    """Empty the payloads of rejected events older than `age`; the rows stay, because the ledger's counts refer to them."""
    statement = "UPDATE etl.rejected_events SET payload = '' WHERE rejected_id IN (%(ids)s)"
    return _empty(conn, sql("old_payloads"), statement, pipeline, age, dry)


def empty_samples(conn, pipeline: str, age: timedelta, *, dry: bool = False) -> int:
    """Empty the samples of check results older than `age`: they contain rows of staging. The verdicts stay with the batch."""
    statement = "UPDATE etl.check_results SET sample = NULL WHERE check_result_id IN (%(ids)s)"
    return _empty(conn, sql("old_samples"), statement, pipeline, age, dry)


def remove_batches(conn, pipeline: str, age: timedelta, *, dry: bool = False) -> int:
    """Remove batches opened more than `age` ago, with minutes, attempts and check results; returns how many batches.

    Open batches, the newest batch and the ten newest merged ones stay. The ledger keeps the numbers of removed batches
    and attempts: merges compare attempts, and queries that look up a batch by its number do not need removed ones.
    """
    binds = {"pipeline": pipeline, "kept": _KEPT_MERGED - 1, **_age_binds(age)}
    newest = read(conn, value, "SELECT MAX(batch_id) FROM etl.batches WHERE pipeline = %(pipeline)s", binds)
    binds |= {"newest": newest or 0, "kept_merged": read(conn, value, sql("kept_merged"), binds) or 0}

    def remove(cursor, ids: Sequence[int]) -> int:
        id_binds = {"ids": ids}
        for table in ("etl.check_results", "etl.release_passes", "etl.batch_minutes"):
            execute(cursor, sql("remove_of_batches", table=table), id_binds)
        newest = value(cursor, "SELECT MAX(attempt) FROM etl.attempts") or 0
        execute(cursor, sql("remove_attempts"), {"newest": newest, **id_binds})
        return execute(cursor, sql("remove_of_batches", table="etl.batches"), id_binds).rowcount

    return _walk(conn, sql("old_batches"), binds, remove, dry, limit=_BATCHES_PER_CHUNK)


def remove_field_counts(conn, pipeline: str, age: timedelta, *, dry: bool = False) -> int:
    """Remove counts of fields that were merged more than `age` ago; minutes that are read again get new ones."""
    binds = {"pipeline": pipeline, "chunk": CHUNK, **_age_binds(age)}
    if dry:
        return read(conn, value, sql("count_field_counts"), binds)
    return _delete_all(conn, sql("remove_field_counts"), binds)


def remove_drifts(conn, pipeline: str, age: timedelta, *, dry: bool = False) -> int:
    """Remove drift that ended more than `age` ago, and undeclared fields that no kept count of fields has.

    Other drift holds minutes, or would be reported again. Accepted drift stays: it determines the verdict on its
    minutes whenever they are read again. Takes the pipeline's lock, as gates do.
    """

    def remove(cursor) -> int:
        cursor.execute("SELECT pipeline FROM etl.pipelines WHERE pipeline = %(pipeline)s FOR UPDATE", binds)
        cursor.fetchall()
        candidates = execute(cursor, sql("old_drifts", kinds=drifts.KINDS), binds).fetchall()
        undeclared_fields = (
            _undeclared_fields(cursor, pipeline) if any(kind == APPEARED for _, kind, _ in candidates) else set()
        )
        ids = [drift_id for drift_id, kind, field in candidates if kind != APPEARED or field not in undeclared_fields]
        if ids and not dry:
            execute(cursor, "DELETE FROM etl.drifts WHERE drift_id IN (%(ids)s)", {"ids": ids})
        return len(ids)

    checks = {f"check_{kind}": f'%"{name}"%' for kind, (name, _) in drifts.CHECKS.items()}
    binds = {"pipeline": pipeline, "appeared": APPEARED, **_age_binds(age), **checks}
    return in_transaction(conn, remove)


def _undeclared_fields(cursor, pipeline: str) -> set[str]:
    """The undeclared fields in the counts of fields that are kept."""
    cursor.execute(sql("undeclared_fields"), {"pipeline": pipeline})
    return {name for (counts,) in cursor.fetchall() for name in json.loads(counts)["unknown"]}


def remove_of_pipeline(conn, pipeline: Pipeline) -> int:
    """Run housekeeping.sql of the pipeline and of its facts; returns how many rows it removed."""
    with reading(conn) as cursor:
        binds = {"oldest_kept_batch": oldest_kept_batch(cursor)}
    statements = [statement for file in files(pipeline, "housekeeping.sql") for statement in file.statements]
    return sum(_delete_all(conn, statement, binds) for statement in statements)


def _is_dead(conn, attempt: int, overdue_batches: set[int]) -> bool:
    open_batch = read(conn, value, sql("open_batch_of"), {"attempt": attempt})
    return open_batch is None or open_batch in overdue_batches


def _empty(conn, select: str, update: str, pipeline: str, age: timedelta, dry: bool) -> int:
    """Run `update` on the rows that `select` returns, in chunks; returns how many rows."""

    def empty(cursor, ids: Sequence[int]) -> int:
        return execute(cursor, update, {"ids": ids}).rowcount

    return _walk(conn, select, {"pipeline": pipeline, **_age_binds(age)}, empty, dry, limit=CHUNK)


def _walk(
    conn,
    select: str,
    binds: dict,
    change: Callable[[object, Sequence[int]], int],
    dry: bool,
    *,
    limit: int,
) -> int:
    """Change the rows that `select` returns, in chunks by key, each in its own transaction; returns how many rows."""
    after, changed = 0, 0
    while True:
        ids = read(conn, column, select, {**binds, "after": after, "limit": limit})
        if not ids:
            return changed
        changed += len(ids) if dry else in_transaction(conn, lambda cursor, ids=ids: change(cursor, ids))
        after = ids[-1]


def _delete_all(conn, statement: str, binds: dict) -> int:
    """Run a DELETE with a LIMIT, a transaction each time, until it removes nothing."""
    removed = 0
    while count := write(conn, statement, binds):
        removed += count
    return removed


def _age_binds(age: timedelta) -> dict[str, int]:
    return {"age": age // MICROSECOND}
