"""Sends demo events as a busy site would: spread over the minute, some late, some twice, some broken.

They go to the pipeline's topic if an ingest mode is set, now and then with a message that is not an event; else straight
to the lake.
"""

from __future__ import annotations

import contextlib
import importlib
import ipaddress
import logging
import random
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import ModuleType
from typing import TYPE_CHECKING

from include.connections import KAFKA, LAKE_WRITER, WAREHOUSE_ETL, endpoint
from include.demo import EVENTS_PER_MINUTE
from include.durations import MICROSECOND, MINUTE, minute_floor, utc_now
from include.kafka.ingest_mode import ingest_mode
from include.lake.keys import GREGORIAN_EPOCH
from include.lake.session import lake
from include.lake.writer import Event, EventWriter
from include.pipelines import Dimension, Pipeline
from include.warehouse.session import column, read, warehouse
from include.warehouse.statements import Statements

sql = Statements(__file__)

if TYPE_CHECKING:
    from include.kafka.producer import EventProducer

log = logging.getLogger(__name__)

# This machine, and the containers of docker-compose.override.yml.
OWN_HOSTS = {"localhost", "cassandra", "mysql", "kafka"}
SLICE = 0.5  # seconds between two writes
_MARGIN = timedelta(seconds=0.5)  # before the end of the minute
# The upper half of the node in every id that the demo makes. No network card has an odd first octet.
_NODE = 0x6D6D64
_LAG_LIMITS = MINUTE, timedelta(minutes=30)
_POISON = (
    b'{"create_time": "2026-',  # cut off
    b'["create_time", "custom_track"]',
    b'{"custom_track": "click", "ev": "2"}',  # no id
    b'{"create_time": "yesterday", "ev": "1"}',
    b"\xff\xfe\x00",
    None,
)


class NoDemo(LookupError):
    """A pipeline without a module in include/demo."""


@dataclass
class Summary:
    """What one call of run_traffic sent. `events` are distinct ones; duplicates are counted separately."""

    events: int = 0
    late: int = 0
    broken: int = 0
    duplicates: int = 0
    poison: int = 0
    seconds: float = 0.0
    furthest_behind: float = 0.0  # seconds by which the slowest slice was late
    minutes: set[datetime] = field(default_factory=set)

    def __str__(self) -> str:
        return (
            f"{self.events} events ({self.late} late, {self.broken} broken), {self.duplicates} duplicates and "
            f"{self.poison} poison messages in {self.seconds:.1f} s; {len(self.minutes)} minutes touched, at most "
            f"{self.furthest_behind:.2f} s behind"
        )


def demo_of(pipeline: Pipeline) -> ModuleType:
    """The module that generates events of this pipeline. Raises NoDemo."""
    name = f"include.demo.{pipeline.name}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise NoDemo(f"Pipeline {pipeline.name} has no demo traffic: write include/demo/{pipeline.name}.py.") from None


def is_demo(event_id: uuid.UUID) -> bool:
    """Whether the demo made this event: only its ids have this node."""
    return event_id.node >> 24 == _NODE


def ticks_of(time: datetime) -> int:
    """Ticks of 100 ns since 1582, as time-UUIDs count."""
    return (time - GREGORIAN_EPOCH) // MICROSECOND * 10


def demo_id(ticks: int, node: int = 0, sequence: int = 0) -> uuid.UUID:
    """A time-UUID of the demo; `node` is the lower half of its node. Node 0 is that of past events."""
    time_fields = ticks & 0xFFFFFFFF, (ticks >> 32) & 0xFFFF, (ticks >> 48) & 0x0FFF
    return uuid.UUID(fields=(*time_fields, sequence >> 8, sequence & 0xFF, _NODE << 24 | node), version=1)


def foreign_hosts() -> list[str]:
    """Hosts of the lake, the warehouse and the broker that are not the demo's own: real events may be there."""
    hosts = [host for conn_id in (LAKE_WRITER, WAREHOUSE_ETL) for host in endpoint(conn_id).host.split(",")]
    if ingest_mode():
        brokers = endpoint(KAFKA).extra.get("bootstrap.servers", "").split(",")
        hosts += [broker.strip().rpartition(":")[0] for broker in brokers]
    return sorted(host for host in {host.strip() for host in hosts} - OWN_HOSTS if not _is_loopback(host))


