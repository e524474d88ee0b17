"""Reads events from the lake by key, as columns with the types of include/readings.py."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from include import readings
from include.lake.counts import read_partitions
from include.lake.payload import Fields, NotAnObject
from include.lakehouse.table import KEY, schema
from include.pipelines import Pipeline

if TYPE_CHECKING:
    import pyarrow
    from cassandra.cluster import Session

Counts = Mapping[datetime, tuple[int, int]]  # rows and checksum of the ids, as the ledger has them


def events_of(
    session: Session,
    pipeline: Pipeline,
    minutes: Collection[datetime],
    on_unreadable: Callable[[datetime, int, Exception], object] | None = None,
) -> tuple[pyarrow.Table, Counts]:
    """The events of these minutes in the columns of the table, and their counts as the ledger would have them.

    With `on_unreadable`, minutes that cannot be read are left out of both, as in `minute_counts` of include/lake/counts.py.
    """
    import pyarrow

    columns = schema(pipeline).as_arrow()
    values: dict[str, list] = {name: [] for name in columns.names}
    counts = dict.fromkeys(minutes, (0, 0))
    read = _reader(pipeline)
    names = [name for name in columns.names if name not in (*KEY, pipeline.event_id)]
    # If the pipeline declares an id column, the id comes from the key: a payload may have none, or one with white space
    # around it.
    own_id = pipeline.event_id if pipeline.event_id not in KEY else None
    identified_by = f", {own_id}" if own_id else ""
    query = session.prepare(
        f"SELECT minute, create_time, payload{identified_by} FROM {pipeline.lake_table} WHERE minute IN ? AND shard IN ?"
    )
    unreadable = set()

    def take(answer: Callable[[], Iterable]) -> None:
        for minute, create_time, payload, *identity in list(answer()):
            event_id = str((identity[0] if identity else create_time) or "")
            number, checksum = counts[minute]
            counts[minute] = number + 1, checksum + zlib.crc32(event_id.encode())
            values["minute"].append(minute)
            values["create_time"].append(str(create_time))
            if own_id in values:
                values[own_id].append(event_id)
            event = read(payload or "")
            for name in names:
                values[name].append(event.get(name))

    def leave_out(minute: datetime, shard: int, error: Exception) -> None:
        unreadable.add(minute)
        on_unreadable(minute, shard, error)  # ty: ignore[not-callable]

    read_partitions(session, query, sorted(minutes), pipeline.shards, take, on_unreadable and leave_out)
    events = pyarrow.table(values, schema=columns)
    if unreadable:  # other partitions of such a minute may have been read
        counts = {minute: count for minute, count in counts.items() if minute not in unreadable}
        events = only_minutes(events, counts)
    return events, counts


def only_minutes(events: pyarrow.Table, minutes: Collection[datetime]) -> pyarrow.Table:
    """The events of these minutes."""
    import pyarrow
    import pyarrow.compute

    values = pyarrow.array(minutes, type=events.schema.field("minute").type)
    return events.filter(pyarrow.compute.is_in(events["minute"], value_set=values))  # ty: ignore[missing-attribute]  # added at import


def _reader(pipeline: Pipeline) -> Callable[[str], dict[str, object]]:
    """A function that reads the declared fields of a payload. A payload that is not a JSON object has none of them."""
    fields = Fields(pipeline.fields)
    parsers = dict.fromkeys(pipeline.numbers, readings.amount) | dict.fromkeys(pipeline.times, readings.instant)

    def read(payload: str) -> dict[str, object]:
        try:
            values, _ = fields.read(payload)
        except NotAnObject:
            return {}
        texts = {name: readings.text(value, pipeline.null_words) for name, value in values.items()}
        return {name: parsers[name](text) if text and name in parsers else text for name, text in texts.items()}

    return read
