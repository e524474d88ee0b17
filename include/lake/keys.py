"""Where an event is in the lake: its minute, from its time-UUID, and its shard, from its id.

Every writer (import, ingest, another producer) must compute the same key, or one event becomes two rows.
"""

from __future__ import annotations

import hashlib
import re
import struct
import uuid
from datetime import datetime, timedelta
from functools import lru_cache

from include.durations import MICROSECOND

GREGORIAN_EPOCH = datetime(1582, 10, 15)  # time-UUIDs count steps of 100 ns from here
_TIME_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-1[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
# Multicast and locally administered (RFC 9562, 6.10): neither a network card's node nor the demo's has both bits.
_NO_CARD = 0x030000000000
_VERSION_1 = 0x1000
_RFC_4122, _NO_VARIANT = 0x8000_0000_0000_0000, 0x3FFF_FFFF_FFFF_FFFF
_PLAIN_ID = re.compile(r"[!-~]{1,100}")
_32_BITS = 0xFFFFFFFF
_MIX = 0x5BD1E995
_TICKS_PER_MINUTE = 600_000_000


class NotATimeUUID(ValueError):
    """A text that is not a version 1 UUID of the usual 36 characters."""


def parse(text: str) -> uuid.UUID:
    """The time-UUID written as `text`. Raises NotATimeUUID."""
    if not _TIME_UUID.fullmatch(text):
        raise NotATimeUUID(f"{text[:60]!r} is not a time-UUID (version 1, 36 characters)")
    return uuid.UUID(text)


def time_of(event_id: uuid.UUID) -> datetime:
    """The UTC time inside a time-UUID, truncated to microseconds."""
    return GREGORIAN_EPOCH + timedelta(microseconds=event_id.time // 10)


def minute_of(event_id: uuid.UUID) -> datetime:
    """The UTC minute inside a time-UUID."""
    return _minute(event_id.time // _TICKS_PER_MINUTE)


@lru_cache(maxsize=4096)  # events of one minute often follow each other
def _minute(minutes: int) -> datetime:
    return GREGORIAN_EPOCH + timedelta(minutes=minutes)


def time_uuid(time: datetime, identity: str) -> uuid.UUID:
    """The time-UUID of that UTC time, with its other bits from `identity`: an event always gets the same one."""
    ticks = (time - GREGORIAN_EPOCH) // MICROSECOND * 10
    identity_bits = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big")
    time_fields = (ticks & _32_BITS) << 96 | (ticks >> 32 & 0xFFFF) << 80 | (ticks >> 48 & 0x0FFF | _VERSION_1) << 64
    # Not with fields=, which checks each field: an import makes a UUID for every row.
    return uuid.UUID(int=time_fields | identity_bits & _NO_VARIANT | _RFC_4122 | _NO_CARD)


def short_id(event_id: str) -> str:
    """The id if it fits an origin key and is unambiguous; else its SHA-256, as Spark's sha2 writes it.

    A server that pads with spaces treats "7 " as "7", and a producer may send an id of any length.
    """
    return event_id if _PLAIN_ID.fullmatch(event_id) else hashlib.sha256(event_id.encode()).hexdigest()


def shard_of(event_id: str, shards: int) -> int:
    """The shard of an event: the partition that the default partitioner of Kafka's Java client picks for this key."""
    return (murmur2(event_id.encode()) & 0x7FFFFFFF) % shards


def murmur2(key: bytes) -> int:
    """Kafka's 32-bit murmur2 as a signed number (org.apache.kafka.common.utils.Utils.murmur2)."""
    length = len(key)
    state = (0x9747B28C ^ length) & _32_BITS
    word_bytes = length & ~3
    for word in struct.unpack_from(f"<{word_bytes // 4}I", key):
        word = word * _MIX & _32_BITS
        word = (word ^ (word >> 24)) * _MIX & _32_BITS
        state = (state * _MIX & _32_BITS) ^ word
    if word_bytes < length:
        state = (state ^ int.from_bytes(key[word_bytes:], "little")) * _MIX & _32_BITS
    state = (state ^ (state >> 13)) * _MIX & _32_BITS
    state ^= state >> 15
    return state - (1 << 32) if state & 0x80000000 else state
