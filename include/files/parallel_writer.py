"""Writes chunks of raw rows to the lake: in this process, or in several at once if there are many chunks.

Validating a row and encoding it for the driver is Python work, and a single process does not keep a Cassandra node busy.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from datetime import datetime
from multiprocessing import connection, get_context, parent_process
from typing import TYPE_CHECKING, Any

from include.connections import LAKE_WRITER, Endpoint, endpoint
from include.errors import MinutemarkError
from include.lake import change_log
from include.lake.admission import Refused
from include.lake.session import lake, translate_errors
from include.lake.writer import Event, EventWriter
from include.pipelines import Pipeline

if TYPE_CHECKING:
    from cassandra.cluster import Session

SINGLE_PROCESS_CHUNKS = 5  # chunks that this process writes itself: starting others takes a second or two
_MAX_PROCESSES = 8
_CHUNKS_READ_AHEAD = 2  # for each process

RowReader = Callable[[Any], "Event | Refused"]  # validates one row; is sent to other processes


class ProcessEnded(MinutemarkError):
    """A process that writes to the lake exited unexpectedly."""

    is_retried = True


@dataclass(frozen=True)
class ChunkResult:
    """The outcome of writing a chunk's rows."""

    events: int
    refused: Sequence[Refused]
    minutes: frozenset[datetime]


def write_chunks(
    chunks: Iterable[list], read: RowReader, pipeline: Pipeline, session: Session
) -> Iterator[tuple[list, ChunkResult]]:
    """Write chunks of named tuples; yields each, in order, once its events are in the lake and their minutes in the change log.

    Raises LakeError or ProcessEnded. Chunks after a failed one may be in the lake as well: the next attempt writes the same
    rows again. Of several versions of an event, the last one in the chunks' order stays, whichever process writes it.
    """
    writer = _Writer(EventWriter(session, pipeline), read)
    numbered_chunks = ((as_of, chunk) for as_of, chunk in enumerate(chunks, change_log.write_clock(session)))
    for as_of, chunk in itertools.islice(numbered_chunks, SINGLE_PROCESS_CHUNKS):
        yield chunk, writer.write(chunk, as_of)
    if (first := next(numbered_chunks, None)) is not None:
        yield from _write_in_processes(itertools.chain([first], numbered_chunks), read, pipeline)


def _write_in_processes(
    chunks: Iterable[tuple[int, list]], read: RowReader, pipeline: Pipeline
) -> Iterator[tuple[list, ChunkResult]]:
    processes = min(_MAX_PROCESSES, os.cpu_count() or 1)
    # Spawned, not forked: the driver's threads and connections do not survive a fork.
    pool = ProcessPoolExecutor(
        processes, get_context("spawn"), initializer=_begin, initargs=(endpoint(LAKE_WRITER), read, pipeline)
    )
    futures: deque = deque()
    try:
        for as_of, chunk in chunks:
            # As plain tuples: unpickling takes a call for each named tuple.
            futures.append((chunk, pool.submit(_write, type(chunk[0]), [tuple(row) for row in chunk], as_of)))
            if len(futures) > _CHUNKS_READ_AHEAD * processes:
                earlier_chunk, outcome = futures.popleft()
                yield earlier_chunk, outcome.result()
        for earlier_chunk, outcome in futures:
            yield earlier_chunk, outcome.result()
    except BrokenProcessPool as error:
        raise ProcessEnded(
            "A process that writes to the lake exited unexpectedly: it was killed, or memory ran out. Run the same "
            "command again to resume."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


class _Writer:
    """Validates the rows of a chunk, and writes those that are events."""

    def __init__(self, writer: EventWriter, read: RowReader) -> None:
        self._writer = writer
        self._read = read

    def write(self, chunk: list, as_of: int) -> ChunkResult:
        results = [self._read(row) for row in chunk]
        events = [row for row in results if isinstance(row, Event)]
        refused = [replace(row, as_of=as_of) for row in results if isinstance(row, Refused)]
        return ChunkResult(len(events), refused, self._writer.write(events, as_of=as_of).minutes)


# In a process of the pool

_open_session = contextlib.ExitStack()  # never closed: the session lives as long as the process
_writer: _Writer
_target: Endpoint


def _begin(target: Endpoint, read: RowReader, pipeline: Pipeline) -> None:
    global _writer, _target
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal: the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _target = target
    _writer = _Writer(EventWriter(_open_session.enter_context(lake(target)), pipeline), read)


def _write(row_type: Any, rows: list[tuple], as_of: int) -> ChunkResult:
    with translate_errors(_target):  # the driver's own errors cannot be sent to the parent
        return _writer.write(list(map(row_type._make, rows)), as_of)


def _end_with_parent() -> None:
    """End this process with its parent. A killed parent sends no signal, and this process would wait for a chunk forever."""
    connection.wait([parent_process().sentinel])
    os._exit(1)
