"""Where the values of a column come from, and how, in the terms of OpenLineage's columnLineage facet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Source = tuple[str, str]  # data set and column
Origins = Mapping[Source, str]  # of a column: how each source contributes to it

IDENTITY, TRANSFORMATION, AGGREGATION = "IDENTITY", "TRANSFORMATION", "AGGREGATION"
CONDITIONAL, WINDOW = "CONDITIONAL", "WINDOW"  # INDIRECT, of one column
FILTER, JOIN, GROUP_BY = "FILTER", "JOIN", "GROUP_BY"  # INDIRECT, of all columns
# If a source contributes in several ways, the last of them in this order is reported.
_ORDER = (CONDITIONAL, WINDOW, IDENTITY, TRANSFORMATION, AGGREGATION)
_INDIRECT = (CONDITIONAL, WINDOW)


@dataclass
class Relation:
    """A table, or the result of a query."""

    columns: dict[str, Origins] = field(default_factory=dict)
    rows: dict[Source, set[str]] = field(default_factory=dict)  # sources that decide which rows exist

    def add_row_sources(self, how: str, origins: Iterable[Source]) -> None:
        """Add the sources of a condition, a join or a grouping."""
        for source in origins:
            self.rows.setdefault(source, set()).add(how)

    def include_rows(self, other: Relation) -> None:
        """Add the sources that decide which rows `other` has, a relation that this one reads."""
        for source, kinds in other.rows.items():
            self.rows.setdefault(source, set()).update(kinds)


def union(*parts: Origins) -> Origins:
    """The sources of all parts."""
    result: dict[Source, str] = {}
    for origins in parts:
        for source, how in origins.items():
            result[source] = max(how, result.get(source, how), key=_ORDER.index)
    return result


def apply_step(step: str, origins: Origins) -> Origins:
    """The origins of the result of a step on values with these origins."""
    return {source: _combine(step, how) for source, how in origins.items()}


def _combine(step: str, how: str) -> str:
    if how in _INDIRECT:
        return how
    return step if step in _INDIRECT else max(step, how, key=_ORDER.index)
