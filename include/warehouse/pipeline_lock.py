"""The lock that every writer of a pipeline's contributions, facts or verdicts takes first."""

from __future__ import annotations

from include.errors import SET_UP
from include.pipelines import Pipeline
from include.warehouse.errors import BatchRefused


def lock(cursor, pipeline: Pipeline) -> None:
    """Take the pipeline's lock, until commit or rollback."""
    cursor.execute(
        "SELECT pipeline FROM etl.pipelines WHERE pipeline = %(pipeline)s FOR UPDATE", {"pipeline": pipeline.name}
    )
    if cursor.fetchone() is None:
        raise BatchRefused(f"etl.pipelines has no row for {pipeline.name}. To add it, {SET_UP}.")
