"""Checks which events the lake has, by the whole key and without reading payloads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from include.lake.counts import answers_of
from include.lake.errors import is_partition_error
from include.lake.keys import minute_of, shard_of, time_of
from include.lake.writer import Event, event_id
from include.pipelines import Pipeline

if TYPE_CHECKING:
    from cassandra.cluster import Session


class Presence:
    """Looks up events in one lake table; the query is prepared once."""

    def __init__(self, session: Session, pipeline: Pipeline) -> None:
        self._session = session
        self._pipeline = pipeline
        # Between two times, not ids: Cassandra and Python order time-UUIDs of one instant differently.
        self._query = session.prepare(
            f"SELECT create_time, {pipeline.event_id} AS identity FROM {pipeline.lake_table} WHERE minute = ? AND shard = ? "
            "AND create_time >= minTimeuuid(?) AND create_time <= maxTimeuuid(?)"
        )

    def absent(
        self, events: Iterable[Event], on_unreadable: Callable[[list[Event], Exception], object] | None = None
    ) -> list[Event]:
        """The events that have no row.

        `on_unreadable` gets the events of each partition that cannot be read, and the driver's error. Without it the error is
        raised.
        """
        events_by_partition: dict[tuple[datetime, int], list[Event]] = defaultdict(list)
        for event in events:
            shard = shard_of(event_id(self._pipeline, event), self._pipeline.shards)
            events_by_partition[minute_of(event.create_time), shard].append(event)
        binds = [(*key, *_span(events_of_key)) for key, events_of_key in events_by_partition.items()]
        missing = []
        for events_of_key, (_, answer) in zip(
            events_by_partition.values(), answers_of(self._session, self._query, binds), strict=True
        ):
            try:
                present = {(create_time, str(identity or "")) for create_time, identity in answer()}
            except Exception as error:
                if on_unreadable is None or not is_partition_error(error):
                    raise
                on_unreadable(events_of_key, error)
                continue
            missing += [candidate for candidate in events_of_key if self.key_of(candidate) not in present]
        return missing

    def key_of(self, event: Event) -> tuple[UUID, str]:
        """The event's key within its partition: create_time and id."""
        return event.create_time, event_id(self._pipeline, event)


def _span(events: list[Event]) -> tuple[datetime, datetime]:
    times = [time_of(event.create_time) for event in events]
    return min(times), max(times)
