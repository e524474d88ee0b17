"""Writes events into a lake table, then touches their minutes."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from msgspec.json import Encoder

from include.chunks import chunks
from include.lake import change_log
from include.lake.keys import minute_of, shard_of
from include.pipelines import Pipeline

if TYPE_CHECKING:
    from cassandra.cluster import Session

_encode = Encoder().encode

CONCURRENCY = 32  # statements in flight
_ROWS_PER_BATCH = 100
_BYTES_PER_BATCH = 64_000
_ROWS_PER_WINDOW = 5_000


class Event(NamedTuple):
    """One raw event: its time, its fields as strings, and the JSON object as its producer sent it, if there is one.

    Without a `text`, the payload is made of the fields that are not empty.
    """

    create_time: UUID
    values: Mapping[str, str | None]
    text: str | None = None


def event_id(pipeline: Pipeline, event: Event) -> str:
    """The text that identifies the event; its shard and its checksum come from it. Raises KeyError if it is absent."""
    if pipeline.event_id == "create_time":
        return str(event.create_time)
    return event.values[pipeline.event_id] or ""


def payload_of(event: Event) -> bytes:
    """The event as the lake keeps it: one complete JSON object."""
    if event.text is not None:
        return event.text.encode()
    return _encode({name: text for name, text in event.values.items() if text})


@dataclass(frozen=True)
class Written:
    """What one call of `EventWriter.write`, or of `EventProducer.write` (include/kafka/producer.py), wrote."""

    rows: int
    minutes: frozenset[datetime]


class EventWriter:
    """Writes events of one pipeline; the INSERT is prepared once."""

    def __init__(self, session: Session, pipeline: Pipeline) -> None:
        self._session = session
        self._pipeline = pipeline
        self._own_id = None if pipeline.event_id == "create_time" else pipeline.event_id
        columns = ["minute", "shard", "create_time", *([self._own_id] if self._own_id else []), "payload"]
        marks = ", ".join("?" * len(columns))
        self._insert = session.prepare(
            f"INSERT INTO {pipeline.lake_table} ({', '.join(columns)}) VALUES ({marks}) USING TIMESTAMP ?"
        )

    def write(self, events: Iterable[Event], *, as_of: int | None = None) -> Written:
        """Write all events, then touch their minutes; after a failed write, touch those that may have events.

        Of several versions of an event the last one stays as a whole. `as_of` is their write timestamp: the lake's clock
        (microseconds since 1970) as it was before they were read from their source, so that a writer that was suspended
        cannot replace a later version with an earlier one. Raises the driver's error of the first write that failed.
        """
        minutes: set[datetime] = set()
        rows = 0
        events = iter(events)
        try:
            while window := list(islice(events, _ROWS_PER_WINDOW)):
                self._write_window(window, minutes, as_of)
                rows += len(window)
        except BaseException:
            with contextlib.suppress(Exception):  # the first error explains more than a second one
                self._touch(minutes)
            raise
        # After the events, never before: a poll between the two would read the minutes without them.
        self._touch(minutes)
        return Written(rows, frozenset(minutes))

    def _touch(self, minutes: Iterable[datetime]) -> None:
        change_log.touch(self._session, self._pipeline.lake_table, minutes)

    def _write_window(self, events: list[Event], minutes: set[datetime], as_of: int | None) -> None:
        from cassandra.concurrent import execute_concurrent

        # A later version replaces an earlier one here, not in the lake: two writes in flight have no order.
        partitions: dict[tuple[datetime, int], dict[tuple[UUID, str], Event]] = defaultdict(dict)
        for event in events:
            identity = event_id(self._pipeline, event)
            shard = shard_of(identity, self._pipeline.shards)
            partitions[minute_of(event.create_time), shard][event.create_time, identity] = event
        minutes.update(minute for minute, _ in partitions)
        statements = (
            (statement, ())
            for key, events_of_key in partitions.items()
            for statement in self._statements(*key, events_of_key.values(), as_of)
        )
        for _ in execute_concurrent(
            self._session, statements, concurrency=CONCURRENCY, raise_on_first_error=True, results_generator=True
        ):
            pass

    def _statements(self, minute: datetime, shard: int, events: Iterable[Event], as_of: int | None) -> Iterator[object]:
        """The events of one partition as unlogged batches: each is one write, far cheaper than a write for each row."""
        from cassandra.query import UNSET_VALUE

        partition = self._insert.bind((minute, shard)).values[:2]
        stamp = UNSET_VALUE if as_of is None else as_of.to_bytes(8, "big", signed=True)
        payloads = ((event, payload_of(event)) for event in events)
        for batch in chunks(payloads, lambda pair: len(pair[1]), _ROWS_PER_BATCH, _BYTES_PER_BATCH):
            yield _one_write([self._bind(partition, *pair, stamp) for pair in batch])

    def _bind(self, partition: list[bytes], event: Event, payload: bytes, stamp: object):
        """Like bind(), but without looking up each column's type again, which was a bulk writer's largest cost."""
        from cassandra.query import BoundStatement

        own_id = [event.values[self._own_id].encode()] if self._own_id else []
        statement = BoundStatement(self._insert)
        statement.values = [*partition, event.create_time.bytes, *own_id, payload, stamp]
        statement.raw_values = statement.values
        return statement


def _one_write(statements: list):
    from cassandra.query import BatchStatement, BatchType

    if len(statements) == 1:  # usual in real logs, and a batch of one costs more
        return statements[0]
    batch = BatchStatement(BatchType.UNLOGGED)
    batch.add_all(statements, [None] * len(statements))
    return batch
