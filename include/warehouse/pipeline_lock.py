"""The lock that every writer of a pipeline's contributions, facts or verdicts takes first."""

from __future__ import annotations

from include.errors import SET_UP
from include.pipelines import Pipeline
from include.warehouse.errors import BatchRefused
from include.warehouse.session import value


def lock(cursor, pipeline: Pipeline) -> None:
    """Take the pipeline's lock, until commit or rollback. Raises BatchRefused if set-up has not added the pipeline."""
    query = "SELECT pipeline FROM etl.pipelines WHERE pipeline = %(pipeline)s FOR UPDATE"
    if value(cursor, query, {"pipeline": pipeline.name}) is None:
        raise BatchRefused(f"etl.pipelines has no row for {pipeline.name}. To add it, {SET_UP}.")
