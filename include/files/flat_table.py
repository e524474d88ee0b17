"""Reads a table with a column per field, in token order, so that a copy can resume.

These are flat tables of other systems, PRIMARY KEY (create_time), and lake tables of the layout before `payload`. A lake
table of the current layout can be read, too, for example one with another number of shards.
"""

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
PAYLOAD = "payload"
_CAST_TO_TEXT = frozenset((
    "ascii", "bigint", "boolean", "counter", "date", "decimal", "double", "float", "inet", "int", "smallint", "time",
    "timestamp", "timeuuid", "tinyint", "uuid", "varint",
))  # fmt: skip
_FLAT, _BY_MINUTE = ["create_time"], ["minute", "shard"]  # partition keys that can be copied


class FlatRow(NamedTuple):
    """One row of a flat table: its token, the text of its create_time, and its other values as strings."""

    token: int
    create_time: str
    values: dict[str, str | None]
    payload: str | None = None  # of a lake table of the current layout


@dataclass(frozen=True)
class FlatTable:
    """A table of a pipeline's events: its columns except create_time and the partition key, compared with the declared fields."""

    name: str
    columns: tuple[str, ...]
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    _token: str
    _select_list: str
    _is_lake_table: bool

    def rows(self, session: Session, from_token: int = FIRST_TOKEN) -> Iterator[FlatRow]:
        """Every row from that token on (included: two keys may share it), in token order."""
        from cassandra.query import SimpleStatement

        query = f"SELECT {self._token}, create_time{self._select_list} FROM {self.name} WHERE {self._token} >= %s"
        for token, create_time, *values in session.execute(SimpleStatement(query, fetch_size=_PAGE), (from_token,)):
            values_by_name = dict(zip(self.columns, values, strict=True))
            yield FlatRow(
                token,
                str(create_time),
                values_by_name,
                values_by_name.pop(PAYLOAD, None) if self._is_lake_table else None,
            )


def flat_table(session: Session, pipeline: Pipeline, name: str) -> FlatTable:
    """The table of that name (keyspace.table), checked. Raises LakeTableMismatch if it cannot be read as events."""
    if not _NAME.fullmatch(name):
        raise LakeTableMismatch(f"{name!r} does not name a table: write it as keyspace.table, in lower case.")
    if name == pipeline.lake_table:
        raise LakeTableMismatch(
            f"{name} is the lake table of pipeline {pipeline.name} itself: name the table to copy from."
        )
    keyspace, table = name.split(".")
    declared = columns_of(session, keyspace, table)
    if not declared:
        raise LakeTableMismatch(f"The lake has no table {name}. List its tables with DESCRIBE TABLES.")
    key = sorted(column for column, (kind, _) in declared.items() if kind == "partition_key")
    clustering = {column for column, (kind, _) in declared.items() if kind == "clustering"}
    is_by_minute = key == _BY_MINUTE and "create_time" in clustering
    if not is_by_minute and (key != _FLAT or clustering):
        raise LakeTableMismatch(
            f"{name} has the primary key ({', '.join([*key, *sorted(clustering)])}), but only tables with PRIMARY KEY "
            f"(create_time), or with the key of a lake table, can be copied: export it as CSV (cqlsh: COPY {name} TO 'x.csv' "
            "WITH HEADER = true) and import that."
        )
    partitioner = session.execute("SELECT partitioner FROM system.local").one().partitioner
    if not partitioner.endswith("Murmur3Partitioner"):
        raise LakeTableMismatch(
            f"The lake of {name} uses {partitioner}, but only Murmur3Partitioner can be read in token order: export it as "
            f"CSV (cqlsh: COPY {name} TO 'x.csv' WITH HEADER = true) and import that."
        )
    columns = tuple(column for column in declared if column not in ("create_time", *key))
    is_lake_table = is_by_minute and PAYLOAD in columns
    known = [column for column in columns if column in pipeline.fields or (is_lake_table and column == PAYLOAD)]
    if not known:
        raise LakeTableMismatch(
            f"{name} has no column of pipeline {pipeline.name}, which expects {', '.join(pipeline.fields)}."
        )
    return FlatTable(
        name=name,
        columns=columns,
        missing=tuple(
            name for name in pipeline.fields if name not in (*columns, pipeline.event_id) and not is_lake_table
        ),
        unknown=tuple(sorted(set(columns) - {*known, pipeline.event_id})),
        _token=f"token({', '.join(_BY_MINUTE if is_by_minute else _FLAT)})",
        _is_lake_table=is_lake_table,
        _select_list="".join(f", {_as_text(column, declared[column][1])}" for column in columns),
    )


def _as_text(column: str, kind: str) -> str:
    """A column of any type as text: as JSON if Cassandra does not cast it, as with a collection or a user-defined type."""
    if kind in ("text", "varchar"):
        return f'"{column}"'
    return f'CAST("{column}" AS text)' if kind in _CAST_TO_TEXT else f'toJson("{column}")'
