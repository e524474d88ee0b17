"""Sends a file of events to its pipeline's topic, by default as if they happened now: `./minutemark replay-csv`.

Progress is recorded when the broker has acknowledged the events. After a kill the same command resumes with the same ids
and the same times, so that every event counts once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from include import pipelines
from include.connections import WAREHOUSE_ETL
from include.durations import utc_now
from include.errors import MinutemarkError
from include.files import file_format
from include.files.compressed_file import Damage
from include.files.import_log import MAX_REJECTED, REPLAY_AGAIN, ImportLog, ImportRunning, shortfall
from include.files.json_events import event_reader
from include.files.readers import Occurrences, check_header, column_lines, names_of
from include.files.record_files import open_records
from include.files.replay_feed import Clock, Feed
from include.files.replay_options import EventSchedule, ReplayOptions, ReplayRefused, check, parse_options, timeline
from include.files.survey import Sample, Survey, checked_fingerprint, preview_of, survey
from include.files.time_shift import Timeline
from include.kafka import topics
from include.kafka.clients import BrokerError
from include.kafka.ingest_mode import SETTING, ingest_mode
from include.kafka.producer import producer
from include.pipelines import Pipeline
from include.progress_log import Bar
from include.warehouse.errors import WarehouseError
from include.warehouse.session import warehouse

log = logging.getLogger(__name__)


@dataclass
class ReplaySummary:
    """What a replay did; `sent` and `rejected` include what it did before it was resumed."""

    source: str
    topic: str
    description: str = ""  # compression and format of the file
    left_out: int = 0  # bytes after the end of the compressed data
    damage: Damage | None = None  # of the file: what follows it was not read
    sent: int = 0
    rejected: int = 0
    resumed_at: int | None = None
    unknown_columns: tuple[str, ...] = ()
    missing_columns: tuple[str, ...] = ()
    seconds: float = 0.0
    max_rejected: float = MAX_REJECTED  # percent

    @property
    def problem(self) -> str | None:
        """Why the replay counts as failed; None if it does not."""
        damage = self.damage.problem if self.damage else None
        return shortfall(self.sent, self.rejected, self.max_rejected, damage, verb="sent", again=REPLAY_AGAIN)

    def __str__(self) -> str:
        lines = [
            f"{self.source}: {self.description}.",
            f"{self.source} into topic {self.topic}: {self.sent} events sent, {self.rejected} lines rejected, "
            f"{self.seconds:.1f} s.",
        ]
        if self.left_out:
            lines.append(f"{self.left_out} bytes after the end of the compressed data were ignored.")
        if self.resumed_at is not None:
            lines.append(f"It resumed after line {self.resumed_at}, where it had been stopped.")
        lines += column_lines("file", self.unknown_columns, self.missing_columns)
        if self.rejected:
            lines.append("Rejected lines and their reasons: ./minutemark rejected.")
        return "\n".join(lines)


def replay_csv(
    pipeline: Pipeline,
    path: str | Path,
    options: ReplayOptions,
    *,
    encoding: str = "",
    format_words: str = "",
    again: bool = False,
    report: Callable[[str], object] = print,
) -> ReplaySummary:
    """Send the events of a file to the pipeline's topic, each when it is due.

    The file's format is recognized as for an import; `encoding` and `format_words` override that.

    Resumes a stopped replay of the same file with the same options, unless `again`. Raises ReplayRefused or
    FileRefused before anything is sent; BrokerError or WarehouseError also later, and then the same call without `again` resumes.
    """
    path, started = Path(path), time.monotonic()
    _check_ingest_mode(pipeline)
    check(options, pipeline, None, utc_now())
    stated_format = file_format.format_from_options(encoding, format_words)
    digest, damage = checked_fingerprint(path)
    file_survey = survey(path, stated_format, pipeline, damage) if options.needs_survey else None
    check(options, pipeline, file_survey, utc_now())
    with (
        open_records(path, names_of(pipeline), stated_format, damage) as file,
        warehouse(WAREHOUSE_ETL) as conn,
        producer(pipeline) as sender,
    ):
        unknown, missing = check_header(path, file.header, pipeline)
        origin = None if options.shift else digest  # an import of this file rejects the same rows
        replays = ImportLog(conn, pipeline.name, options.key(digest), path.name, origin=origin)
        progress = replays.begin(again=again)
        summary = ReplaySummary(
            str(path), pipeline.topic, file.description, unknown_columns=unknown, missing_columns=missing
        )
        summary.resumed_at = after_line = progress.position if progress.resumed else None
        times = timeline(options, file_survey, progress.started_at)
        if file_survey:
            report(_announcement(file_survey, times))
        clock = Clock(replays.clock())
        # A shifted event does not have the time in the file: ingest decides whether its minute is closed.
        without_retention = replace(pipeline, lake_retention=None) if options.shift else pipeline
        events = event_reader(file, without_retention, clock.now(), as_strings=True)
        schedule = EventSchedule(pipeline, options, events, preview_of(file, pipeline), times)
        sample = Sample(file_survey.kinds, options.sample, digest) if options.sample else None
        total, unit = (file_survey.lines, "line") if file_survey else (path.stat().st_size, "B")
        with (
            Occurrences(events.fields_without_id, pipeline) as occurrences,
            Bar(f"{path.name} into {pipeline.topic}", total, unit) as bar,
        ):
            records = occurrences.numbered(file.records())
            feed = Feed(
                pipeline,
                sender,
                replays,
                clock,
                events.refused,
                lambda line: bar.at(line if file_survey else file.position()),
            )
            for row in schedule.rows(records, sample, after_line or 0):
                feed.take(*row)
            feed.flush()
        replays.finish()
        summary.left_out, summary.damage = file.compression.left_out, damage
    summary.sent, summary.rejected = replays.progress.rows_written, replays.progress.rows_rejected
    summary.seconds = time.monotonic() - started
    return summary


def _check_ingest_mode(pipeline: Pipeline) -> None:
    """Check the ingest mode and the topic before the file is read, which may take a long time."""
    if ingest_mode() is None:
        raise ReplayRefused(
            f"{SETTING} is empty, so nothing writes events from topics to the lake. Start the stack with Kafka (`make run`; "
            f"elsewhere {SETTING}=dag, spark or connect), or import the file: ./minutemark import … --pipeline {pipeline.name}"
        )
    topics.check_topic(pipeline)


def _announcement(file_survey: Survey, times: Timeline | None) -> str:
    if times is None or file_survey.first is None or file_survey.last is None:
        return str(file_survey)
    return f"{file_survey} In this replay that is {times.at(file_survey.first):%F %T} to {times.at(file_survey.last):%F %T}."


class ReplayStopped(MinutemarkError):
    """A store or the broker failed before or during a replay."""

    is_retried = True


def run_replay(
    pipeline: str,
    file: str,
    rate: str = "1",
    shift: str = "now",
    sample: int | None = None,
    encoding: str | None = None,
    format_words: str | None = None,
    max_rejected: float = MAX_REJECTED,
    again: bool = False,
    *,
    report: Callable[[str], object] = print,
) -> ReplaySummary:
    """Send the events of a file to the pipeline's topic; `report` receives what the survey of the file found."""
    options = parse_options(rate, shift, sample)
    stated_format = {"encoding": encoding or "", "format_words": format_words or ""}
    try:
        summary = replay_csv(pipelines.get(pipeline), file, options, **stated_format, again=again, report=report)
    except ImportRunning:
        raise
    except (BrokerError, WarehouseError) as error:
        remedy = "run the same command again to resume"
        if again:  # it would start over
            remedy = "run the same command again, and leave out --again if this replay had started"
        raise ReplayStopped(f"{error} Then {remedy}.") from error
    summary.max_rejected = max_rejected
    return summary
