"""Finds ids with more than one create_time: they count as two events, although the producer meant one.

It keeps twelve bytes for each event, so that a month of a shop's events fits in memory.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from include.durations import EPOCH, MINUTE
from include.pipelines import Pipeline
from include.verify.report import Finding

if TYPE_CHECKING:
    from cassandra.cluster import Session

ID_TWICE = "lake_id_twice"
PURPOSE = "One id has two create_times, so it counts twice."
_BUCKETS = 256


class Identities:
    """The ids that were read, each with its minute. Add each event once."""

    def __init__(self) -> None:
        self._ids = [array("Q") for _ in range(_BUCKETS)]
        self._minutes = [array("i") for _ in range(_BUCKETS)]  # since 1970, and negative before

    def add(self, minute: datetime, event_id: str) -> None:
        digest = _digest(event_id)
        self._ids[digest % _BUCKETS].append(digest)
        self._minutes[digest % _BUCKETS].append((minute - EPOCH) // MINUTE)

    def _repeated_digests(self) -> tuple[set[int], set[datetime]]:
        """The digests that occur more than once, and all their minutes."""
        digests, minutes = set(), set()
        for ids, minutes_of_ids in zip(self._ids, self._minutes, strict=True):
            seen: set[int] = set()
            repeated = {digest for digest in ids if digest in seen or seen.add(digest)}  # ty: ignore[redundant-condition]  # `add` returns None
            digests |= repeated
            minutes |= {minute for digest, minute in zip(ids, minutes_of_ids, strict=True) if digest in repeated}
        return digests, {EPOCH + minute * MINUTE for minute in minutes}

    def findings(
        self, session: Session, pipeline: Pipeline, unreadable: Collection[tuple[datetime, int]] = ()
    ) -> Iterator[Finding]:
        """The ids with several create_times, read from the lake again; `unreadable` partitions are left out."""
        query = session.prepare(
            f"SELECT {pipeline.event_id}, create_time FROM {pipeline.lake_table} WHERE minute = ? AND shard = ?"
        )
        digests, minutes = self._repeated_digests()
        places: dict[str, list] = defaultdict(list)
        for minute in sorted(minutes):
            for shard in range(pipeline.shards):
                if (minute, shard) in unreadable:
                    continue
                for event_id, create_time in session.execute(query, (minute, shard)):
                    if _digest(event_id) in digests:
                        places[event_id].append((minute, create_time))
        yield from (
            _finding(pipeline, event_id, places_of_id)
            for event_id, places_of_id in places.items()
            if len(places_of_id) > 1
        )


def _digest(event_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(event_id.encode(), digest_size=8).digest(), "big")


def _finding(pipeline: Pipeline, event_id: str, places: list) -> Finding:
    (_, first), *others = sorted(places, key=lambda place: place[1].time)
    return Finding(
        ID_TWICE,
        others[0][0],
        f"{pipeline.event_id} {event_id[:100]!r}",
        {"create_time": str(first)},
        {"create_time": ", ".join(str(create_time) for _, create_time in others)},
        "only the producer knows which row is the event: an event keeps its create_time when it is sent again. Delete the "
        f"other row from {pipeline.lake_table} and touch its minute",
    )
