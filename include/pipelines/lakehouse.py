"""What a pipeline declares to have a copy of its events in the lakehouse."""

from __future__ import annotations

import re
from dataclasses import dataclass

from include.pipelines.summed_fact import SUM, SummedFact
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
        if [key.name for key in fact.key] != ["hour"]:
            return f"the key of fact {fact.name} is not `hour` alone"
        usable = {
            measure.name
            for measure in fact.measures
            if measure.fact_column == measure.name and measure.combine == SUM and not measure.added
        }
        unusable = sorted({*self.measures} - usable)
        return f"fact {fact.name} has no plain sum {', '.join(unusable)}" if unusable else None
