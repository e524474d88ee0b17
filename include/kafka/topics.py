"""The pipelines' topics: creates them with a partition for each shard, measures their offsets, and reads their messages again."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic

from include.kafka import clients
from include.kafka.clients import BrokerError, admin, reader, translate_errors, watermarks
from include.kafka.follow import gather, partitions_of
from include.kafka.ingest_mode import dead_letters_of
from include.pipelines import Pipeline, all_pipelines

log = logging.getLogger(__name__)

_PATIENCE = 30.0  # seconds without an expected message
# A dead letter keeps its message's timestamp, by which a broker would soon remove it. Headers make it longer than the message.
_DEAD_LETTER_SETTINGS = {
    "message.timestamp.type": "LogAppendTime",
    "max.message.bytes": "16777216",  # dead_letters.LONGEST
}
_FOREVER = 100 * 365 * 86_400_000  # ms


class TopicMismatch(BrokerError):
    """A topic that is not what its pipeline needs."""


@dataclass(frozen=True)
class OffsetRange:
    """Offsets of a partition: its first message, what its group has committed (None: nothing, so it reads all), and its end."""

    begin: int
    committed: int | None
    end: int
    is_empty: bool = False  # nothing but control records and aborted messages follows the committed offset

    @property
    def waiting(self) -> int:
        """Offsets that the group has not read; 0 if none of them is a message."""
        return 0 if self.is_empty else self.end - max(self.begin, self.committed or 0)

    @property
    def expired(self) -> int:
        """Offsets that left the topic before the group read them."""
        return 0 if self.committed is None else max(0, self.begin - self.committed)


@dataclass(frozen=True)
class Limits:
    """How far a message's timestamp may be from now; None: no limit."""

    behind: timedelta | None = None  # older ones may be removed before they are read
    ahead: timedelta | None = None  # later ones are refused


def make_topics(pipelines: Iterable[Pipeline] | None = None) -> None:
    """Create the missing topics, by default of all pipelines, with the broker's default replication.

    Each pipeline has a dead-letter topic, which gets its settings even if Connect created it. Other topics stay unchanged.
    Raises BrokerError.
    """
    with translate_errors():
        client = admin()
        existing = client.list_topics(timeout=clients.TIMEOUT).topics
        new_topics, existing_letters = [], []
        for pipeline in all_pipelines().values() if pipelines is None else pipelines:
            if pipeline.topic in existing:
                _warn_of_other_partitions(pipeline, len(existing[pipeline.topic].partitions))
            else:
                new_topics.append(NewTopic(pipeline.topic, num_partitions=pipeline.shards))
            letters = dead_letters_of(pipeline.topic)
            if letters in existing:
                existing_letters.append(letters)
            else:
                new_topics.append(NewTopic(letters, num_partitions=1, config=_DEAD_LETTER_SETTINGS))
        for topic, future in (client.create_topics(new_topics) if new_topics else {}).items():
            try:
                future.result()
            except KafkaException as error:  # another set-up created it after the list was read
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
            log.info("Topic %s is ready.", topic)
        _configure_dead_letters(client, existing_letters)


def _configure_dead_letters(client: AdminClient, letters: list[str]) -> None:
    """Give these topics the settings of dead letters; logs a warning if the account has no permission to alter them."""
    entries = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        for name, value in _DEAD_LETTER_SETTINGS.items()
    ]
    resources = [ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=entries) for topic in letters]
    if not resources:
        return
    for resource, future in client.incremental_alter_configs(resources, request_timeout=clients.TIMEOUT).items():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise
            settings = ", ".join(f"{name}={value}" for name, value in _DEAD_LETTER_SETTINGS.items())
            log.warning(
                "This account has no permission to alter topic %s. Set this on the topic: %s.", resource.name, settings
            )


def _warn_of_other_partitions(pipeline: Pipeline, partitions: int) -> None:
    if partitions == pipeline.shards:
        return
    log.warning(
        "Topic %s has %s partitions and %s has %s shards: the partition of an event should be its shard. Create a topic with "
        "one partition for each shard, and declare it as `topic`. Events reach their shard all the same.",
        pipeline.topic,
        partitions,
        pipeline.lake_table,
        pipeline.shards,
    )


def check_topic(pipeline: Pipeline) -> None:
    """Check that the topic has a partition for every shard. Raises BrokerError, or TopicMismatch."""
    with translate_errors():
        partitions = len(partitions_of(admin(), pipeline.topic))
    if partitions < pipeline.shards:
        raise TopicMismatch(
            f"Topic {pipeline.topic} has {partitions} partitions and {pipeline.lake_table} has {pipeline.shards} shards: an "
            "event goes to the partition of its shard. Create a topic with one partition for each shard, and declare it as "
            "`topic`."
        )


def limits_of(pipeline: Pipeline) -> Limits:
    """Which timestamps the topic accepts. No limits if they cannot be read, for example without permission."""
    client = admin()  # the client must exist until the answer has arrived
    try:
        resource = ConfigResource(ConfigResource.Type.TOPIC, pipeline.topic)
        (answer,) = client.describe_configs([resource], request_timeout=clients.TIMEOUT).values()
        settings = answer.result()
    except KafkaException as error:
        log.warning("Cannot read the limits of topic %s: %s", pipeline.topic, error.args[0].str())
        return Limits()
    return Limits(*(_limit(settings.get(name)) for name in ("retention.ms", "message.timestamp.after.max.ms")))


