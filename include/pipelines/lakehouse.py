"""What a pipeline declares to have a copy of its events in the lakehouse."""

from __future__ import annotations

import re
from dataclasses import dataclass

from include.pipelines.summed_fact import SummedFact
from include.pipelines.tuples import require_tuples


@dataclass(frozen=True)
class Lakehouse:
    """An Apache Iceberg table of the pipeline's events, and a fact whose hours are counted from that table alone.

    include/sql/<pipeline>/lakehouse/<fact>.sql counts the hours, in SQL that DuckDB and Spark run alike.
    """

    table: str  # namespace.table
    fact: str  # name of a SummedFact with the key `hour`
    measures: tuple[str, ...]  # measures of the fact that the query counts

    def __post_init__(self) -> None:
        require_tuples(self, f"Lakehouse table {self.table}")
        if not re.fullmatch(r"[^.]+\.[^.]+", self.table):
            raise ValueError(f"Lakehouse table {self.table!r}: write namespace.table.")

    def problem_of(self, fact: SummedFact) -> str | None:
        """Why its counts of this fact cannot be compared with the warehouse's; None if they can."""
        if all(key.name != "hour" for key in fact.key):
            return f"fact {fact.name} has no key `hour`"
        unknown = sorted({*self.measures} - {measure.fact_column for measure in fact.measures})
        return f"fact {fact.name} has no measure {', '.join(unknown)}" if unknown else None
