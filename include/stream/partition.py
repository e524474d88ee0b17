"""Writes a topic partition's part of a micro-batch, with the follower's code in a Python worker of an executor.

Events go to the lake, then their minutes to the change log. For a message that is not an event, the driver gets
only the offset. The driver reads the message again, and keeps it as the follower does. So executors need no account
of the warehouse, and no message is too large for the driver.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from include.chunks import chunks
from include.connections import Endpoint
from include.kafka.dead_letters import PlacedMessage
from include.kafka.messages import TopicEvents
from include.lake.session import open_session, translate_errors
from include.lake.writer import Event, EventWriter
from include.pipelines import Pipeline

# As much as a follower has in memory.
_MAX_MESSAGES = 2_000
_MAX_BYTES = 8_000_000
_WARM_UP_MESSAGES = 200  # per partition

_sessions: dict[str, Any] = {}  # of this process: a login takes a tenth of a second


@dataclass
class PartitionResult:
    """What became of a partition's messages."""

    partition: int
    end: int = 0  # the offset after its last message
    written: int = 0
    misplaced: int = 0
    minutes: set[datetime] = field(default_factory=set)
    refused: list[int] = field(default_factory=list)  # offsets of messages that are not events


@dataclass(frozen=True)
class PartitionWriter:
    """Writes partitions of one micro-batch. `as_of`, the first chunk's write time, was read before the messages."""

    pipeline: Pipeline
    lake: Endpoint
    clock: datetime
    as_of: int
    starts: dict[int, int]  # first offset by partition; a predecessor wrote the earlier messages

    def warm_up(self, rows: Iterable) -> Iterator[PartitionResult]:
        """Read some messages and write nothing, so that consumers, code and caches are warm for the first real micro-batch."""
        reader = TopicEvents(self.pipeline, self.clock)
        for row in islice(rows, _WARM_UP_MESSAGES):
            reader.read(_message(row))  # ty: ignore[invalid-argument-type]
        return iter(())

    def __call__(self, rows: Iterable) -> Iterator[PartitionResult]:
        """One result for each partition; each row is (topic, partition, offset, value), in the order of the offsets."""
        reader, results = TopicEvents(self.pipeline, self.clock), {}
        rows = (row for row in rows if row[2] >= self.starts.get(row[1], 0))
        with translate_errors(self.lake):
            writer = EventWriter(_session(self.lake), self.pipeline)
            # Each chunk gets a later write time: of two versions of an event, the later one wins.
            messages = chunks(map(_message, rows), _size_of, _MAX_MESSAGES, _MAX_BYTES)
            for as_of, chunk in enumerate(messages, self.as_of):
                self._write(chunk, as_of, reader, writer, results)
        yield from results.values()

    def _write(
        self,
        chunk: list[PlacedMessage],
        as_of: int,
        reader: TopicEvents,
        writer: EventWriter,
        results: dict[int, PartitionResult],
    ) -> None:
        events = []
        for message in chunk:
            result = results.setdefault(message.partition(), PartitionResult(message.partition()))
            result.end = message.offset() + 1
            event = reader.read(message)  # ty: ignore[invalid-argument-type]
            if isinstance(event, Event):
                events.append(event)
                result.written += 1
                result.misplaced += reader.is_misplaced(message, event)  # ty: ignore[invalid-argument-type]
            else:
                result.refused.append(message.offset())
        if events:
            results[chunk[-1].partition()].minutes |= writer.write(events, as_of=as_of).minutes


def _message(row) -> PlacedMessage:
    topic, partition, offset, value = row
    return PlacedMessage((topic, partition, offset), None if value is None else bytes(value))


def _size_of(message: PlacedMessage) -> int:
    return len(message.value() or b"")


def _session(lake: Endpoint):
    key = f"{lake.host} {lake.port} {lake.login} {lake.password} {lake.extra}"
    if key not in _sessions:
        _sessions[key] = open_session(lake)[1]
    return _sessions[key]
