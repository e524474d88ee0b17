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

from include.lake import change_log
from include.lake.keys import minute_of, shard_of
from include.pipelines import Pipeline

if TYPE_CHECKING:
    from cassandra.cluster import Session

CONCURRENCY = 32  # statements in flight
_ROWS_PER_BATCH = 50
_CHARACTERS_PER_BATCH = 64_000
_ROWS_PER_WINDOW = 5_000


class Event(NamedTuple):
    """One raw row: its id, and the texts that its producer sent. Absent and empty values mean the same."""

    create_time: UUID
    values: Mapping[str, str | None]


def event_id(pipeline: Pipeline, event: Event) -> str:
    """The text that identifies the event, which its shard and its checksum come from. KeyError where it is absent."""
    if pipeline.event_id == "create_time":
        return str(event.create_time)
    return event.values[pipeline.event_id] or ""


@dataclass(frozen=True)
class Written:
    """What a call of EventWriter.write left in the lake."""

    rows: int
    minutes: frozenset[datetime]


class EventWriter:
    """Writes events of one pipeline; the INSERT is prepared once."""

    def __init__(self, session: Session, pipeline: Pipeline) -> None:
        self._session = session
        self._pipeline = pipeline
        columns = ("minute", "shard", "create_time", *pipeline.columns)
        marks = ", ".join("?" * len(columns))
        self._insert = session.prepare(f"INSERT INTO {pipeline.lake_table} ({', '.join(columns)}) VALUES ({marks})")

    def write(self, events: Iterable[Event]) -> Written:
        """Write all events, then touch their minutes, also those of a write that failed halfway.

        The same event written twice is one row. Raises the driver's error of the first write that failed.
        """
        minutes: set[datetime] = set()
        rows = 0
        events = iter(events)
        try:
            while window := list(islice(events, _ROWS_PER_WINDOW)):
                self._write_window(window, minutes)
                rows += len(window)
        except BaseException:
            with contextlib.suppress(Exception):  # the first error tells more than a second one
                self._touch(minutes)
            raise
        # After the events, never before: a poll between the two would read the minutes without them.
        self._touch(minutes)
        return Written(rows, frozenset(minutes))

    def _touch(self, minutes: Iterable[datetime]) -> None:
        change_log.touch(self._session, self._pipeline.lake_table, minutes)

    def _write_window(self, events: list[Event], minutes: set[datetime]) -> None:
        from cassandra.concurrent import execute_concurrent

        partitions: dict[tuple[datetime, int], list[Event]] = defaultdict(list)
        for event in events:
            shard = shard_of(event_id(self._pipeline, event), self._pipeline.shards)
            partitions[minute_of(event.create_time), shard].append(event)
        minutes.update(minute for minute, _ in partitions)
        statements = (
            (statement, ()) for key, of_key in partitions.items() for statement in self._statements(*key, of_key)
        )
        for _ in execute_concurrent(
            self._session, statements, concurrency=CONCURRENCY, raise_on_first_error=True, results_generator=True
        ):
            pass

    def _statements(self, minute: datetime, shard: int, events: list[Event]) -> Iterator[object]:
        """The events of one partition as unlogged batches: one write each, and far cheaper than row by row."""
        partition = self._insert.bind((minute, shard)).values[:2]
        bound, characters = [], 0
        for event in events:
            size = sum(map(len, filter(None, event.values.values())))
            if bound and (len(bound) == _ROWS_PER_BATCH or characters + size > _CHARACTERS_PER_BATCH):
                yield _one_write(bound)
                bound, characters = [], 0
            bound.append(self._bound(partition, event))
            characters += size
        if bound:
            yield _one_write(bound)

    def _bound(self, partition: list[bytes], event: Event):
        """The same as bind(): every column is text, and asking each for its type again is a bulk writer's largest cost."""
        from cassandra.query import UNSET_VALUE, BoundStatement

        # Unset, where the event says nothing: a null would be a tombstone, and a page of them fails to read.
        texts = map(event.values.get, self._pipeline.columns)
        bound = BoundStatement(self._insert)
        bound.values = [
            *partition,
            event.create_time.bytes,
            *(text.encode() if text else UNSET_VALUE for text in texts),
        ]
        bound.raw_values = bound.values
        return bound


def _one_write(bound: list):
    from cassandra.query import BatchStatement, BatchType

    if len(bound) == 1:  # usual in real logs, and a batch of one costs more
        return bound[0]
    batch = BatchStatement(BatchType.UNLOGGED)
    batch.add_all(bound, [None] * len(bound))
    return batch
