"""How a file is replayed: at which speed, whether its times are shifted to now, and whether all of its events are sent.

This module only decides; include/files/replay_csv.py sends.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from include.errors import MinutemarkError
from include.files.json_events import JsonLineEvents
from include.files.readers import CsvEvents
from include.files.record_files import Record
from include.files.survey import RecordPreview, Sample, Survey
from include.files.time_shift import Shift, Timeline
from include.lake.admission import Refused
from include.lake.keys import time_of
from include.lake.writer import Event
from include.pipelines import Pipeline
from include.readings import YEARS


class ReplayRefused(MinutemarkError):
    """The requested replay is not possible; nothing was sent."""


@dataclass(frozen=True)
class ReplayOptions:
    """The options of a replay. Other options make another replay, with its own progress and ids."""

    rate: float | None = 1.0  # times as fast as the events happened; None: as fast as possible
    shift: bool = True  # to now; False: the events keep their times, and the ids that an import gives them
    sample: int | None = None  # rows

    @property
    def needs_survey(self) -> bool:
        return self.shift or self.sample is not None or self.rate is not None

    def key(self, digest: str) -> str:
        """The key of the replay of that file in etl.imports."""
        shift = "now" if self.shift else "none"
        return f"replay/{digest}/rate={self.rate or 'max'}/shift={shift}/sample={self.sample or 'all'}"


def parse_options(rate: str = "1", shift: str = "now", sample: int | None = None) -> ReplayOptions:
    """Parse the options of `replay-csv`. Raises ReplayRefused."""
    return ReplayOptions(_rate(rate), shift == "now", sample)


def _rate(text: str) -> float | None:
    if text.lower() == "max":
        return None
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not (math.isfinite(rate) and rate > 0):
        raise ReplayRefused(f"`rate` is {text!r}. Use 1 for real time, 60 for one hour of events per minute, or max.")
    return rate


def check(options: ReplayOptions, pipeline: Pipeline, file_survey: Survey | None, now: datetime) -> None:
    """Raise ReplayRefused if the file, as surveyed, cannot be replayed with these options."""
    if options.sample and not pipeline.kind_column:
        raise ReplayRefused(
            f"`sample` takes a share of every kind of event, but pipeline {pipeline.name} does not declare which column has the "
            f"kind: declare kind_column in include/pipelines/{pipeline.name}.py, or omit `sample`."
        )
    if options.sample and file_survey and options.sample < len(file_survey.kinds):
        raise ReplayRefused(
            f"`sample` is {options.sample}, but there are {len(file_survey.kinds)} kinds of row, and a sample has at least one "
            f"of each. Set it to {len(file_survey.kinds)} or more."
        )
    if file_survey and file_survey.last and (times := timeline(options, file_survey, now)):
        try:
            ends_in_time = times.at(file_survey.last).year in YEARS
        except OverflowError:
            ends_in_time = False
        if not ends_in_time:
            raise ReplayRefused(
                f"At a rate of {options.rate:g}, replaying the rows from {file_survey.first} to {file_survey.last} would take "
                "until after 2100. Choose a higher rate, or max."
            )


def timeline(options: ReplayOptions, file_survey: Survey | None, started_at: datetime | None) -> Timeline | None:
    """The replay's timeline: its first event or, at rate max, its last happens at `started_at`.

    None without times, and at rate max without a shift: then nothing depends on it.
    """
    if (
        not started_at
        or not file_survey
        or file_survey.first is None
        or file_survey.last is None
        or (options.rate is None and not options.shift)
    ):
        return None
    if options.rate is None:  # so that nothing lies in the future
        return Timeline(started_at, file_survey.last)
    return Timeline(started_at, file_survey.first, options.rate)


class EventSchedule:
    """Which records of a file are sent, as which event, and when."""

    def __init__(
        self,
        pipeline: Pipeline,
        options: ReplayOptions,
        events: CsvEvents | JsonLineEvents,
        preview: RecordPreview,
        times: Timeline | None,
    ) -> None:
        self._events, self._preview = events, preview
        self._timeline = times
        self._is_paced = options.rate is not None and times is not None
        self._shift = Shift(pipeline, times) if options.shift and times else None

    def rows(
        self, records: Iterable[Record], sample: Sample | None = None, after_line: int = 0
    ) -> Iterator[tuple[Record, Event | Refused, datetime | None]]:
        """Each record after `after_line`, with its event or rejection and the time to send it; None: at once.

        A sample needs the records before that line, too: which rows it takes depends on them.
        """
        for record in records:
            if sample and not sample.takes(self._preview.kind(record)):
                continue
            if record.end_line > after_line:
                event = self._events.read(record)
                yield record, *(self._schedule(event) if isinstance(event, Event) else (event, None))

    def _schedule(self, event: Event) -> tuple[Event, datetime | None]:
        due = None
        if self._timeline and self._is_paced:
            event_time = time_of(event.create_time)
            due = self._timeline.at(event_time) if event_time.year in YEARS else None
        return self._shift.moved(event) if self._shift else event, due
