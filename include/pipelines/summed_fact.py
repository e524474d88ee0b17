"""Declares a fact that is a sum: its tables, merge, fold, checks and verify queries are generated from key and measures.

include/sql/summed_fact/ has the SQL templates; `./minutemark sql …` prints the SQL that they produce.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from include.pipelines.tuples import require_tuples

SUM, MAX = "SUM", "MAX"  # how the contributions of a key become its fact
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_OWN_COLUMNS = frozenset({"attempt", "batch_id", "minute", "event_count", "last_minute"})
_GENERATED_HOUR = re.compile(r"hour DATETIME (?:GENERATED ALWAYS )?AS \((.*)\) (?:STORED|VIRTUAL)", re.DOTALL)


@dataclass(frozen=True)
class Key:
    """A column that identifies a fact; NOT NULL in every table."""

    name: str
    type: str  # SQL type
    comment: str = ""
    of: str = ""  # SQL over a staged row `s`; empty: its column of this name


@dataclass(frozen=True)
class Measure:
    """A figure of a fact: what a minute contributes to it, and how contributions add up."""

    name: str  # column of the contributions
    type: str = "BIGINT"
    comment: str = ""
    of: str = ""  # SQL over one staged row `s` of the output that is summed; empty: its column of this name. NULL adds nothing
    column: str = ""  # of the fact; empty: the same name
    combine: str = SUM  # or MAX, of values that are never NULL
    signed: bool = False  # may be negative
    added: bool = False  # declared after the tables had rows: NULL in rows for which no merge has counted it

    @property
    def fact_column(self) -> str:
        return self.column or self.name

    @property
    def null(self) -> str:
        return "NULL" if self.added else "NOT NULL"


@dataclass(frozen=True)
class Derived:
    """A column of the fact that is computed from its sums, `d`, or from tables in the fact's `joins`."""

    name: str
    type: str  # SQL type, with NULL or NOT NULL
    value: str  # SQL
    comment: str = ""


@dataclass(frozen=True)
class SummedFact:
    """A table of facts. Each fact is the sum of the contributions to its key. A contribution is one row per minute and key.

    The transform stages contributions under this name. If `output` is set, it stages rows of that output, and the merge sums
    them.
    """

    name: str  # staging is <database>.<name>_staged, contributions <database>.<name>_by_minute
    table: str  # database.table
    key: tuple[Key, ...]
    measures: tuple[Measure, ...]
    output: str = ""  # name of the declared output whose staged rows are summed; empty: staged as contributions
    events: str = ""  # column of the fact for the number of its events; empty: no such column
    derived: tuple[Derived, ...] = ()
    joins: str = ""  # SQL after the sums `d`, for derived columns
    definitions: tuple[str, ...] = ()  # further columns and keys of the table, as CREATE TABLE has them

    def __post_init__(self) -> None:
        require_tuples(self, f"Fact {self.table}")
        contribution = [column.name for column in (*self.key, *self.measures)]
        fact = [key.name for key in self.key]
        fact += [measure.fact_column for measure in self.summed] + [derived.name for derived in self.derived]
        names = {*contribution, *(name for name in fact if name != "event_count" or self.events != "event_count")}
        if wrong := sorted(name for name in (self.name, *names) if not _NAME.fullmatch(name)):
            raise ValueError(
                f"Fact {self.table}: {wrong[0]!r} is not a valid name: use lower-case letters, digits, underscores."
            )
        if taken := sorted(_OWN_COLUMNS.intersection(names)):
            raise ValueError(
                f"Fact {self.table} uses reserved column names ({', '.join(taken)}), which its generated tables and queries "
                "need. Choose other names."
            )
        counts = [Counter(columns) for columns in (contribution, fact)]
        if duplicates := sorted({name for count in counts for name in count if count[name] > 1}):
            raise ValueError(
                f"Fact {self.table}: declared twice: {', '.join(duplicates)}. Remove or rename the second."
            )
        for measure in self.measures:
            if measure.combine not in (SUM, MAX):
                raise ValueError(
                    f"Fact {self.table}: combine of measure {measure.name} is {measure.combine!r}: write {SUM!r} or {MAX!r}."
                )
        if not self.key or not self.measures:
            raise ValueError(f"Fact {self.table} needs a key and at least one measure.")

    @property
    def summed(self) -> tuple[Measure, ...]:
        """The measures that become columns of the fact."""
        return (*([Measure("event_count", column=self.events)] if self.events else []), *self.measures)

    @property
    def hour_sql(self) -> str | None:
        """SQL for a row's `hour`: the key's column, or the expression of a generated column; None if there is neither."""
        if any(key.name == "hour" for key in self.key):
            return "hour"
        return next((definition[1] for definition in map(_GENERATED_HOUR.match, self.definitions) if definition), None)

    @property
    def database(self) -> str:
        return self.table.partition(".")[0]

    @property
    def staging(self) -> str:
        return f"{self.database}.{self.name}_staged"

    @property
    def contributions(self) -> str:
        return f"{self.database}.{self.name}_by_minute"

    @property
    def touched(self) -> str:
        """Fact keys that a batch touched: written by its merge, read by check_warehouse."""
        return f"{self.database}.{self.name}_touched"
