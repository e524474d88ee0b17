"""Every writer to the lake computes the same key; otherwise one event would become two rows."""

import hashlib
import uuid
from datetime import datetime

import pytest

from include.demo.traffic import is_demo
from include.lake.keys import NotATimeUUID, minute_of, murmur2, parse, shard_of, short_id, time_of, time_uuid


@pytest.mark.parametrize(
    ("key", "hashed"),
    [  # the vectors of Kafka's own test of its murmur2 (UtilsTest)
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_kafkas(key, hashed):
    assert murmur2(key) == hashed


def test_the_shard_is_the_partition_of_kafkas_default_partitioner():
    assert shard_of("foobar", 4) == (-790332482 & 0x7FFFFFFF) % 4
    assert shard_of("abc", 4) == 479470107 % 4


def test_shards_share_the_load():
    result = [shard_of(str(uuid.UUID(int=number)), 4) for number in range(4_000)]
    assert all(900 < result.count(shard) < 1_100 for shard in range(4))


def test_time_and_minute_come_from_the_time_uuid():
    create_time = parse("0e207ccf-156b-11f1-aa17-1a2b3c4d5e6f")
    assert time_of(create_time) == datetime(2026, 3, 1, 12, 34, 56, 789012)
    assert minute_of(create_time) == datetime(2026, 3, 1, 12, 34)


def test_time_is_truncated_never_rounded_into_the_next_minute():
    assert uuid.UUID(fields=(0, 0, 0, 0, 0, 0), version=1).time == 0
    ticks = 600_000_000 - 1  # the last 100 ns of the first minute of time-UUIDs
    late = uuid.UUID(fields=(ticks & 0xFFFFFFFF, ticks >> 32, 0, 0, 0, 0), version=1)
    assert time_of(late) == datetime(1582, 10, 15, 0, 0, 59, 999999)
    assert minute_of(late) == datetime(1582, 10, 15)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-03-01 12:34:56",
        "4fb2a33c-7f3c-4d0b-9a8e-3a3f6d0c1b2a",  # version 4: random, no time in it
        "0e207ccf156b1 1f1aa171a2b3c4d5e6f",
        "{0e207ccf-156b-11f1-aa17-1a2b3c4d5e6f}",
    ],
)
def test_a_value_that_is_not_a_time_uuid_is_refused(text):
    with pytest.raises(NotATimeUUID):
        parse(text)


def test_upper_case_is_the_same_event():
    assert str(parse("0E207CCF-156B-11F1-AA17-1A2B3C4D5E6F")) == "0e207ccf-156b-11f1-aa17-1a2b3c4d5e6f"


def test_a_generated_time_uuid_has_its_time_and_is_the_same_only_for_the_same_event():
    time = datetime(2019, 11, 1, 0, 0, 1, 250_000)
    ids = [time_uuid(time, f"event {number}") for number in range(2_000)]
    assert {time_of(event_id) for event_id in ids} == {time}
    assert all(parse(str(event_id)) == event_id and event_id.variant == uuid.RFC_4122 for event_id in ids)
    assert len(set(ids)) == 2_000
    assert time_uuid(time, "event 7") == ids[7]
    assert time_uuid(time.replace(second=2), "event 7") != ids[7]


def test_a_generated_time_uuid_never_changes():
    """A different one would turn every row that was imported before into another event."""
    identity = time_uuid(datetime(2019, 11, 1, 0, 0, 1, 250_000), "event 7")
    rest = hashlib.sha256(b"event 7").digest()
    fields = (identity.time_low, identity.time_mid, identity.time_hi_version & 0x0FFF, rest[0], rest[1])
    node = int.from_bytes(rest[2:8], "big") | 0x030000000000
    assert identity == uuid.UUID(fields=(*fields, node), version=1)
    assert str(identity) == "8cd3bc20-fc3a-11e9-95e9-8fd480b8f8ba"


def test_a_generated_time_uuid_has_no_node_of_a_network_card_or_of_the_demo():
    nodes = {time_uuid(datetime(2019, 11, 1), f"event {number}").node for number in range(2_000)}
    assert all(node >> 40 & 0b11 == 0b11 for node in nodes)
    assert not is_demo(uuid.UUID(fields=(0, 0, 0, 0, 0, 0x6D6D64000000 | 0x030000000000), version=1))


@pytest.mark.parametrize("plain", ["order-7", "7", "2b02f8a4-5c7d-4c8e-9d53-0d4f3a3c1e11", "/", "x" * 100])
def test_a_plain_id_is_shown_as_it_is(plain):
    assert short_id(plain) == plain


@pytest.mark.parametrize("odd", ["7 ", " 7", "7\n", "", "größe", "x" * 101, "x" * 1_000_000])
def test_an_id_that_a_key_of_the_warehouse_cannot_distinguish_is_hashed(odd):
    assert short_id(odd) == hashlib.sha256(odd.encode()).hexdigest()
