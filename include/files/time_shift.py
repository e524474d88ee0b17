"""Shifts old events to now: the times that a replay gives them, its speed, and the shifted events.

A shifted event is not the event of the file: it has another id. It stays the same however often its replay is resumed.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from include import readings
from include.durations import EPOCH, MICROSECOND
from include.lake.keys import time_of, time_uuid
from include.lake.writer import Event, event_id
from include.pipelines import Pipeline
from include.readings import DATE_AND_TIME, LAST_EPOCH, OFFSET, UTC, WHITE_SPACE, YEARS

# The namespace of the ids of shifted events. Changing it would duplicate the events of a resumed replay.
_NAMESPACE = uuid.UUID("5b0d1c9e-7c0a-5a1f-8a54-0f6a1f6f7f42")
_SPACE = f"[{WHITE_SPACE}]*"
_TIME = re.compile(rf"{_SPACE}{DATE_AND_TIME}(?:{OFFSET}|{UTC}){_SPACE}")
_PLAIN_NUMBER = re.compile(rf"(?P<before>{_SPACE})[0-9]+(?:\.(?P<fraction>[0-9]*))?(?P<after>{_SPACE})")


@dataclass(frozen=True)
class Timeline:
    """Maps the file's times to the replay's: `origin` to `started_at`, then `rate` times as fast. All in UTC."""

    started_at: datetime
    origin: datetime
    rate: float = 1.0

    def at(self, time: datetime) -> datetime:
        """The replay's time for that time of the file. Raises OverflowError beyond the calendar."""
        return self.started_at + (time - self.origin) / self.rate

    def text(self, text: str) -> str:
        """The text of the moved time, in the format and zone of `text`; a text that is not a time is unchanged.

        Times are read by the rules of include/readings.py. Seconds or milliseconds since 1970 keep their unit.
        """
        time = readings.instant(text)
        if time is None:
            return text
        try:
            new_time = self.at(time)
            match = _TIME.fullmatch(text)
            return _with_moved_time(text, match, new_time) if match else _since_1970(text, new_time)
        except OverflowError:
            return text


class Shift:
    """Turns events of a file into those of one replay, which `timeline.started_at` identifies."""

    def __init__(self, pipeline: Pipeline, timeline: Timeline) -> None:
        self._pipeline = pipeline
        self._timeline = timeline
        self._name = f"@{timeline.started_at.isoformat()}"

    def moved(self, event: Event) -> Event:
        """The event at its new time, under its new id. A time outside 1970 to 2100 stays: the transform rejects it."""
        identity = event_id(self._pipeline, event) + self._name
        values = {name: text for name, text in event.values.items() if name != "create_time"}
        if self._pipeline.event_id != "create_time":
            identity = values[self._pipeline.event_id] = str(uuid.uuid5(_NAMESPACE, identity))
        time = time_of(event.create_time)
        if time.year in YEARS:
            time = self._timeline.at(time)
            column = self._pipeline.fact_time
            if column and (text := values.get(column)):
                values[column] = self._timeline.text(text)
        return Event(time_uuid(time, identity), values)


def _with_moved_time(text: str, match: re.Match, new_time: datetime) -> str:
    """The text with the moved date and time in place of its own."""
    _, clock, sign, hours, minutes = match.groups()
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    local = new_time - offset if sign == "-" else new_time + offset
    new_clock = f"{local:%H:%M:%S.%f}"[: len(clock)].ljust(len(clock), "0")
    new_clock = new_clock.replace(".", ",") if "," in clock else new_clock
    return "".join(
        (text[: match.start(1)], local.date().isoformat(), text[match.end(1) : match.start(2)], new_clock, text[match.end(2) :])
    )  # fmt: skip


def _since_1970(text: str, new_time: datetime) -> str:
    """The moved time in the unit of the text, seconds or milliseconds, with as many decimals; without an exponent."""
    match = _PLAIN_NUMBER.fullmatch(text)
    before, fraction, after = match.group("before", "fraction", "after") if match else ("", None, "")
    micros = (new_time - EPOCH) // MICROSECOND
    unit = 1_000_000 if readings.amount(text) < LAST_EPOCH else 1_000  # ty: ignore[unsupported-operator]  # instant has read it
    decimals = f"{micros % unit:0{len(str(unit)) - 1}}"
    point = "" if fraction is None else "." + decimals[: len(fraction)].ljust(len(fraction), "0")
    return f"{before}{micros // unit}{point}{after}"
