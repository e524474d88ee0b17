"""Keeps the table as the warehouse is: writes the events of minutes whose newest merged read it does not have.

Only settled minutes are written, so that most are written once. The ledger says which (`to_lakehouse`), and what they must
hold: a minute that the lake holds otherwise by now has changed since, and is written after its next merge. A killed export
writes the same minutes again, which changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from include.connections import LAKE_READER, WAREHOUSE_ETL
from include.lake.session import lake
from include.lakehouse import hourly, table
from include.lakehouse.events import events_of
from include.pipelines import Pipeline
from include.warehouse.session import in_transaction, rows, warehouse

MOST_ROWS = 200_000  # of one commit: some 200 MB of memory
MOST_MINUTES = 1_440  # of one call
_DUE = (
    "SELECT minute, attempt, raw_rows, id_checksum FROM etl.minute_ledger FORCE INDEX (lakehouse_minutes) "
    "WHERE pipeline = %(pipeline)s AND to_lakehouse = 1 ORDER BY minute DESC LIMIT %(most)s"
)
_WRITTEN = (
    "UPDATE etl.minute_ledger SET lakehouse_attempt = %(attempt)s "
    "WHERE pipeline = %(pipeline)s AND minute = %(minute)s AND attempt = %(attempt)s"
)


@dataclass
class Export:
    """What was written; str() is the line for the task's log."""

    minutes: int = 0
    events: int = 0
    changed_since: int = 0  # minutes that were left to their next merge

    def __str__(self) -> str:
        left = f"; {self.changed_since} minutes have changed since their merge" if self.changed_since else ""
        return f"{self.events} events of {self.minutes} minutes written{left}."


def export(pipeline: Pipeline) -> Export:
    """Write what is due, newest minutes first, commit by commit. Raises LakehouseError."""
    done, into = Export(), table.table(pipeline)
    with lake(LAKE_READER) as session, warehouse(WAREHOUSE_ETL) as conn:
        due = rows(conn.cursor(), _DUE, {"pipeline": pipeline.name, "most": MOST_MINUTES})
        conn.rollback()
        for part in _parts(due):
            events, counts = events_of(session, pipeline, [row["minute"] for row in part])
            kept = [row for row in part if counts[row["minute"]] == (row["raw_rows"], int(row["id_checksum"]))]
            done.changed_since += len(part) - len(kept)
            if not kept:
                continue
            minutes = sorted(row["minute"] for row in kept)
            events = _only(events, minutes)
            # Hours that lose events are noted first: once the commit is done, nothing tells which they were.
            _note(conn, pipeline, hourly.hours_of(into, minutes))
            table.replace(into, minutes, events)
            _note(conn, pipeline, hourly.hours_of(into, minutes), kept)
            done.minutes += len(minutes)
            done.events += events.num_rows
    return done


def _parts(due: Iterable[dict]) -> Iterator[list[dict]]:
    part, size = [], 0
    for row in due:
        if part and size + row["raw_rows"] > MOST_ROWS:
            yield part
            part, size = [], 0
        part.append(row)
        size += row["raw_rows"]
    if part:
        yield part


def _only(events, minutes: list[datetime]):
    import pyarrow
    import pyarrow.compute

    wanted = pyarrow.array(minutes, type=events.schema.field("minute").type)
    return events.filter(pyarrow.compute.is_in(events["minute"], value_set=wanted))


def _note(conn, pipeline: Pipeline, hours: Iterable[datetime], written: Iterable[dict] = ()) -> None:
    """These hours are to be counted, and the table has these reads of minutes."""
    minutes = [{**row, "pipeline": pipeline.name} for row in sorted(written, key=lambda row: row["minute"])]

    def note(cursor) -> None:
        hourly.mark(cursor, pipeline, hours)
        if minutes:
            cursor.executemany(_WRITTEN, minutes)

    in_transaction(conn, note)
