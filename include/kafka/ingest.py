"""Ingest: writes a topic's events to the lake, and keeps messages that are not events as rejected events.

The DAGs `<pipeline>_ingest` and `./minutemark ingest` call this; with Kafka Connect, the DAG minutemark_dead_letters does so
for the messages that Connect's transform refused. A stream (include/stream) uses only `MessageStore`, `keep_dead_letters` and
`IngestSummary`. An offset is committed only when its message is safe: its event is in the lake and its minute in the change
log, or it is among the rejected events, or, while the warehouse is down or refuses writes, in the dead-letter topic. After a
kill the same messages are read again, and become the same rows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, Message

from include import pipelines
from include.connections import LAKE_WRITER, WAREHOUSE_ETL, Endpoint
from include.durations import EPOCH, MICROSECOND
from include.kafka import clients, topics
from include.kafka.clients import BrokerError, TopicMissing
from include.kafka.dead_letters import original, parse_rejection, send_to_dead_letters, with_dead_letters
from include.kafka.follow import follow
from include.kafka.ingest_mode import CONNECT, DAG, DEAD_LETTERS, dead_letters_of, group_of, ingest_mode
from include.kafka.messages import TopicEvents, origin_key, with_topic_id
from include.kafka.positions import Gap
from include.lake import change_log
from include.lake.admission import ClosedRows, Refused
from include.lake.schema import check_table
from include.lake.session import lake
from include.lake.writer import Event, EventWriter
from include.pipelines import Pipeline
from include.progress_log import Bar
from include.warehouse import rejected
from include.warehouse.errors import WarehouseError
from include.warehouse.session import warehouse

log = logging.getLogger(__name__)

# A minute, and the time that a successor may need to start before its predecessor ends.
FOLLOW_SECONDS = 90.0
_DEAD_LETTER_SECONDS = 30.0
_WAREHOUSE_RETRY_AFTER = 15.0  # seconds: each attempt to reach a server that is down may cost a timeout
# Seconds for each try: events wait meanwhile.
_LOCK_PATIENCE = "SET SESSION lock_wait_timeout = 2, innodb_lock_wait_timeout = 2"


@dataclass
class IngestSummary:
    """What one call ingested. Messages that are delivered twice count twice here, but become the same rows."""

    topic: str
    written: int = 0
    refused: int = 0
    dead_letters: int = 0  # refused, and in the dead-letter topic until the warehouse can keep them
    misplaced: int = 0  # events whose partition is not their shard
    minutes: set[datetime] = field(default_factory=set)
    closed: ClosedRows = field(default_factory=ClosedRows)
    taken_over: bool = False
    seconds: float = 0.0

    def __str__(self) -> str:
        lines = [
            f"{self.topic}: {self.written} events written, {len(self.minutes)} minutes touched, "
            f"{self.refused} messages rejected, {self.seconds:.1f} s."
        ]
        if self.taken_over:
            lines.append("The next follower has taken over.")
        if self.misplaced:
            lines.append(
                f"{self.misplaced} events were in a partition other than their shard's: their producer should choose the "
                "partition by murmur2 of the event's id (docs/deploy.md). They are in the right shard of the lake."
            )
        lines += self.closed.lines()
        if self.dead_letters:
            lines.append(
                f"{self.dead_letters} messages are in {dead_letters_of(self.topic)}, because the warehouse could not keep them. "
                "The next ingest keeps them as rejected events, once the warehouse accepts writes."
            )
        if self.refused:
            lines.append("Rejected messages and their reasons: ./minutemark rejected.")
        return "\n".join(lines)


def ingest(
    pipeline: Pipeline,
    open_consumer: Callable[[], Consumer],
    *,
    seconds: float = FOLLOW_SECONDS,
    to_the_end: bool = False,
    lake_writer: str | Endpoint = LAKE_WRITER,
) -> IngestSummary:
    """Follow the pipeline's topic for `seconds`, or to its end, or until a successor takes over.

    First, messages that earlier calls sent to the dead-letter topic are kept as rejected, if the warehouse accepts them.
    `open_consumer` returns a subscribed consumer, which is closed here. Raises BrokerError, LakeError.
    """
    kept = keep_dead_letters(pipeline, lake_writer)
    summary = _ingest(pipeline, open_consumer, seconds, to_the_end, lake_writer)
    summary.refused += kept
    return summary


def keep_dead_letters(pipeline: Pipeline, lake_writer: str | Endpoint = LAKE_WRITER) -> int:
    """Keep the messages of the dead-letter topic as rejected, if the warehouse accepts them; returns how many."""
    letters = with_dead_letters(pipeline)
    try:
        if topics.waiting(letters, group_of(pipeline.name, DEAD_LETTERS)):
            return ingest_dead_letters(pipeline, seconds=_DEAD_LETTER_SECONDS, lake_writer=lake_writer).refused
    except TopicMissing:
        pass  # an earlier version's set-up created no such topic, so there are no dead letters
    except (BrokerError, WarehouseError) as error:
        log.warning("Messages may be waiting in %s. %s", letters.topic, error)
    return 0


def _ingest(
    pipeline: Pipeline,
    open_consumer: Callable[[], Consumer],
    seconds: float,
    to_the_end: bool,
    lake_writer: str | Endpoint,
    *,
    are_dead_letters: bool = False,
) -> IngestSummary:
    summary, started = IngestSummary(pipeline.topic), time.monotonic()
    with lake(lake_writer) as session:
        store = MessageStore(pipeline, session, summary, are_dead_letters=are_dead_letters)
        with clients.translate_errors():
            consumer = open_consumer()  # only now, because joining fences the predecessor
        try:
            summary.taken_over = follow(
                consumer,
                pipeline.topic,
                store.store,
                store.record_gaps,
                lambda: time.monotonic() - started > seconds,
                lambda: change_log.write_clock(session),
                lambda: topics.topic_id(pipeline.topic),
                to_the_end=to_the_end,
            )
        finally:
            consumer.close()
    summary.seconds = time.monotonic() - started
    return summary


def ingest_dead_letters(
    pipeline: Pipeline,
    open_consumer: Callable[[], Consumer] | None = None,
    *,
    seconds: float = FOLLOW_SECONDS,
    lake_writer: str | Endpoint = LAKE_WRITER,
) -> IngestSummary:
    """Consume the dead-letter topic up to its end, for at most `seconds`: messages become rejected events.

    Connect's transform is stricter than this code: a message that is an event after all is written to the lake.
    `open_consumer` returns a consumer of that topic. Raises BrokerError, LakeError, WarehouseError.
    """
    letters = with_dead_letters(pipeline)
    open_consumer = open_consumer or (lambda: clients.follower(letters, DEAD_LETTERS))
    return _ingest(letters, open_consumer, seconds, True, lake_writer, are_dead_letters=True)


def ingest_again(pipeline: Pipeline) -> IngestSummary:
    """Ingest everything that the topic still holds, whatever is committed, and commit nothing. The rows stay the same."""
    summary, started = IngestSummary(pipeline.topic), time.monotonic()
    group = group_of(pipeline.name, DAG)
    with lake(LAKE_WRITER) as session:
        store, as_of = MessageStore(pipeline, session, summary), change_log.write_clock(session)
        # Read after the clock: a later version that a follower writes from now on has an offset beyond these, and is
        # not overwritten.
        span = {
            number: (offsets.begin, offsets.end) for number, offsets in topics.offset_ranges(pipeline, group).items()
        }
        total = sum(end - begin for begin, end in span.values())
        with Bar(f"{pipeline.topic} again", total, unit="message") as bar:
            for messages in topics.messages(pipeline, group, span):
                store.store(messages, as_of)
                bar.at(summary.written + summary.refused)
    summary.seconds = time.monotonic() - started
    return summary


class MessageStore:
    """Makes messages safe, chunk by chunk: writes events to the lake, and keeps the others as rejected with their reasons.

    While the warehouse is down or refuses writes, the others go to the dead-letter topic, so that they do not delay events.
    """

    def __init__(self, pipeline: Pipeline, session, summary: IngestSummary, *, are_dead_letters: bool = False) -> None:
        check_table(session, pipeline)
        self._pipeline = pipeline
        self._writer = EventWriter(session, pipeline)
        self._summary = summary
        self._are_dead_letters = are_dead_letters
        self._as_of = 0
        self._warehouse_retry_at = 0.0

    def store(self, messages: list[Message], as_of: int) -> None:
        """Store these messages; returns once each of them is safe.

        `as_of` is a time of the lake's write clock, at which no later version of their events had been written. It also
        decides which events are too far ahead or closed: a follower may run for days.
        """
        reader = TopicEvents(self._pipeline, EPOCH + as_of * MICROSECOND)
        rows: dict[int, list[Event | Refused]] = {}  # by write timestamp
        for message in messages:
            written_as_of, row = as_of, None
            if self._are_dead_letters:  # keeps its original place, and the time when it was refused
                row = parse_rejection(message)
                sent_as_of = row.as_of if row else None
                written_as_of = sent_as_of or min(as_of, _appended_at(message) or as_of)
                message = original(message)
            if row is None:
                row = reader.read(message)  # ty: ignore[invalid-argument-type]
            if isinstance(row, Event):
                self._summary.misplaced += reader.is_misplaced(message, row)  # ty: ignore[invalid-argument-type]
            rows.setdefault(written_as_of, []).append(row)
        refused, written = [], 0
        # Write timestamps rise from chunk to chunk, whichever node's clock was read: the later version wins.
        for written_as_of, same_time in sorted(rows.items()):
            self._as_of = max(written_as_of, self._as_of + 1)
            events = [row for row in same_time if isinstance(row, Event)]
            refused += [replace(row, as_of=self._as_of) for row in same_time if isinstance(row, Refused)]
            self._summary.minutes |= self._writer.write(events, as_of=self._as_of).minutes
            written += len(events)
        self._keep(refused)
        self._summary.written += written

    def record_gaps(self, gaps: list[Gap]) -> None:
        """Keep each gap as one rejected event, at its first offset."""
        self._keep([_refuse_gap(gap) for gap in gaps])

    def _keep(self, refused: list[Refused]) -> None:
        if not refused:
            return  # the warehouse is not needed, and may be down
        self._summary.closed.add(refused)
        refused = _with_topic_ids(refused)
        if time.monotonic() < self._warehouse_retry_at:
            self._send_to_dead_letters(refused)
            return
        try:
            with warehouse(WAREHOUSE_ETL) as conn:
                conn.cursor().execute(_LOCK_PATIENCE)
                rejected.keep(conn, self._pipeline, rejected.KAFKA, refused)
        except WarehouseError as error:
            if self._are_dead_letters:
                raise  # the dead letters stay in their topic
            log.warning("Messages that are not events go to the dead-letter topic. %s", error)
            try:
                self._send_to_dead_letters(refused)
            except BrokerError as refusal:
                raise BrokerError(f"{refusal} The warehouse cannot keep them either. {error}") from error
            self._warehouse_retry_at = time.monotonic() + _WAREHOUSE_RETRY_AFTER
        else:
            self._summary.refused += len(refused)

    def _send_to_dead_letters(self, refused: list[Refused]) -> None:
        send_to_dead_letters(self._pipeline, refused)
        self._summary.dead_letters += len(refused)


def _appended_at(message: Message) -> int | None:
    """When the broker appended the message, in microseconds since 1970; None if the topic keeps the producer's time."""
    kind, milliseconds = message.timestamp()
    return milliseconds * 1_000 if kind == TIMESTAMP_LOG_APPEND_TIME else None


