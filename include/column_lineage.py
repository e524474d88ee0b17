"""Reads and prints the lineage of columns, which `make lineage` derives from declarations, SQL and Spark's plans.

include/lineage/<pipeline>.json names data sets by store and name. Each column has its origins by data set, with the
subtypes of OpenLineage's transformations; `rows` are the columns that decide which rows a data set has.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from include import pipelines
from include.errors import MinutemarkError

FOLDER = Path(__file__).parent / "lineage"
DIRECT = frozenset({"IDENTITY", "TRANSFORMATION", "AGGREGATION"})  # subtypes; the others are INDIRECT


class ColumnUnknown(MinutemarkError):
    """A column that no data set of any pipeline has."""


def pipeline_data_sets(name: str) -> dict[str, dict]:
    """Data sets of the pipeline by store and name; empty if `make lineage` has not derived them yet."""
    file = FOLDER / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def all_data_sets() -> dict[str, dict]:
    """The data sets of all pipelines."""
    return {key: entry for name in pipelines.all_pipelines() for key, entry in pipeline_data_sets(name).items()}


def sources_of(data_set: dict) -> set[str]:
    """The data sets from which the columns or the rows of a data set come."""
    return {
        *data_set.get("rows", {}),
        *(key for column in data_set["columns"].values() for key in column.get("from", {})),
    }


def as_text(column: str) -> str:
    """Where `database.table.column` comes from, step by step. Raises ColumnUnknown."""
    lines, data_sets = [], all_data_sets()
    for key, data_set in data_sets.items():
        name = column.removeprefix(f"{key.partition(' ')[2]}.")
        if name != column and name in data_set["columns"]:
            kind = data_set["columns"][name].get("type")
            lines += [f"{key}: {name}{f', {kind}' if kind else ''}", *_origins(data_sets, key, name, "  ")]
    if not lines:
        raise ColumnUnknown(
            f"No data set in {FOLDER.parent.name}/{FOLDER.name} has the column {column!r}. Write it as database.table.column."
        )
    return "\n".join(lines)


def _origins(data_sets: dict[str, dict], key: str, column: str, indent: str) -> Iterator[str]:
    origins = data_sets.get(key, {}).get("columns", {}).get(column, {}).get("from", {})
    for source, columns in origins.items():
        for name, subtype in columns.items():
            yield f"{indent}{subtype} {'of' if subtype in DIRECT else 'on'} {source}: {name}"
            yield from _origins(data_sets, source, name, indent + "  ")
