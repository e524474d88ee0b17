"""Removes old demo events: their minutes are closed, and then their rows are deleted from the lake.

The minutes are closed first, so that no run reads a minute that is half deleted, or holds it because it shrank. Facts and
contributions stay until a new event opens the minute again (include/warehouse/ledger.py). A minute that contains even a
single event of another producer is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from include.chunks import slices
from include.connections import LAKE_WRITER, endpoint
from include.demo.traffic import is_demo
from include.durations import MINUTE, minute_floor
from include.lake import change_log
from include.lake.counts import answers_of
from include.lake.session import translate_errors
from include.pipelines import Pipeline
from include.warehouse import ledger
from include.warehouse.pipeline_lock import lock
from include.warehouse.session import column, execute, in_transaction, read, reading
from include.warehouse.statements import Statements

sql = Statements(__file__)

# Older minutes were checked by earlier runs. Without a limit, all minutes of a lake with real events would be read every day.
LOOK_BACK = timedelta(days=30)
_MINUTES_PER_CHUNK = 60
_DELETIONS_IN_FLIGHT = 16
_REMOVING = f"{ledger.DEMO_EVENTS_ONLY}; they are being removed from the lake."
_REMOVED = f"{ledger.DEMO_EVENTS_ONLY}, removed from the lake; a new event opens the minute again."


def remove_demo_events(reader, writer, conn, pipeline: Pipeline, age: timedelta, *, dry: bool = False) -> int:
    """Close and remove the minutes older than `age` that contain only demo events; returns how many.

    Minutes older than `age` by more than LOOK_BACK are not searched. The next call also removes the minutes that a
    killed call has closed.
    """
    clock = change_log.clock(reader)
    oldest = minute_floor(clock - age)
    if not dry:
        _remove_closed(reader, writer, conn, pipeline)
    removed, start = 0, oldest - LOOK_BACK
    while chunk := _candidates(conn, pipeline, start, oldest):
        demo_only = _demo_only(reader, pipeline, chunk)
        # A minute without events may have lost others: it is not closed, and verify reports it.
        minutes = {minute: changed_at for minute, changed_at in chunk.items() if demo_only.get(minute) is not None}
        if minutes and not dry:
            in_transaction(conn, lambda cursor, minutes=minutes: _close(cursor, pipeline, minutes))
            _remove_closed(reader, writer, conn, pipeline)
        removed += len(minutes)
        start = max(chunk) + MINUTE
    return removed


def _candidates(conn, pipeline: Pipeline, start: datetime, end: datetime) -> dict[datetime, str | None]:
    """The next minutes that may have rows in the lake, each with the newest change that a poll saw."""
    binds = {"pipeline": pipeline.name, "start": start, "end": end, "limit": _MINUTES_PER_CHUNK}
    with reading(conn) as cursor:
        return dict(execute(cursor, sql("candidates"), binds).fetchall())


def _close(cursor, pipeline: Pipeline, minutes: Mapping[datetime, str | None]) -> None:
    lock(cursor, pipeline)  # so that no merge of one of these minutes is in progress
    ledger.close(cursor, pipeline, minutes, _REMOVING)


def _remove_closed(reader, writer, conn, pipeline: Pipeline) -> None:
    """Remove the rows of the minutes that are closed for removal."""
    from cassandra.concurrent import execute_concurrent_with_args

    binds = {"pipeline": pipeline.name, "removing": _REMOVING}
    closed_minutes = read(conn, column, sql("closed"), binds)
    for minutes in slices(closed_minutes, _MINUTES_PER_CHUNK):
        demo_only = _demo_only(reader, pipeline, minutes)
        statement = f"DELETE FROM {pipeline.lake_table} USING TIMESTAMP ? WHERE minute = ? AND shard = ?"
        # With the newest write timestamp that was read. Rows written since then have a later one: the time of their
        # write, or the start of their import.
        partitions = [
            (stamp, minute, shard) for minute, stamp in demo_only.items() if stamp for shard in range(pipeline.shards)
        ]
        with translate_errors(endpoint(LAKE_WRITER)):  # else an error would name the reader's connection
            delete = writer.prepare(statement)
            execute_concurrent_with_args(
                writer, delete, partitions, concurrency=_DELETIONS_IN_FLIGHT, raise_on_first_error=True
            )

        def mark(cursor, minutes=minutes) -> None:
            cursor.executemany(
                "UPDATE etl.minute_ledger SET reason = %s WHERE pipeline = %s AND minute = %s AND state = 'closed'",
                [(_REMOVED, pipeline.name, minute) for minute in minutes],
            )

        in_transaction(conn, mark)


def _demo_only(reader, pipeline: Pipeline, minutes: Iterable[datetime]) -> dict[datetime, int | None]:
    """The minutes among these that contain only demo events, with their newest write timestamps; None without events."""
    newest_writes: dict[datetime, int | None] = dict.fromkeys(minutes)
    query = f"SELECT create_time, WRITETIME(payload) FROM {pipeline.lake_table} WHERE minute = ? AND shard = ?"
    for statement in (f"{query} LIMIT 1", query):  # in most minutes with other events, the first one is such an event
        partitions = [(minute, shard) for minute in newest_writes for shard in range(pipeline.shards)]
        mixed_minutes = set()
        for (minute, _), answer in answers_of(reader, reader.prepare(statement), partitions):
            for event_id, written_at in answer():
                if not is_demo(event_id):
                    mixed_minutes.add(minute)
                    break
                newest_writes[minute] = max(newest_writes[minute] or 0, written_at or 0)
        newest_writes = {minute: stamp for minute, stamp in newest_writes.items() if minute not in mixed_minutes}
    return newest_writes
