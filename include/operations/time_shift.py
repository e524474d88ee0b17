"""Old events as if they happened now: where in time a replay puts them, at which speed, and the events that they become.

A shifted event is another one than the event of the file, and the same one however often its replay is resumed.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from include.lake.keys import time_of, time_uuid
from include.lake.writer import Event, event_id
from include.operations.admission import YEARS
from include.pipelines import Pipeline

_SHIFTED = uuid.UUID(
    "5b0d1c9e-7c0a-5a1f-8a54-0f6a1f6f7f42"
)  # names shifted events; another one would double a resumed replay
_TIME = re.compile(
    r"(?P<before>\s*)(?P<day>\d{4}-\d\d-\d\d)(?P<between>[ T])(?P<minute>\d\d:\d\d)"
    r"(?:(?P<second>:\d\d)(?:(?P<point>[.,])(?P<fraction>\d{1,9}))?)?(?P<zone>Z| UTC|[+-]\d\d:\d\d)?(?P<after>\s*)"
)


@dataclass(frozen=True)
class Timeline:
    """The file's time `origin` is `begun_at`, and from there time passes `rate` times as fast. All in UTC."""

    begun_at: datetime
    origin: datetime
    rate: float = 1.0

    def at(self, time: datetime) -> datetime:
        """When the replay has that time of the file. Raises OverflowError beyond the calendar."""
        return self.begun_at + (time - self.origin) / self.rate

    def text(self, text: str) -> str:
        """A time as a file writes it, moved, in the same format and zone; anything else as it is."""
        match = _TIME.fullmatch(text)
        if not match:
            return text
        fraction = match["fraction"] or ""
        second = match["second"] or ":00"
        zone = _zone(match["zone"])
        try:
            local = datetime.fromisoformat(f"{match['day']}T{match['minute']}{second}.{fraction[:6].ljust(6, '0')}")
            moved = self.at(local - zone) + zone
        except (ValueError, OverflowError):
            return text
        seconds = f":{moved:%S}" if match["second"] else ""
        digits = f"{match['point']}{moved:%f}"[: len(fraction) + 1].ljust(len(fraction) + 1, "0") if fraction else ""
        return (
            f"{match['before']}{moved.date().isoformat()}{match['between']}{moved:%H:%M}{seconds}{digits}"
            f"{match['zone'] or ''}{match['after']}"
        )


class Shift:
    """Turns events of a file into those of one replay, which `timeline.begun_at` names."""

    def __init__(self, pipeline: Pipeline, timeline: Timeline) -> None:
        self._pipeline = pipeline
        self._timeline = timeline
        self._name = f"@{timeline.begun_at.isoformat()}"

    def moved(self, event: Event) -> Event:
        """The event at its new time, under its new id. One outside 1970 to 2100 keeps its time: the transform rejects it."""
        identity = event_id(self._pipeline, event) + self._name
        values = {name: text for name, text in event.values.items() if name != "create_time"}
        if self._pipeline.event_id != "create_time":
            identity = values[self._pipeline.event_id] = str(uuid.uuid5(_SHIFTED, identity))
        time = time_of(event.create_time)
        if time.year in YEARS:
            time = self._timeline.at(time)
            column = self._pipeline.fact_time
            if column and (text := values.get(column)):
                values[column] = self._timeline.text(text)
        return Event(time_uuid(time, identity), values)


def _zone(text: str | None) -> timedelta:
    if text in (None, "Z", " UTC"):
        return timedelta()
    hours, minutes = text[1:].split(":")
    return (-1 if text[0] == "-" else 1) * timedelta(hours=int(hours), minutes=int(minutes))
