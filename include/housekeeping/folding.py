"""Folding: the contributions of an old hour of create_time become one row per fact key. Facts do not change.

include/sql/summed_fact/fold.sql folds one hour of each summed fact. A pipeline without such facts is not folded.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from include.durations import HOUR
from include.errors import MinutemarkError
from include.pipelines import Pipeline
from include.warehouse.folded_hours import hour_of
from include.warehouse.pipeline_lock import lock
from include.warehouse.session import column, execute, in_transaction, read, value
from include.warehouse.sql import files
from include.warehouse.statements import Statements

sql = Statements(__file__)

_WINDOW = timedelta(days=31)  # the part of the ledger that one SELECT reads


class FoldMismatch(MinutemarkError):
    """A fold.sql that changes what an hour contributes. No part of that hour is folded."""


class _HourInUse(Exception):
    """An open batch has minutes of the hour."""


def fold(conn, pipeline: Pipeline, clock: datetime, age: timedelta, *, dry: bool = False) -> int:
    """Fold the hours that ended before `clock` less `age` and that folding.sql finds foldable; returns how many.

    Each hour is a separate transaction under the pipeline's lock. Raises FoldMismatch.
    """
    if not pipeline.facts:
        return 0
    folded = 0
    for hour in _foldable(conn, pipeline, hour_of(clock - age)):
        try:
            folded += dry or in_transaction(conn, lambda cursor, hour=hour: fold_hour(cursor, pipeline, hour))
        except _HourInUse:
            continue
    return folded


def fold_hour(cursor, pipeline: Pipeline, hour: datetime) -> bool:
    """Fold this hour; returns False if it can no longer be folded. Does not commit."""
    lock(cursor, pipeline)
    binds = {"pipeline": pipeline.name, "hour": hour, "next_hour": hour + HOUR}
    cursor.execute(sql("foldable"), {"pipeline": pipeline.name, "start": hour, "end": hour + HOUR})
    if cursor.fetchone() is None:
        return False
    # The mark is set before open batches are read, and a batch is opened before it reads marks.
    cursor.execute("INSERT INTO etl.folded_hours (pipeline, hour) VALUES (%(pipeline)s, %(hour)s)", binds)
    if _is_in_use(cursor, binds):
        raise _HourInUse
    before = _contribution_counts(cursor, pipeline, binds)
    folds = files(pipeline, "fold.sql")
    for statement in (statement for file in folds for statement in file.statements):
        cursor.execute(statement, binds)
    after = _contribution_counts(cursor, pipeline, binds)
    if [events for events, _ in before] != [events for events, _ in after] or any(
        other_rows for _, other_rows in after
    ):
        raise FoldMismatch(
            f"{', '.join(str(file.source) for file in folds)}: (events, rows beyond the first minute) of "
            f"{hour:%Y-%m-%d %H}:00 would become {after} instead of {before}. No part of this hour is folded: correct the file."
        )
    return True


def _foldable(conn, pipeline: Pipeline, end_of_range: datetime) -> Iterator[datetime]:
    query = "SELECT MIN(minute) FROM etl.minute_ledger WHERE pipeline = %(pipeline)s"
    first = read(conn, value, query, {"pipeline": pipeline.name})
    start = hour_of(first) if first else end_of_range
    while start < end_of_range:
        end_of_window = min(start + _WINDOW, end_of_range)
        hours = read(conn, column, sql("foldable"), {"pipeline": pipeline.name, "start": start, "end": end_of_window})
        yield from hours
        start = end_of_window


def _is_in_use(cursor, binds: dict) -> bool:
    return any(
        value(cursor, sql("minute_in_batch"), binds | {"batch_id": batch_id}) is not None
        for batch_id in column(cursor, sql("open_batches"), binds)
    )


def _contribution_counts(cursor, pipeline: Pipeline, binds: dict) -> list[tuple[int, int]]:
    """For each fact, the events of the hour, and how many rows lie beyond the hour's first minute."""
    counts = []
    for fact in pipeline.facts:
        [(events, other_rows)] = execute(cursor, sql("contributed", fact=fact), binds).fetchall()
        counts.append((int(events), int(other_rows)))
    return counts