def _is_loopback(host: str) -> bool:
    """Whether a host is a loopback address; a rehearsed cluster has a different one for each node."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def run_traffic(
    pipeline: Pipeline,
    *,
    events: int = EVENTS_PER_MINUTE,
    seconds: float = 58,
    late: float = 0.01,
    duplicate: float = 0.01,
    broken: float = 0.005,
    poison: float = 0.001,
    seed: int | None = None,
    until: datetime | None = None,
    conn_id: str = LAKE_WRITER,
) -> Summary:
    """Send `events` events over the next `seconds`, and stop at `until` (UTC), by default the end of this minute.

    If it starts late, it sends the same number of events in the time that is left. `late`, `duplicate`, `broken` and `poison`
    are shares of 1: late events come from a sender that was offline, so that all late events of a call are equally late, 1 to
    30 minutes; a duplicate is the same event again within seconds; a poison message is not an event, and is sent in
    addition, to a topic only.
    """
    demo, rng, summary = demo_of(pipeline), random.Random(seed), Summary()
    ids = _TimeUUIDs()
    lag = timedelta(seconds=rng.uniform(*(limit.total_seconds() for limit in _LAG_LIMITS)))
    queue: list[tuple[int, Event]] = []  # duplicates, each with the number of the slice that sends it
    started, now = time.monotonic(), utc_now()
    until = until or minute_floor(now) + MINUTE
    duration = min(seconds, (until - _MARGIN - now).total_seconds())
    if duration <= 0:
        log.warning("No time is left before %s UTC: nothing sent.", until)
        return summary
    with writer_of(pipeline, conn_id) as writer:
        slices = max(1, int(duration / SLICE))
        for number in range(slices):
            due = started + duration * (number + 1) / slices
            time.sleep(max(0.0, due - time.monotonic()))
            summary.furthest_behind = max(summary.furthest_behind, time.monotonic() - due)
            share = events * (number + 1) // slices - events * number // slices
            new_events = list(_events(demo, rng, ids, share, late, lag, broken, summary))
            repeats = [event for when, event in queue if when <= number]
            queue = [(when, event) for when, event in queue if when > number]
            queue += [(number + rng.randint(1, 6), event) for event in new_events if rng.random() < duplicate]
            summary.minutes |= writer.write(new_events + repeats).minutes
            summary.events += len(new_events)
            summary.duplicates += len(repeats)
            if ingest_mode():
                summary.poison += _send_poison(writer, pipeline, rng, sum(rng.random() < poison for _ in new_events))  # ty: ignore[invalid-argument-type]  # with an ingest mode it is a producer
        repeats = [event for _, event in queue]
        writer.write(repeats)
        summary.duplicates += len(repeats)
    summary.seconds = time.monotonic() - started
    log.info("Demo traffic of %s: %s", pipeline.name, summary)
    return summary


@contextlib.contextmanager
def writer_of(pipeline: Pipeline, conn_id: str) -> Iterator[EventWriter | EventProducer]:
    """A writer to the topic if an ingest mode is set, else to the lake."""
    if ingest_mode():
        from include.kafka.producer import producer

        with producer(pipeline) as writer:
            yield writer
    else:
        with lake(conn_id) as session:
            yield EventWriter(session, pipeline)


def _send_poison(writer: EventProducer, pipeline: Pipeline, rng: random.Random, count: int) -> int:
    for _ in range(count):
        writer.send(rng.choice(_POISON), rng.randrange(pipeline.shards))
    return count


def import_demo_dimensions(pipeline: Pipeline, conn_id: str = WAREHOUSE_ETL) -> int:
    """Import the demo's dimension rows that the warehouse does not have yet; returns their number."""
    from include.warehouse.dimensions import import_dimension

    dimension_by_name: dict[str, Dimension] = {dimension.name: dimension for dimension in pipeline.dimensions}
    count = 0
    with warehouse(conn_id) as conn:
        for name, rows in demo_of(pipeline).dimension_rows().items():
            dimension = dimension_by_name[name]
            existing_keys = set(read(conn, column, sql("keys", dimension=dimension)))
            missing_rows = [row for row in rows if row[dimension.key] not in existing_keys]
            if missing_rows:
                count += import_dimension(conn, dimension, missing_rows)
    return count


def _events(
    demo: ModuleType,
    rng: random.Random,
    ids: _TimeUUIDs,
    count: int,
    late: float,
    lag: timedelta,
    broken: float,
    summary: Summary,
) -> Iterator[Event]:
    for _ in range(count):
        now = utc_now()
        if rng.random() < late:
            now -= lag
            summary.late += 1
        if rng.random() < broken:
            values = demo.broken_event(rng, now)
            summary.broken += 1
        else:
            values = demo.event(rng, now)
        yield Event(ids.at(now), values)


class _TimeUUIDs:
    """Time-UUIDs of one process: the demo's node, half of it random, and never the same 100 ns twice."""

    def __init__(self) -> None:
        system = random.SystemRandom()
        self._node = system.getrandbits(24)
        self._sequence = system.getrandbits(14)
        self._used: set[int] = set()

    def at(self, now: datetime) -> uuid.UUID:
        ticks = ticks_of(now)
        while ticks in self._used:
            ticks += 1
        self._used.add(ticks)
        return demo_id(ticks, self._node, self._sequence)
