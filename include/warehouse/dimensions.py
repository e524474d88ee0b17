"""Dimension tables: imported rows, and the facts that refer to them, change in the same transactions."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping

from include.pipelines import Dimension, Pipeline, all_pipelines
from include.warehouse.pipeline_lock import lock
from include.warehouse.session import in_transaction
from include.warehouse.sql import FOLDER, statements
from include.warehouse.statements import Statements

sql = Statements(__file__)

CHUNK = 500  # rows of one transaction: each holds up the pipeline's merges only for a moment


def import_dimension(conn, dimension: Dimension, rows: Iterable[Mapping[str, object]]) -> int:
    """Upsert rows (column to value; an empty string is NULL) and bring the facts up to date; returns the number of rows.

    Each chunk commits by itself: a failed import keeps the chunks that it committed, and repeating it is harmless.
    """
    pipeline = _owner(dimension)
    imported = 0
    remaining = iter(rows)
    while chunk := list(itertools.islice(remaining, CHUNK)):
        by_key = {row[dimension.key]: row for row in chunk}  # of several rows with one key, the last is the newest
        in_transaction(conn, lambda cursor, part=by_key: _upsert(cursor, pipeline, dimension, part))
        imported += len(chunk)
    return imported


def _upsert(cursor, pipeline: Pipeline, dimension: Dimension, by_key: Mapping[object, Mapping[str, object]]) -> None:
    lock(cursor, pipeline)
    cursor.executemany(
        sql("upsert", dimension=dimension),
        [
            [None if row.get(name) == "" else row.get(name) for name in dimension.columns]
            for _, row in sorted(by_key.items(), key=lambda item: str(item[0]))
        ],
    )
    # MySQL allows JSON_TABLE in an UPDATE of several tables only if the session has a default database.
    cursor.execute(f"USE {pipeline.database}")
    for statement in statements(FOLDER / pipeline.name / dimension.refresh):
        cursor.execute(statement, {"keys": json.dumps(list(by_key), default=str)})


def _owner(dimension: Dimension) -> Pipeline:
    owner = next((pipeline for pipeline in all_pipelines().values() if dimension in pipeline.dimensions), None)
    if owner is None:
        raise LookupError(f"No pipeline in include/pipelines declares the dimension {dimension.name!r}.")
    return owner
