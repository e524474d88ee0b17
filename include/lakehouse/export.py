"""Keeps the table in step with the warehouse: writes the events of minutes whose newest merged read the table does not have.

Only settled minutes are written, so that most are written once. The ledger has the minutes that are due (`to_lakehouse`) and
the counts that they must have: a minute whose rows in the lake differ has changed since, and is written after its next
merge. A killed export writes the same minutes again, which changes nothing.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter

from include.chunks import chunks
from include.connections import LAKE_READER, WAREHOUSE_ETL, endpoint
from include.lake.errors import unreadable_minutes
from include.lake.session import lake
from include.lakehouse import ledger, repair, table
from include.lakehouse.events import events_of, only_minutes
from include.pipelines import Pipeline
from include.warehouse.folded_hours import hour_of
from include.warehouse.session import warehouse

log = logging.getLogger(__name__)

MAX_ROWS = 200_000  # in one commit: some 200 MB of memory
MAX_MINUTES = 1_440  # in one call
TIME_LIMIT = 300.0  # seconds, after which a call leaves the other minutes to the next one


@dataclass
class Export:
    """What was written; str() is the line for the task's log."""

    minutes: int = 0
    events: int = 0
    changed_since: int = 0  # minutes that were left to their next merge
    unreadable: dict[datetime, Exception] = field(default_factory=dict)  # by minute; they stay due

    def __str__(self) -> str:
        left = f"; {self.changed_since} minutes have changed since their merge" if self.changed_since else ""
        return f"{self.events} events of {self.minutes} minutes were written{left}."


def export(pipeline: Pipeline) -> Export:
    """Write what is due, newest minutes first, commit by commit. Raises LakehouseError.

    Minutes that cannot be read from the lake stay due. LakeUnreadable is raised after the others are written.
    """
    result, events_table = Export(), table.table(pipeline)
    with lake(LAKE_READER) as session, warehouse(WAREHOUSE_ETL) as conn:
        if ledger.use_table(conn, pipeline, str(events_table.metadata.table_uuid)):
            log.warning(
                "%s is a new table: all events are written again, except those of closed minutes.",
                pipeline.lakehouse.table,
            )
        until = time.monotonic() + TIME_LIMIT
        due_minutes = ledger.due(conn, pipeline, MAX_MINUTES)
        for part in chunks(due_minutes, itemgetter("raw_rows"), table.MAX_MINUTES, MAX_ROWS):
            if time.monotonic() > until:
                break
            unreadable = {}
            for retry in table.commit_retries(events_table):
                with retry:
                    due = _still_due(conn, pipeline, part)
                    try:
                        unreadable = _write(pipeline, session, conn, events_table, due, result)
                    except FileNotFoundError as error:
                        log.warning("%s. %s", error, repair.drop_lost_files(conn, pipeline, events_table))
                        unreadable = _write(pipeline, session, conn, events_table, due, result)
            result.unreadable |= unreadable
    if result.unreadable:
        raise unreadable_minutes(
            pipeline.lake_table,
            result.unreadable,
            endpoint(LAKE_READER),
            f"They stay due. {result}",
        )
    return result


def rewrite(pipeline: Pipeline, start: datetime, end: datetime) -> int:
    """Make the minutes from `start` to `end` (excluded) due again, and remove those that no merge has read.

    The hours of that range are counted again as well. Closed minutes stay as they are. Returns the number of minutes
    that became due. Use it to repair a table whose events were changed; correct rows are written again, too.
    """
    events_table = table.table(pipeline)
    with warehouse(WAREHOUSE_ETL) as conn:
        number = ledger.make_due(conn, pipeline, start, end)
        repair.drop_lost_files(conn, pipeline, events_table)
        repair.drop_unknown_minutes(conn, pipeline, events_table, start, end)
        ledger.mark_changed(conn, pipeline, ledger.hours_between(conn, pipeline, hour_of(start), end))
    return number


def _still_due(conn, pipeline: Pipeline, part: list[dict]) -> list[dict]:
    """These minutes as the ledger has them now, without those that another export has written since."""
    minutes = {row["minute"] for row in part}
    return [row for row in ledger.due(conn, pipeline, MAX_MINUTES) if row["minute"] in minutes]


def _write(
    pipeline: Pipeline, session, conn, events_table, part: list[dict], result: Export
) -> dict[datetime, Exception]:
    """Write these minutes, and return those that cannot be read from the lake now, with the error."""
    table_uuid = str(events_table.metadata.table_uuid)
    unreadable: dict[datetime, Exception] = {}
    events, counts = events_of(
        session,
        pipeline,
        [row["minute"] for row in part],
        on_unreadable=lambda minute, _, error: unreadable.setdefault(minute, error),
    )
    readable = [row for row in part if row["minute"] in counts]
    as_merged = [row for row in readable if counts[row["minute"]] == (row["raw_rows"], int(row["id_checksum"]))]
    changed = [row for row in readable if row not in as_merged]
    if as_merged:
        minutes = sorted(row["minute"] for row in as_merged)
        events = only_minutes(events, minutes)
        # Hours that lose events are marked before the commit, because afterwards nothing records which hours these were. They
        # are marked again after it, because another run may count them in between. If this run is killed after such a count,
        # the count stays wrong until `./minutemark verify` reports it.
        hours = table.hours_of(pipeline, events_table, minutes)
        ledger.mark_changed(conn, pipeline, hours)
        table.replace(events_table, minutes, events)
        ledger.record_written(conn, pipeline, table_uuid, hours | table.hours_in(pipeline, events), as_merged)
        result.minutes += len(minutes)
        result.events += events.num_rows
    if changed:
        ledger.record_skipped(conn, pipeline, table_uuid, changed)
        result.changed_since += len(changed)
    return unreadable
