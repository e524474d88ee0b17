"""Reads a flat event table such as others keep, PRIMARY KEY (create_time), in token order, so that a copy can go on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from include.lake.errors import LakeTableMismatch
from include.lake.schema import columns_of
from include.pipelines import Pipeline

if TYPE_CHECKING:
    from cassandra.cluster import Session

FIRST_TOKEN, LAST_TOKEN = -(2**63), 2**63 - 1
_NAME = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")
_PAGE = 2_000


class FlatRow(NamedTuple):
    """One row of a flat table: its token, the text of its key, and its values as texts."""

    token: int
    create_time: str
    values: dict[str, str | None]


@dataclass(frozen=True)
class FlatTable:
    """A flat table that a pipeline's events can be read from, and the pipeline's columns that it has."""

    name: str
    columns: tuple[str, ...]
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    _selected: str

    def rows(self, session: Session, after_token: int = FIRST_TOKEN) -> Iterator[FlatRow]:
        """Every row from that token on (included: two keys may share it), in token order."""
        from cassandra.query import SimpleStatement

        query = (
            f"SELECT token(create_time), create_time{self._selected} FROM {self.name} WHERE token(create_time) >= %s"
        )
        for token, create_time, *values in session.execute(SimpleStatement(query, fetch_size=_PAGE), (after_token,)):
            yield FlatRow(token, str(create_time), dict(zip(self.columns, values, strict=True)))


def flat_table(session: Session, pipeline: Pipeline, name: str) -> FlatTable:
    """The table of that name (keyspace.table), checked. Raises LakeTableMismatch where it can't be read as events."""
    if not _NAME.fullmatch(name):
        raise LakeTableMismatch(f"{name!r} names no table: write it as keyspace.table, in lower case.")
    if name == pipeline.lake_table:
        raise LakeTableMismatch(
            f"{name} is the lake table of pipeline {pipeline.name} itself: name the table to copy from."
        )
    keyspace, table = name.split(".")
    found = columns_of(session, keyspace, table)
    if not found:
        raise LakeTableMismatch(f"There is no table {name} in the lake: see DESCRIBE TABLES there for its name.")
    key = [column for column, (kind, _) in found.items() if kind in ("partition_key", "clustering")]
    if key != ["create_time"]:
        raise LakeTableMismatch(
            f"{name} has the primary key ({', '.join(sorted(key))}), and only PRIMARY KEY (create_time) can be copied: "
            f"export it as CSV (cqlsh: COPY {name} TO 'x.csv' WITH HEADER = true) and import that."
        )
    partitioner = session.execute("SELECT partitioner FROM system.local").one().partitioner
    if not partitioner.endswith("Murmur3Partitioner"):
        raise LakeTableMismatch(
            f"The lake of {name} uses {partitioner}, and only Murmur3Partitioner can be read in token order."
        )
    columns = tuple(column for column in pipeline.columns if column in found)
    if not columns:
        raise LakeTableMismatch(
            f"{name} has no column of pipeline {pipeline.name}, which wants {', '.join(pipeline.columns)}."
        )
    return FlatTable(
        name=name,
        columns=columns,
        missing=tuple(column for column in pipeline.columns if column not in found),
        unknown=tuple(sorted(set(found) - {"create_time", *columns})),
        _selected="".join(f", {_as_text(name, column, found[column][1])}" for column in columns),
    )


def _as_text(table: str, column: str, kind: str) -> str:
    if kind in ("text", "varchar"):
        return column
    if "<" in kind or kind == "blob":
        raise LakeTableMismatch(
            f"{table}: column {column} is a {kind}, which has no text form: drop it, or export the table as CSV."
        )
    return f"CAST({column} AS text)"
