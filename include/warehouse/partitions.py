"""Partitions of published rows that are too many for one B-tree (`by_day` of an Output): RANGE (TO_DAYS(minute)).

Set-up and housekeeping create the partition of a day a week ahead, while it is empty; a merge never does, since DDL waits
for every reader. Rows of other days are in partitions of a month or a year, or else in the first or the last partition. A
partition with many rows is never split, so that no DDL copies them.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, timedelta

from include.pipelines import Pipeline
from include.warehouse import ddl
from include.warehouse.columns import catalog_rows
from include.warehouse.pipeline_lock import lock
from include.warehouse.session import in_transaction, read, value
from include.warehouse.statements import Statements

sql = Statements(__file__)

log = logging.getLogger(__name__)

DAYS_AHEAD = 7
_YEARS_FROM = 2000
_MONTHS = 12  # before the current month, and as many after it
_MAX_ROWS_TO_COPY = 1_000  # by splitting a partition, which takes some milliseconds
_MAX_PARTITIONS = 8_000  # a table can have 8,192; after 20 years of days, no partition is split
_ORDINAL_OF_DAY_0 = 365  # TO_DAYS of a date minus its ordinal


@dataclass(frozen=True)
class Partition:
    """Rows from `start` to `end` (excluded); None without a bound."""

    name: str
    start: date | None
    end: date | None


def boundaries(today: date) -> list[date]:
    """Where partitions should begin: years since 2000, months around today, and each day of the next week."""
    this_month = today.year * 12 + today.month - 1
    months = (divmod(month, 12) for month in range(this_month - _MONTHS, this_month + _MONTHS + 2))
    return sorted(
        {
            *(date(year, 1, 1) for year in range(_YEARS_FROM, today.year + 1)),
            *(date(year, month + 1, 1) for year, month in months),
            *(today + timedelta(days=ahead) for ahead in range(DAYS_AHEAD + 2)),
        }
    )


def make_ahead(conn, pipeline: Pipeline, *, dry: bool = False) -> int:
    """Split partitions at today's boundaries, by the server's clock, if they have few rows; returns the number of new ones.

    For a table in use, this gives up after a few seconds and logs a warning: the next call tries again. DDL commits.
    """
    count, kept_from = 0, _kept_from(conn, pipeline)
    for table in tables_by_day(pipeline):
        existing = partitions_of(conn, table)
        days = [day for day in boundaries(_today(conn)) if kept_from is None or day > kept_from]
        days = days[: max(_MAX_PARTITIONS - len(existing), 0)]
        for partition in existing:
            starts = [day for day in days if _is_inside(day, partition)]
            if not starts:
                continue
            if _has_many_rows(conn, table, partition):
                log.warning(
                    "Partition %s of %s has more than %s rows and is not split. Its days stay together, and retention "
                    "drops them together.",
                    *(partition.name, table, _MAX_ROWS_TO_COPY),
                )
                continue
            pieces = _pieces(partition, starts)
            if not dry and not _alter(
                conn, table, f"REORGANIZE PARTITION {partition.name} INTO ({_definitions(pieces)})"
            ):
                return count
            count += len(starts)
    return count


def drop_before(conn, pipeline: Pipeline, age: timedelta, *, dry: bool = False) -> int:
    """Drop partitions whose days are all older than `age`, by the server's clock; returns how many. DDL commits.

    First `rows_kept_from` moves, under the pipeline's lock: from then on no merge adds rows before it, and no check expects
    them. If the drop then gives up or is killed, nothing reads the remaining rows, and the next call drops them.
    """
    dropped = 0
    for table in tables_by_day(pipeline):
        oldest = _today(conn) - age
        expired = [
            partition
            for partition in partitions_of(conn, table)
            if partition.end is not None and partition.end <= oldest
        ]
        if not expired:
            continue
        if not dry:
            in_transaction(conn, lambda cursor, end=expired[-1].end: _keep_from(cursor, pipeline, end))  # ty: ignore[invalid-argument-type]
            if not _alter(conn, table, f"DROP PARTITION {', '.join(partition.name for partition in expired)}"):
                continue
        dropped += len(expired)
    return dropped


def convert_to_ranges(conn, pipeline: Pipeline) -> None:
    """Rebuild tables of an earlier version, which were partitioned by lists of days. Merges wait while rows are copied."""
    for table in tables_by_day(pipeline):
        if _method(conn, table) != "LIST":
            continue
        log.info("Rebuilding %s with partitions by range. Merges into it wait until this is done.", table)
        pieces = _pieces(Partition("future", None, None), boundaries(_today(conn)))
        rebuild = f"ALTER TABLE {table} PARTITION BY RANGE (TO_DAYS(minute)) ({_definitions(pieces)})"
        if not ddl.execute(conn, rebuild, ddl.REBUILD_PATIENCE):
            raise ddl.in_use(conn, table, "it could not be rebuilt with partitions by range")


def partitions_of(conn, table: str) -> list[Partition]:
    """The range partitions of a table, oldest first."""
    partitions, start = [], None
    if _method(conn, table) != "RANGE":
        return partitions
    for name, until in _partition_rows(conn, table, "partition_name, partition_description"):
        end = None if until == "MAXVALUE" else date.fromordinal(int(until) - _ORDINAL_OF_DAY_0)
        partitions.append(Partition(name, start, end))
        start = end
    return partitions


def tables_by_day(pipeline: Pipeline) -> list[str]:
    """The pipeline's tables that have these partitions."""
    return sorted({output.published for output in pipeline.outputs if output.by_day})


