"""Consistency rules of the warehouse: SQL files in include/sql/<folder>/verify, each a SELECT of the rows that break a rule.

One SELECT sees one snapshot, and a merge publishes in one transaction: rules need no second read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from include.pipelines import Pipeline
from include.verify.report import Finding, reread_remedy
from include.warehouse.session import read, rows
from include.warehouse.sql import SqlFile, control, files

SLICE_ROWS = 50_000  # contributions, or facts, that one SELECT compares
_STATEMENTS = {"minutes": 1, "facts": 2, "total": 1}


class InvalidRule(ValueError):
    """A file in verify/ that is not a rule."""


@dataclass(frozen=True)
class Rule:
    """A file of verify/. Columns expected_x and found_x are compared; the other columns say where.

    They include `minute` and, if reading that minute again is not enough, `last_minute`.

    minutes_*: SELECT of the minutes from `start` to `end` (excluded). facts_*: first a SELECT of the last key of the
    slice that begins after `after`, then a SELECT of the wrong facts in that slice. total_*: one number.
    """

    name: str
    purpose: str
    table: str
    remedy: str
    queries: tuple[str, ...]

    def finding(self, pipeline: Pipeline, row: dict) -> Finding:
        minute, last = row.pop("minute", None), row.pop("last_minute", None)
        names = [name.removeprefix("expected_") for name in row if name.startswith("expected_")]
        expected = {name: row.pop(f"expected_{name}") for name in names}
        actual = {name: row.pop(f"found_{name}") for name in names}
        differing = [name for name in names if expected[name] != actual[name]] or names
        where = " ".join([self.table, *(f"{name}={value}" for name, value in row.items())])
        remedy = self.remedy.replace("{again}", reread_remedy(pipeline.name, minute, last))
        return Finding(self.name, minute, where, _differing(expected, differing), _differing(actual, differing), remedy)


def rules(pipeline: Pipeline, kind: str) -> list[Rule]:
    """The rules of that kind (minutes, facts or total): those of all pipelines, and the pipeline's own."""
    pattern = f"verify/{kind}_*.sql"
    return [_rule(file) for file in (*control(pattern), *files(pipeline, pattern))]


def broken_minutes(conn, pipeline: Pipeline, start: datetime, end: datetime) -> Iterator[tuple[Finding, Rule]]:
    """Differences inside the warehouse in the minutes from `start` to `end` (excluded)."""
    binds = {"pipeline": pipeline.name, "start": start, "end": end}
    for rule in rules(pipeline, "minutes"):
        for row in read(conn, rows, rule.queries[0], binds):
            yield rule.finding(pipeline, row), rule


def broken_facts(conn, pipeline: Pipeline, on_slice: Callable[[], None]) -> Iterator[tuple[Finding, Rule]]:
    """Facts that differ from the sum of their contributions, over all keys, slice by slice."""
    for rule in rules(pipeline, "facts"):
        ends, offending = rule.queries
        after, is_last = None, False
        while not is_last:
            binds = {"pipeline": pipeline.name, "after": after, "slice_rows": SLICE_ROWS}
            upto = read(conn, rows, ends, binds)[0]["upto"]
            for row in read(conn, rows, offending, binds | {"upto": upto}):
                yield rule.finding(pipeline, row), rule
            on_slice()
            after, is_last = upto, upto is None


def totals(conn, pipeline: Pipeline) -> dict[str, int]:
    """The result of each total_*.sql by its name, summed over the facts."""
    sums = {}
    for rule in rules(pipeline, "total"):
        (number,) = read(conn, rows, rule.queries[0], {"pipeline": pipeline.name})[0].values()
        name = rule.name.removeprefix("total_")
        sums[name] = sums.get(name, 0) + int(number or 0)
    return sums


def _differing(values: dict, names: list[str]) -> dict:
    """The values that differ; none for a row that does not exist."""
    return {} if all(value is None for value in values.values()) else {name: values[name] for name in names}


def _rule(file: SqlFile) -> Rule:
    table, remedy = (_header_value(file.header, f"{key}:") for key in ("table", "remedy"))
    purpose = " ".join(line for line in file.header if not line.startswith(("table:", "remedy:")))
    kind = file.name.partition("_")[0]
    if len(file.statements) != _STATEMENTS.get(kind):
        raise InvalidRule(
            f"{file.source}: it has {len(file.statements)} statements. A file in verify/ is named minutes_*.sql or "
            "total_*.sql and has one SELECT, or facts_*.sql and has two: the end of a slice of keys, and the rows of the slice "
            "that are wrong."
        )
    return Rule(file.name, purpose, table or file.name, remedy or "{again}", file.statements)


def _header_value(header: list[str], key: str) -> str | None:
    return next((line.removeprefix(key).strip() for line in header if line.startswith(key)), None)
