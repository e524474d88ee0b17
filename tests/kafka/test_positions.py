"""Where a group starts, by its committed offsets and the topic's id: with a client that answers from memory."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from include.kafka.clients import BrokerError
from include.kafka.positions import Gap, Start, commit, starting_offsets


class Client:
    """A group that has committed these offsets and metadata by partition, in a topic that reaches so far."""

    def __init__(self, committed: list[tuple[int, str]], reach: tuple[int, int]) -> None:
        self._committed, self._reach = committed, reach
        self.commits: list[tuple[int, str | None]] = []

    def committed(self, places, timeout):
        result = []
        for place, (offset, metadata) in zip(places, self._committed, strict=True):
            result.append(TopicPartition(place.topic, place.partition, offset, metadata))
        return result

    def get_watermark_offsets(self, place, timeout):
        return self._reach

    def commit(self, offsets, asynchronous):
        self.commits += [(place.offset, place.metadata) for place in offsets]
        return offsets


def start_of(client: Client, topic_id: str | None = "new", gaps: list[Gap] | None = None) -> Start | None:
    partitions = set(range(len(client._committed)))
    record = (lambda _: None) if gaps is None else gaps.extend
    return starting_offsets(client, "t", partitions, lambda: topic_id, record)  # ty: ignore[invalid-argument-type]


@pytest.mark.parametrize(
    ("committed", "begins"),
    [
        ([(5, "new"), (7, "new")], [5, 7]),
        ([(5, "old"), (7, "old")], [0, 0]),  # the topic was created again, and is longer than before
        ([(5, "old"), (7, "new")], [0, 7]),  # only one partition was committed since
        ([(5, ""), (7, "")], [5, 7]),  # by an earlier version, or by Kafka's tool
        ([(-1001, ""), (-1001, "")], [0, 0]),
    ],
)
def test_an_offset_of_a_topic_that_was_deleted_is_not_where_the_next_one_is_read_from(committed, begins):
    client = Client(committed, (0, 9))
    start = start_of(client)
    assert start == Start({("t", partition): begin for partition, begin in enumerate(begins)}, "new")
    assert client.commits == [(begin, "new") for begin in begins]


def test_what_the_new_topic_has_lost_is_recorded():
    gaps = []
    start = start_of(Client([(5, "old")], (3, 9)), gaps=gaps)
    assert start == Start({("t", 0): 3}, "new")
    assert gaps == [Gap("t", 0, 0, 3)]


def test_an_id_that_is_not_known_now_is_waited_for():
    client = Client([(5, "old")], (0, 9))
    assert (start_of(client, topic_id=None), client.commits) == (None, [])
    assert start_of(Client([(5, "")], (0, 9)), topic_id=None) == Start({("t", 0): 5}, None)  # a broker without ids


@pytest.mark.parametrize(("code", "is_waited_for"), [(KafkaError.REBALANCE_IN_PROGRESS, True), (29, False)])
def test_a_broker_that_does_not_give_the_id_now_is_waited_for(code, is_waited_for):
    def fails() -> str:
        raise BrokerError("the topic's id") from KafkaException(KafkaError(code))

    client = Client([(5, "old")], (0, 9))
    if is_waited_for:
        assert starting_offsets(client, "t", {0}, fails, lambda _: None) is None  # ty: ignore[invalid-argument-type]
    else:
        with pytest.raises(KafkaException):
            starting_offsets(client, "t", {0}, fails, lambda _: None)  # ty: ignore[invalid-argument-type]


def test_offsets_are_committed_with_the_topics_id():
    client = Client([], (0, 9))
    assert commit(client, {("t", 0): 4}, "new")  # ty: ignore[invalid-argument-type]
    assert client.commits == [(4, "new")]
