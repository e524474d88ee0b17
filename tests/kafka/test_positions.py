"""Where a group starts, given its committed offsets and the topic's id, on a real broker."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import NewTopic

from include.kafka import clients
from include.kafka.clients import BrokerError
from include.kafka.positions import Gap, Start, commit, starting_offsets
from tests.kafka.conftest import until

MESSAGES = 9  # in each partition


class Group:
    """A group with its own topic of two partitions."""

    def __init__(self) -> None:
        self.topic = f"positions_{secrets.token_hex(6)}"
        self.admin = clients.admin()
        self.admin.create_topics([NewTopic(self.topic, num_partitions=2)])[self.topic].result(30)
        producer = Producer(clients.settings())
        for partition in (0, 1):
            for number in range(MESSAGES):
                producer.produce(self.topic, str(number), partition=partition)
        producer.flush(30)
        self.consumer = Consumer({**clients.settings(), "group.id": self.topic, "enable.auto.commit": False})
        until(lambda: self.consumer.get_watermark_offsets(TopicPartition(self.topic, 1)) == (0, MESSAGES))

    def commit(self, *committed: tuple[int, str]) -> None:
        """Commit these offsets and metadata, one for each partition."""
        places = [TopicPartition(self.topic, number, *place) for number, place in enumerate(committed)]
        self.consumer.commit(offsets=places, asynchronous=False)

    def remove_before(self, offset: int) -> None:
        """Remove the first messages of partition 0, as retention does."""
        self.admin.delete_records([TopicPartition(self.topic, 0, offset)])[TopicPartition(self.topic, 0)].result(30)

    @property
    def committed(self) -> list[tuple[int, str | None]]:
        places = [TopicPartition(self.topic, number) for number in (0, 1)]
        return [(place.offset, place.metadata) for place in self.consumer.committed(places, timeout=30)]

    def start(self, read_topic_id: Callable[[], str | None] = lambda: "new", gaps: list[Gap] | None = None):
        record = (lambda _: None) if gaps is None else gaps.extend
        return starting_offsets(self.consumer, self.topic, {0, 1}, read_topic_id, record)

    def offsets(self, *offsets: int) -> dict[tuple[str, int], int]:
        return {(self.topic, partition): offset for partition, offset in enumerate(offsets)}


@pytest.fixture
def group(kafka_broker) -> Iterator[Group]:
    group = Group()
    yield group
    group.consumer.close()


@pytest.mark.parametrize(
    ("committed", "begins"),
    [
        ([(5, "new"), (7, "new")], [5, 7]),
        ([(5, "old"), (7, "old")], [0, 0]),  # the topic was created again, and is longer than before
        ([(5, "old"), (7, "new")], [0, 7]),  # only one partition has been committed since then
        ([(5, ""), (7, "")], [5, 7]),  # committed by an earlier version, or by Kafka's tool
        ([], [0, 0]),
    ],
)
def test_a_recreated_topic_is_not_read_from_the_offsets_of_the_deleted_one(group, committed, begins):
    if committed:
        group.commit(*committed)
    assert group.start() == Start(group.offsets(*begins), "new")
    assert group.committed == [(begin, "new") for begin in begins]


def test_messages_that_the_new_topic_has_lost_are_recorded(group):
    group.commit((5, "old"), (7, "new"))
    group.remove_before(3)
    gaps = []
    assert group.start(gaps=gaps) == Start(group.offsets(3, 7), "new")
    assert gaps == [Gap(group.topic, 0, 0, 3)]


def test_a_group_waits_for_a_topic_id_that_is_not_known_yet(group):
    group.commit((5, "old"), (7, "old"))
    assert group.start(lambda: None) is None
    assert group.committed == [(5, "old"), (7, "old")]


def test_without_topic_ids_a_group_starts_at_its_offsets(group):
    group.commit((5, ""), (7, ""))
    assert group.start(lambda: None) == Start(group.offsets(5, 7), None)


@pytest.mark.parametrize(
    ("code", "is_waited_for"),
    [(KafkaError.REBALANCE_IN_PROGRESS, True), (KafkaError.TOPIC_AUTHORIZATION_FAILED, False)],
)
def test_a_group_waits_for_a_broker_that_cannot_return_the_id_yet(group, code, is_waited_for):
    def fails() -> str:
        raise BrokerError("the topic's id") from KafkaException(KafkaError(code))

    if is_waited_for:
        assert group.start(fails) is None
    else:
        with pytest.raises(KafkaException):
            group.start(fails)


def test_offsets_are_committed_with_the_topics_id(group):
    assert commit(group.consumer, group.offsets(4, 2), "new")
    assert group.committed == [(4, "new"), (2, "new")]