def _with_topic_ids(refused: list[Refused]) -> list[Refused]:
    """The rows with the topic's id in their keys: a recreated topic of the same name has another id."""
    ids = {topic: topics.topic_id(topic) for topic in {row.key.split("/", 1)[0] for row in refused} if "@" not in topic}
    return [replace(row, key=with_topic_id(row.key, ids.get(row.key.split("/", 1)[0]))) for row in refused]


def _refuse_gap(gap: Gap) -> Refused:
    count = gap.end - gap.first
    log.error(
        "Retention removed %s messages of %s, partition %s, before they were read.", count, gap.topic, gap.partition
    )
    return Refused(
        origin_key(gap.topic, gap.partition, gap.first),
        f"the topic's retention removed messages before they were read: {count} from offset {gap.first} on",
        f'{{"line": "offsets {gap.first} to {gap.end - 1}"}}',
    )


def consume(pipeline: str, seconds: float | None = None, again: bool = False) -> IngestSummary:
    """Consume the topic of a declared pipeline; see `consume_topic`."""
    return consume_topic(pipelines.get(pipeline), seconds, again=again)


def consume_topic(pipeline: Pipeline, seconds: float | None = None, *, again: bool = False) -> IngestSummary:
    """Consume the topic up to its end, or for `seconds`; with `again`, everything that it still holds.

    With Kafka Connect, and without `again`, consume the dead-letter topic instead, up to its end, for at most
    `seconds`.
    """
    limit = float("inf") if seconds is None else seconds
    if again:
        return ingest_again(pipeline)
    if ingest_mode() == CONNECT:  # Connect consumes the topic itself
        return ingest_dead_letters(pipeline, seconds=limit)
    return ingest(pipeline, lambda: clients.follower(pipeline), seconds=limit, to_the_end=seconds is None)
