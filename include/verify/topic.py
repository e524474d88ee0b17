"""Compares a topic with the lake: every message before the committed offset must be in the lake, or kept as rejected.

The committed offset is read first, and an offset is committed only when its message is safe: one read is enough, whatever
happens in between. Messages that retention removed cannot be read; messages after the committed offset are still waiting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

from include.connections import LAKE_READER, endpoint
from include.durations import EPOCH, MILLISECOND
from include.kafka import topics
from include.kafka.clients import TopicMissing
from include.kafka.dead_letters import original, parse_rejection, with_dead_letters
from include.kafka.ingest_mode import CONNECT, DEAD_LETTERS, group_of, ingest_mode
from include.kafka.messages import TopicEvents, key_of, with_topic_id
from include.lake import change_log
from include.lake.errors import explain
from include.lake.keys import minute_of, shard_of
from include.lake.presence import Presence
from include.lake.writer import Event, event_id
from include.pipelines import Pipeline
from include.progress_log import Bar
from include.verify.report import Finding
from include.warehouse import rejected

UNSTORED, EXPIRED, WAITING, UNREADABLE = "topic_unstored", "topic_expired", "topic_waiting", "topic_unreadable"
PURPOSES = {
    UNSTORED: "The group has committed past the message, but the message is neither in the lake nor kept as rejected.",
    EXPIRED: "Retention has removed messages that the group has not read.",
    UNREADABLE: "The lake has a partition that cannot be read, so it is unknown whether it has the messages.",
    WAITING: "Messages that were sent and are not committed yet: the topic's consumers read them next.",
}


@dataclass
class Tally:
    """Counts of messages; duplicates count as often as they were delivered. `missing` includes those that retention removed."""

    messages: int = 0
    in_lake: int = 0
    kept: int = 0  # among the rejected events
    missing: int = 0
    unreadable: int = 0  # messages in partitions of the lake that cannot be read
    closed: int = 0  # messages in closed minutes: the lake may no longer have them
    waiting: int = 0
    dead: int = 0  # in dead letters that are not consumed yet


class TopicCheck:
    """The check of one pipeline's topic; `tally` is filled while `findings` is iterated."""

    def __init__(self, pipeline: Pipeline, session, conn) -> None:
        self._pipeline, self._conn = pipeline, conn
        self._clock = change_log.clock(session)
        # Without retention: it is unknown whether an event's minute was closed when the event arrived.
        self._events = TopicEvents(replace(pipeline, lake_retention=None), self._clock)
        self._presence = Presence(session, pipeline)
        self._group = group_of(pipeline.name, ingest_mode())  # ty: ignore[invalid-argument-type]
        self._topic_id = topics.topic_id(pipeline.topic)
        self._dead_letters: set[str] = set()  # places of messages whose dead letters are not consumed yet
        self.tally = Tally()

    def findings(self, start: datetime | None = None, end: datetime | None = None) -> Iterator[Finding]:
        """Differences, and waiting messages. A range selects events by their minute, and other messages by their timestamp."""
        ranges = topics.offset_ranges(self._pipeline, self._group)
        consumer = "the connector" if ingest_mode() == CONNECT else f"{self._pipeline.name}_ingest"
        yield from self._offset_findings(self._pipeline, ranges, f"check that {consumer} runs")
        # Read after the offsets of the topic: a message before them has its dead letter by now.
        yield from self._dead_letter_findings()
        span = {number: (offsets.begin, offsets.committed or offsets.begin) for number, offsets in ranges.items()}
        if start:
            known = {number: until for number, (_, until) in span.items()}
            since = topics.offsets_from(self._pipeline, self._group, known, start)
            span = {number: (max(begin, since[number]), until) for number, (begin, until) in span.items()}
        total, done = sum(max(0, until - begin) for begin, until in span.values()), 0
        with Bar(f"{self._pipeline.name}: messages", total, unit="message") as bar:
            for chunk in topics.messages(self._pipeline, self._group, span):
                yield from self._chunk_findings(chunk, start, end)
                done += len(chunk)
                bar.at(min(done, total))

    def __str__(self) -> str:
        tally = self.tally
        closed = f", {tally.closed:,} in closed minutes" if tally.closed else ""
        unreadable = f", {tally.unreadable:,} in partitions that cannot be read" if tally.unreadable else ""
        dead = f", {tally.dead:,} in the dead-letter topic" if tally.dead else ""
        return (
            f"{self._pipeline.topic}, up to the committed offsets of {self._group}: {tally.messages:,} messages, "
            f"{tally.in_lake:,} in the lake, {tally.kept:,} rejected, {tally.missing:,} missing{unreadable}{closed}{dead}; "
            f"{tally.waiting:,} more are waiting."
        )

    def _offset_findings(
        self, pipeline: Pipeline, ranges: Mapping[int, topics.OffsetRange], check: str
    ) -> Iterator[Finding]:
        for partition, offsets in ranges.items():
            where = f"{pipeline.topic}/{partition}"
            if offsets.expired:
                self.tally.missing += offsets.expired
                remedy = "send the messages again, or import them; give the topic a longer retention"
                yield Finding(EXPIRED, None, where, {"offset": offsets.committed}, {"offset": offsets.begin}, remedy)
            if offsets.waiting:
                committed = offsets.begin if offsets.committed is None else offsets.committed
                remedy = f"{check}, and verify again"
                yield Finding(WAITING, None, where, {"offset": offsets.end}, {"offset": committed}, remedy)
            if pipeline is self._pipeline:
                self.tally.waiting += offsets.waiting

    def _dead_letter_findings(self) -> Iterator[Finding]:
        letters, group = with_dead_letters(self._pipeline), group_of(self._pipeline.name, DEAD_LETTERS)
        try:
            ranges = topics.offset_ranges(letters, group)
        except TopicMissing:
            if ingest_mode() == CONNECT:
                raise
            return  # the set-up of an earlier version did not create this topic
        consumer = "minutemark_dead_letters" if ingest_mode() == CONNECT else f"{self._pipeline.name}_ingest"
        yield from self._offset_findings(letters, ranges, f"check that {consumer} runs and the warehouse answers")
        span = {number: (max(offsets.begin, offsets.committed or 0), offsets.end) for number, offsets in ranges.items()}
        for chunk in topics.messages(letters, group, span):
            self._dead_letters.update(
                rejection.key if (rejection := parse_rejection(letter)) else key_of(original(letter))  # ty: ignore[invalid-argument-type]
                for letter in chunk
            )

    def _chunk_findings(self, chunk: list[Message], start: datetime | None, end: datetime | None) -> Iterator[Finding]:
        events: list[tuple[Message, Event]] = []
        others: list[tuple[Message, datetime | None]] = []
        for message in chunk:
            parsed = self._events.read(message)
            minute = minute_of(parsed.create_time) if isinstance(parsed, Event) else parsed.minute
            at = minute or (_timestamp(message) if start or end else None)
            if at and ((start and at < start) or (end and at >= end)):
                continue
            self.tally.messages += 1
            if isinstance(parsed, Event):
                events.append((message, parsed))
            else:
                others.append((message, minute))
        unreadable: list[tuple[list[Event], Exception]] = []
        missing = self._presence.absent(
            (event for _, event in events), lambda unread, error: unreadable.append((unread, error))
        )
        absent = {id(record) for record in missing}
        for events_of_partition, error in unreadable:
            yield self._unreadable_finding(events_of_partition, error)
        self.tally.in_lake += (
            len(events) - len(absent) - sum(len(events_of_partition) for events_of_partition, _ in unreadable)
        )
        # A message that was an event when it arrived may be too old to be one now, and vice versa.
        others += [(message, minute_of(event.create_time)) for message, event in events if id(event) in absent]
        keys = {id(record): {key_of(record), with_topic_id(key_of(record), self._topic_id)} for record, _ in others}
        kept = rejected.kept_keys(
            self._conn, self._pipeline, rejected.KAFKA, [key for variants in keys.values() for key in variants]
        )
        for message, minute in others:
            if keys[id(message)] & kept:
                self.tally.kept += 1
            elif keys[id(message)] & self._dead_letters:
                self.tally.dead += 1
            elif minute and self._pipeline.is_closed(minute, self._clock):
                self.tally.closed += 1
            else:
                self.tally.missing += 1
                yield self._unstored_finding(message, minute)

    def _unreadable_finding(self, events: list[Event], error: Exception) -> Finding:
        """The finding for a partition that cannot be read: one per chunk of messages."""
        self.tally.unreadable += len(events)
        minute = minute_of(events[0].create_time)
        shard = shard_of(event_id(self._pipeline, events[0]), self._pipeline.shards)
        where = f"{self._pipeline.lake_table}, partition (minute {minute}, shard {shard})"
        why = str(explain(error, endpoint(LAKE_READER)))
        return Finding(UNREADABLE, minute, where, {"messages": len(events)}, {"messages": "unreadable"}, why)

    def _unstored_finding(self, message: Message, minute: datetime | None) -> Finding:
        remedy = f"./minutemark ingest {self._pipeline.name} --again"
        return Finding(UNSTORED, minute, key_of(message), {"stored": 1}, {"stored": 0}, remedy)


def _timestamp(message: Message) -> datetime | None:
    """The message's timestamp, UTC; None if it has none. A producer may have set it to any number."""
    kind, milliseconds = message.timestamp()
    try:
        return None if kind == TIMESTAMP_NOT_AVAILABLE else EPOCH + milliseconds * MILLISECOND
    except OverflowError:
        return datetime.max