def _kept_from(conn, pipeline: Pipeline) -> date | None:
    query = "SELECT DATE(rows_kept_from) FROM etl.pipelines WHERE pipeline = %(pipeline)s"
    return read(conn, value, query, {"pipeline": pipeline.name})


def _keep_from(cursor, pipeline: Pipeline, day: date) -> None:
    lock(cursor, pipeline)
    cursor.execute(sql("keep_from"), {"pipeline": pipeline.name, "day": day})


def _method(conn, table: str) -> str | None:
    return _partition_rows(conn, table, "partition_method, partition_name")[0][0]


def _partition_rows(conn, table: str, columns: str) -> list[tuple]:
    return catalog_rows(conn, table, "partitions", columns, "ORDER BY partition_ordinal_position")


def _today(conn) -> date:
    return read(conn, value, "SELECT UTC_DATE()")


def _has_many_rows(conn, table: str, partition: Partition) -> bool:
    # An open transaction would keep the DDL waiting.
    row_count = read(
        conn, value, sql("rows_up_to", table=table, partition=partition.name), {"limit": _MAX_ROWS_TO_COPY + 1}
    )
    return row_count > _MAX_ROWS_TO_COPY


def _is_inside(day: date, partition: Partition) -> bool:
    return (partition.start is None or partition.start < day) and (partition.end is None or day < partition.end)


def _pieces(partition: Partition, cuts: Iterable[date]) -> list[Partition]:
    """The partition cut at these days; a piece is named for its first day, or `past` or `future`."""
    starts = [partition.start, *cuts]
    ends = [*cuts, partition.end]
    return [Partition(_name(start, end), start, end) for start, end in zip(starts, ends, strict=True)]


def _name(start: date | None, end: date | None) -> str:
    if end is None:
        return "future"
    return "past" if start is None else f"p{start:%Y%m%d}"


def _definitions(pieces: Collection[Partition]) -> str:
    bounds = [f"(TO_DAYS('{piece.end}'))" if piece.end else "MAXVALUE" for piece in pieces]
    return ", ".join(
        f"PARTITION {piece.name} VALUES LESS THAN {bound}" for piece, bound in zip(pieces, bounds, strict=True)
    )


def _alter(conn, table: str, what: str) -> bool:
    """Alter the table; returns False if it was in use."""
    done = ddl.execute(conn, f"ALTER TABLE {table} {what}")
    if not done:
        log.warning("%s is in use: its partitions stay as they are, and the next housekeeping tries again.", table)
    return done
