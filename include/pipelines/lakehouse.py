"""What a pipeline declares to have a copy of its events in the lakehouse."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Lakehouse:
    """An Apache Iceberg table of the pipeline's events, and a fact whose hours are counted from that table alone.

    include/sql/<pipeline>/lakehouse/<fact>.sql counts the hours, in SQL that DuckDB and Spark run alike.
    """

    table: str  # namespace.table
    fact: str  # name of a SummedFact with the key `hour`
    measures: tuple[str, ...]  # measures of the fact that the query counts
