"""Past demo events, from before the first start, so that boards show a day at once, and the Decide board two weeks.

A few minutes of each hour have events, ingested the same way as live ones. In the last day, they have the events of all
minutes of the hour; earlier ones have only their own. A minute always gets the same ids: sending it twice adds nothing.
A pipeline has past events if its demo module has `PAST` and `past_event`.
"""

from __future__ import annotations

import itertools
import logging
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import ModuleType

from include.connections import LAKE_WRITER
from include.demo import EVENTS_PER_MINUTE
from include.demo.traffic import demo_id, demo_of, ticks_of, writer_of
from include.durations import HOUR, MINUTE
from include.lake.writer import Event
from include.pipelines import Pipeline
from include.warehouse.session import read, value
from include.warehouse.statements import Statements

sql = Statements(__file__)

log = logging.getLogger(__name__)

# Events of each UTC hour, in percent of the busiest hour.
_DAY = (22, 17, 14, 13, 15, 21, 34, 52, 70, 83, 91, 95, 97, 94, 92, 93, 96, 100, 98, 92, 80, 62, 44, 31)
_STEP = timedelta(minutes=5)  # between two minutes that have events; each stands for all five
# Each _STEP of this time has one minute with events. Before it, every 20th minute has only its own events.
_DAY_OF_STEPS = timedelta(hours=25)
_SPARSE_STEP = 20  # minutes
_GAP = timedelta(milliseconds=150)  # between two events: a minute has room for 400
_BROKEN_SHARE = 0.005
_PACE = 8_000  # events a second, so that live minutes keep their share of the machine
_EVENTS_PER_WRITE = 2_000  # between two waits for the store's confirmation; a wait for each minute took 30 s in all
_LIVE_MARGIN = timedelta(minutes=5)  # before now: these minutes are left to the live demo
_LIVE_FOR = HOUR


@dataclass(frozen=True)
class PastMinute:
    """A minute and how many events it gets."""

    minute: datetime
    events: int


def past_minutes(now: datetime, past: timedelta) -> Iterator[PastMinute]:
    """The minutes that get events, newest first, because boards show these first. They depend on the clock alone."""
    newest = now - _LIVE_MARGIN
    minute = newest.replace(minute=newest.minute // 5 * 5, second=0, microsecond=0)
    while minute >= now - past:
        in_hour = EVENTS_PER_MINUTE * _DAY[minute.hour] // 100
        if now - minute <= _DAY_OF_STEPS:
            yield PastMinute(minute, in_hour * (_STEP // MINUTE))
        elif minute.minute % _SPARSE_STEP == 0:
            yield PastMinute(minute, in_hour)
        minute -= _STEP


def events_of(demo: ModuleType, past_minute: PastMinute, now: datetime) -> Iterator[Event]:
    """The events of that minute. The first ones have the same ids however many there are, and whenever they are made."""
    for number in range(past_minute.events):
        at = past_minute.minute + number * _GAP
        event_id = demo_id(ticks_of(at))
        rng = random.Random(event_id.int)
        is_broken = rng.random() < _BROKEN_SHARE
        yield Event(event_id, demo.broken_event(rng, at) if is_broken else demo.past_event(rng, at, now - at))


def has_past(conn, pipeline: Pipeline, now: datetime) -> bool:
    """Whether merged events from another sender are more than an hour old, so that there is no gap to fill."""
    return read(conn, value, sql("other_events"), {"pipeline": pipeline.name, "before": now - _LIVE_FOR}) is not None


def send_past(pipeline: Pipeline, now: datetime, *, past: timedelta | None = None, conn_id: str = LAKE_WRITER) -> int:
    """Send all past events, or those that are at most `past` old, at _PACE; returns how many."""
    demo, sent, started = demo_of(pipeline), 0, time.monotonic()
    with writer_of(pipeline, conn_id) as writer:
        minutes = past_minutes(now, past or demo.PAST)
        events = itertools.chain.from_iterable(events_of(demo, past_minute, now) for past_minute in minutes)
        while rows := writer.write(itertools.islice(events, _EVENTS_PER_WRITE)).rows:
            sent += rows
            time.sleep(max(0.0, started + sent / _PACE - time.monotonic()))
    log.info("Sent %s past events of %s in %.1f s", sent, pipeline.name, time.monotonic() - started)
    return sent