def _limit(entry) -> timedelta | None:
    milliseconds = int(entry.value) if entry else -1
    return timedelta(milliseconds=milliseconds) if 0 <= milliseconds < _FOREVER else None


def topic_id(topic: str, client: AdminClient | None = None) -> str | None:
    """The id that Kafka gave the topic when it was created; None without a topic or an id. Raises BrokerError."""
    client = client or admin()  # the client must exist until the answer has arrived
    with translate_errors():
        try:
            descriptions = client.describe_topics(TopicCollection([topic]), request_timeout=clients.TIMEOUT)
            description = descriptions[topic].result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
            return None
    number = str(description.topic_id or "").rstrip("=").translate(str.maketrans("+/", "-_"))
    return number if number.strip("A") else None  # all zeros: the broker is older than topic ids


def has_members(group: str) -> bool:
    """Whether a consumer has joined the group; one that was killed leaves it after 45 s. Raises BrokerError."""
    client = admin()  # the client must exist until the answer has arrived
    with translate_errors():
        return bool(client.describe_consumer_groups([group], request_timeout=clients.TIMEOUT)[group].result().members)


def waiting(pipeline: Pipeline, group: str) -> int:
    """Offsets that the group has not read, including those of control records. Raises BrokerError."""
    with reader(group) as client:
        return sum(offsets.waiting for offsets in offset_ranges_of(client, pipeline).values())


def offset_ranges(pipeline: Pipeline, group: str) -> dict[int, OffsetRange]:
    """Each partition of the topic, with what that group has committed. Raises BrokerError."""
    with reader(group) as client:
        range_by_partition = offset_ranges_of(client, pipeline)
        empty_partitions = _empty_partitions(
            client, pipeline, {number: offsets for number, offsets in range_by_partition.items() if offsets.waiting}
        )
    return {
        number: replace(offsets, is_empty=number in empty_partitions) for number, offsets in range_by_partition.items()
    }


def _empty_partitions(client: Consumer, pipeline: Pipeline, ranges: Mapping[int, OffsetRange]) -> set[int]:
    """The partitions that have no message after the committed offset, only control records or aborted messages."""
    if not ranges:
        return set()
    starts = {number: max(offsets.begin, offsets.committed or 0) for number, offsets in ranges.items()}
    client.assign([TopicPartition(pipeline.topic, number, offset) for number, offset in starts.items()])
    at_end: set[int] = set()
    with_messages: set[int] = set()
    deadline = time.monotonic() + clients.TIMEOUT
    while at_end | with_messages < set(ranges) and time.monotonic() < deadline:
        with_messages |= {message.partition() for message in gather(client, at_end).messages}  # ty: ignore[unsupported-operator]
    client.unassign()
    return at_end - with_messages


def offset_ranges_of(client: Consumer, pipeline: Pipeline) -> dict[int, OffsetRange]:
    """Like `offset_ranges`, with an open reader; control records count as waiting. Reads committed offsets before the ends."""
    partitions = [TopicPartition(pipeline.topic, number) for number in sorted(partitions_of(client, pipeline.topic))]
    ranges = {}
    for committed in client.committed(partitions, timeout=clients.TIMEOUT):
        begin, end = watermarks(client, TopicPartition(committed.topic, committed.partition))
        # If the partition ends before the committed offset, its group reads all of it (include/kafka/positions.py).
        is_valid = 0 <= committed.offset <= end
        ranges[committed.partition] = OffsetRange(begin, committed.offset if is_valid else None, end)
    return ranges


def offsets_from(pipeline: Pipeline, group: str, partitions: Mapping[int, int], since: datetime) -> dict[int, int]:
    """The offset of each partition's first message at that time (UTC) or later, or else its end in `partitions`."""
    moment = max(0, int(since.replace(tzinfo=UTC).timestamp() * 1000))  # brokers refuse times before 1970
    places = [TopicPartition(pipeline.topic, partition, moment) for partition in partitions]
    with reader(group) as client:
        offsets = client.offsets_for_times(places, timeout=clients.TIMEOUT)
    return {place.partition: place.offset if place.offset >= 0 else partitions[place.partition] for place in offsets}


def messages(pipeline: Pipeline, group: str, span: Mapping[int, tuple[int, int]]) -> Iterator[list[Message]]:
    """The messages of each partition from one offset to another (excluded), chunk by chunk; nothing is committed."""
    ends = {partition: end for partition, (begin, end) in span.items() if begin < end}
    with reader(group) as client:
        client.assign([TopicPartition(pipeline.topic, partition, span[partition][0]) for partition in ends])
        progress_at, at_end = time.monotonic(), set()
        while ends:
            chunk = gather(client, at_end)
            if chunk.ends:
                progress_at = time.monotonic()
            elif time.monotonic() - progress_at > _PATIENCE:
                raise BrokerError(
                    f"Topic {pipeline.topic}: no message arrived for {_PATIENCE:.0f} s. Read the broker's log."
                )
            in_span = [message for message in chunk.messages if message.offset() < ends.get(message.partition(), 0)]  # ty: ignore[unsupported-operator]
            # Partitions whose end is reached are finished too: their last offsets may be control records, which no reader gets.
            finished = {number for (_, number), end in chunk.ends.items() if end >= ends.get(number, 0)} | at_end
            if places := [TopicPartition(pipeline.topic, number) for number in finished if number in ends]:
                client.pause(places)
            if in_span:
                yield in_span
            for partition in finished:
                ends.pop(partition, None)
