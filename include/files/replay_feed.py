"""Sends events to a topic when they are due and records which ones the broker has; waits while consumers lag."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime

from include.durations import in_words, utc_now
from include.files.import_log import ImportLog
from include.files.record_files import Record
from include.kafka import topics
from include.kafka.clients import BrokerError
from include.kafka.ingest_mode import DAG, group_of, ingest_mode
from include.kafka.producer import EventProducer, MessageTooLong
from include.lake.admission import Refused
from include.lake.keys import time_of
from include.lake.writer import Event
from include.pipelines import Pipeline

log = logging.getLogger(__name__)

_ROWS_PER_CHUNK = 5_000
_CHARACTERS_PER_CHUNK = 8_000_000
_SECONDS_PER_CHUNK = 1.0
_MAX_WAITING = 200_000  # messages: a topic is often limited by size, and unread messages must stay in it
_ROWS_PER_CHECK = 50_000  # rows between checks of how many messages wait
_SECONDS_BETWEEN_WARNINGS = 30.0


class Clock:
    """The current time (UTC) of another clock: its difference from this machine's is measured once."""

    def __init__(self, now: datetime) -> None:
        self._difference = now - utc_now()

    def now(self) -> datetime:
        return utc_now() + self._difference


class Feed:
    """Takes the rows of one replay in their order.

    `refusal` makes a rejected row from a record and a reason; `on_line` receives the line up to which everything is safe.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        sender: EventProducer,
        replays: ImportLog,
        clock: Clock,
        refusal: Callable[[Record, str], Refused],
        on_line: Callable[[int], object],
    ) -> None:
        self._pipeline, self._sender, self._replays = pipeline, sender, replays
        self._clock, self._refusal, self._on_line = clock, refusal, on_line
        self._limits = topics.limits_of(pipeline)
        self._has_limits = self._limits != topics.Limits()
        self._line = replays.progress.position
        self._since_check = 0
        self._begin_chunk()

    def take(self, record: Record, event: Event | Refused, due: datetime | None) -> None:
        """Send the event when it is due, or record it as rejected. Raises BrokerError, WarehouseError."""
        if due:
            self._wait(due)
        if isinstance(event, Event):
            event = self._add(record, event)
        if isinstance(event, Refused):
            self._refused.append(event)
        else:
            self._sent += 1
        self._line = record.end_line
        self._characters += sum(map(len, record.fields))
        if (
            self._sent + len(self._refused) >= _ROWS_PER_CHUNK
            or self._characters >= _CHARACTERS_PER_CHUNK
            or time.monotonic() >= self._chunk_deadline
        ):
            self.flush()

    def flush(self) -> None:
        """Wait until all rows taken so far are safe and recorded."""
        self._sender.flush()
        if self._sent or self._refused:
            self._replays.advance(self._line, self._sent, self._refused)
        self._on_line(self._line)
        self._since_check += self._sent
        if self._since_check >= _ROWS_PER_CHECK:
            self._wait_for_consumers()
            self._since_check = 0
        self._begin_chunk()

    def _begin_chunk(self) -> None:
        self._sent, self._characters = 0, 0
        self._refused: list[Refused] = []
        self._chunk_deadline = time.monotonic() + _SECONDS_PER_CHUNK

    def _wait(self, due: datetime) -> None:
        while (seconds := (due - self._clock.now()).total_seconds()) > 0:
            seconds_left = self._chunk_deadline - time.monotonic()
            if seconds_left > 0:
                time.sleep(min(seconds, seconds_left))
            else:
                self.flush()

    def _add(self, record: Record, event: Event) -> Event | Refused:
        if self._has_limits and (problem := self._problem(time_of(event.create_time))):
            return self._refusal(record, problem)
        try:
            self._sender.add(event)
        except MessageTooLong as error:
            return self._refusal(record, str(error))
        return event

    def _problem(self, event_time: datetime) -> str | None:
        """Why the topic does not accept an event of that time. Raises BrokerError if it may remove the event unread."""
        ahead, behind, now = self._limits.ahead, self._limits.behind, self._clock.now()
        if behind is not None and event_time < now - behind:
            raise BrokerError(
                f"Topic {self._pipeline.topic} removes messages older than {in_words(behind)}, possibly before they are "
                f"consumed, and the file has an event of {event_time} UTC. Set retention.ms=-1 on the topic for the duration "
                "of the replay, use --shift now with a rate other than max, or import the file."
            )
        if ahead is not None and event_time > now + ahead:
            return f"its time, {event_time} UTC, is further ahead than topic {self._pipeline.topic} accepts ({in_words(ahead)})"
        return None

    def _wait_for_consumers(self) -> None:
        group = group_of(self._pipeline.name, ingest_mode() or DAG)
        warned_at = None
        while (message_count := topics.waiting(self._pipeline, group)) > _MAX_WAITING:
            if warned_at is None or time.monotonic() - warned_at > _SECONDS_BETWEEN_WARNINGS:
                warned_at = time.monotonic()
                log.warning(
                    "%s messages of %s are waiting to be ingested; the replay continues when there are no more than %s. "
                    "If it does not, check that the DAG %s_ingest is not paused, or that the connector runs.",
                    f"{message_count:,}", self._pipeline.topic, f"{_MAX_WAITING:,}", self._pipeline.name,
                )  # fmt: skip
            time.sleep(1)
