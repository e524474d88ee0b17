"""The rejected share of an hour of create_time, which determines whether minutes with many rejected rows are held (ADR 29).

One minute has too few rows for a meaningful share, and the size of a batch is arbitrary. So a minute with many rejected rows is
judged by all rows of its hour, as the newest read of each minute counted them, published or not. While some rows are
unread, the minute waits, or is held if too many of the rows read so far are rejected. The final verdict depends on the
lake's rows, and not on the order or the size of reads.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from include.durations import DAY, HOUR, minute_floor
from include.pipelines import Pipeline
from include.warehouse import ledger
from include.warehouse.folded_hours import hour_of
from include.warehouse.gate_verdict import CheckOutcome
from include.warehouse.pipeline_lock import lock
from include.warehouse.session import column, in_transaction, reading, rows
from include.warehouse.statements import Statements

sql = Statements(__file__)

CHECK, WARNING = "staging_rejected_share", "staging_rejected_share_warn"
HOLD_PERCENT = 20  # minutes above this share are held if their hour is above it too
WARN_PERCENT = 5
MIN_ROWS = 100  # an hour with fewer rows holds no minute back
_SAMPLE = 10
_RECENT = DAY
_PURPOSE = f"In an hour with at least {MIN_ROWS} rows, at most {HOLD_PERCENT} percent are rejected."
_WARNING_PURPOSE = (
    f"In an hour with at least {MIN_ROWS} rows, at most {WARN_PERCENT} percent are rejected; "
    f"in a minute, at most {HOLD_PERCENT} percent. See etl.rejected_summary."
)

PURPOSES = {CHECK: _PURPOSE, WARNING: _WARNING_PURPOSE}


@dataclass(frozen=True)
class Read:
    """The counts of the newest read of a minute, and its outcome. `state` is the ledger's."""

    minute: datetime
    rows: int = 0
    rejected: int = 0
    is_current: bool = True  # False: its rows have changed since, or were never read
    state: str = "seen"
    is_waiting: bool = False
    is_held_for_share: bool = False  # held for its rejected share, among other reasons
    is_final: bool = False  # no run will read it again, and it was not released

    @property
    def is_suspect(self) -> bool:
        """Whether the hour determines the verdict on this minute."""
        return _exceeds(self.rejected, self.rows, HOLD_PERCENT)


@dataclass(frozen=True)
class HourShare:
    """The reads of an hour's minutes."""

    hour: datetime
    reads: tuple[Read, ...]
    is_over: bool

    @property
    def rows(self) -> int:
        return sum(read.rows for read in self.reads if read.is_current)

    @property
    def rejected(self) -> int:
        return sum(read.rejected for read in self.reads if read.is_current)

    @property
    def is_fully_read(self) -> bool:
        """Whether every row of the hour has been read."""
        return self.is_over and all(read.is_current for read in self.reads)

    @property
    def is_bad(self) -> bool:
        """Whether too many of the rows read so far are rejected.

        A broken producer shows up at once; later good rows can reverse the verdict.
        """
        return self.rows >= MIN_ROWS and _exceeds(self.rejected, self.rows, HOLD_PERCENT)


@dataclass(frozen=True)
class ShareVerdict:
    """The results of both checks for the minutes of a batch, and the minutes that wait."""

    outcomes: tuple[CheckOutcome, CheckOutcome]
    waiting: Mapping[datetime, str]


def check_batch(hours: Iterable[HourShare], batch: Collection[datetime]) -> ShareVerdict:
    """The verdict on a batch's minutes. Reasons have only the minute's figures, so the order of reads does not change them."""
    offending, reasons, warnings, waiting = [], {}, [], {}
    for hour in hours:
        figures = {"hour": hour.hour, "hour_rows": hour.rows, "hour_rejected": hour.rejected}
        suspects = [read for read in hour.reads if read.minute in batch and read.is_suspect]
        for read in suspects:
            row = {"minute": read.minute, "raw_rows": read.rows, "rejected_rows": read.rejected, **figures}
            if hour.is_bad:
                offending.append(row)
                reasons[read.minute] = _reason(read)
            else:
                warnings.append(row)
            if not hour.is_bad and not hour.is_fully_read:
                waiting[read.minute] = _reason_to_wait(read)
        if not suspects and hour.rows >= MIN_ROWS and _exceeds(hour.rejected, hour.rows, WARN_PERCENT):
            warnings.append(figures)
    hold_outcome = CheckOutcome(
        CHECK, "fail", "fail" if offending else "pass", len(offending), offending[:_SAMPLE],
        frozenset(reasons) if offending else None, _PURPOSE, reasons,
    )  # fmt: skip
    warn_outcome = CheckOutcome(
        WARNING, "warn", "warn" if warnings else "pass", len(warnings), warnings[:_SAMPLE], None, _WARNING_PURPOSE
    )
    return ShareVerdict((hold_outcome, warn_outcome), waiting)


def changed_verdicts(hour: HourShare) -> tuple[list[Read], list[Read]]:
    """Minutes of the hour to hold without another read, and minutes to read again: the hour's verdict on them has changed."""
    to_hold, to_read = [], []
    for read in hour.reads:
        if not read.is_final:
            continue
        if read.is_waiting:
            if hour.is_bad:
                to_hold.append(read)
            elif hour.is_fully_read:
                to_read.append(read)
        elif hour.is_fully_read and read.is_suspect and read.state == "merged" and hour.is_bad:
            to_hold.append(read)  # what it published stays
        elif (
            hour.is_fully_read and read.state == "held" and read.is_held_for_share != (read.is_suspect and hour.is_bad)
        ):
            to_read.append(read)
    return to_hold, to_read


def batch_verdict(
    cursor, pipeline: Pipeline, minutes: Collection[datetime], clock: datetime, attempt: int
) -> ShareVerdict:
    """The verdict on a batch's minutes, from the counts of this attempt, and of the ledger for the rest of their hours."""
    # All rows of a minute outside the range are rejected, whatever its producer sends (ADR 25).
    reads = {
        minute: Read(minute, raw, rejected)
        for minute, raw, rejected in ledger.staged_counts(cursor, attempt)
        if not pipeline.out_of_range(minute, clock)
    }
    reads_by_hour: dict[datetime, list[Read]] = {}
    for minute, read in reads.items():
        reads_by_hour.setdefault(hour_of(minute), []).append(read)
    # The ledger is read for these hours only: a long history without many rejected rows has no such hours.
    notable_hours = {hour for hour, hour_reads in reads_by_hour.items() if _is_notable(hour_reads)}
    notable_reads = {minute: read for minute, read in reads.items() if hour_of(minute) in notable_hours}
    return check_batch(_hours(cursor, pipeline, notable_hours, clock, notable_reads), frozenset(minutes))


def recheck_hours(cursor, pipeline: Pipeline, minutes: Iterable[datetime], clock: datetime) -> None:
    """Update the verdicts on other minutes in the hours of these minutes, which were just read. Does not commit.

    Take the pipeline's lock first.
    """
    hours = {hour_of(minute) for minute in minutes if not pipeline.out_of_range(minute, clock)}
    affected = _suspect_hours(cursor, pipeline, hours)
    for hour in _hours(cursor, pipeline, affected, clock):
        to_hold, to_read = changed_verdicts(hour)
        ledger.hold_without_reading(
            cursor, pipeline.name, [(read.minute, f"{CHECK}: {_reason(read)}") for read in to_hold], [CHECK]
        )
        ledger.make_held_pending(cursor, pipeline.name, [read.minute for read in to_read])


def recheck_waiting(conn, pipeline: Pipeline, clock: datetime) -> None:
    """Update the verdicts on held minutes whose hour has ended since: those that wait, and those whose hour has been bad so far.

    It is possible that no run reads the hour after its end. Hours from more than a day ago were judged when they were read.
    """
    with reading(conn) as cursor:
        minutes = column(cursor, sql("held_for_hour"), {"pipeline": pipeline.name, "since": clock - _RECENT})
        hours = _hours(cursor, pipeline, {hour_of(minute) for minute in minutes}, clock)
        is_due = any(any(changed_verdicts(hour)) for hour in hours)
    if not is_due:  # nothing to change, so do not wait for a merge to release the lock
        return

    def recheck(cursor) -> None:
        lock(cursor, pipeline)
        recheck_hours(cursor, pipeline, minutes, clock)

    in_transaction(conn, recheck)


def _exceeds(part: int, total: int, percent: int) -> bool:
    return part * 100 > total * percent


def _is_notable(reads: Collection[Read]) -> bool:
    rejected, raw = sum(read.rejected for read in reads), sum(read.rows for read in reads)
    return _exceeds(rejected, raw, WARN_PERCENT) or any(read.is_suspect for read in reads)


def _reason(read: Read) -> str:
    return (
        f"{read.rejected:,} of the minute's {read.rows:,} rows are rejected, and so are more than {HOLD_PERCENT} % of "
        "its hour's rows."
    )


def _reason_to_wait(read: Read) -> str:
    return (
        f"{CHECK}: {read.rejected:,} of {read.rows:,} rows are rejected. The minute waits until all rows of its hour are "
        f"read. It is held if more than {HOLD_PERCENT} % of them are rejected."
    )


def _hours(
    cursor,
    pipeline: Pipeline,
    hours: Collection[datetime],
    clock: datetime,
    new_reads: Mapping[datetime, Read] | None = None,
) -> list[HourShare]:
    reads: dict[datetime, list[Read]] = {hour: [] for hour in sorted(hours)}
    known = {}
    for start, end in _ranges(reads):
        known.update(
            (row["minute"], _read(row))
            for row in rows(cursor, sql("reads"), _binds(pipeline, start, end))
            if not pipeline.out_of_range(row["minute"], row["read_at"] or clock)
        )
    for minute, read in (known | dict(new_reads or {})).items():
        reads[hour_of(minute)].append(read)
    return [
        HourShare(hour, tuple(reads_of_hour), _is_over(hour, clock, pipeline)) for hour, reads_of_hour in reads.items()
    ]


def _read(row: dict) -> Read:
    pending = bool(row["pending"])
    # A held minute that is closed still counts in its hour, or closing it would change the verdict on the others.
    if row["state"] == "held" or (row["state"] == "closed" and row["is_hold_newest"]):
        was_counted = row["attempt"] is not None  # a minute that fails alone in Spark has no counts
        return Read(
            row["minute"],
            row["rows_now"] or 0,
            row["rejected_now"] or 0,
            is_current=not pending or (was_counted and bool(row["is_held_seen"])),
            state=row["state"],
            is_waiting=bool(row["waiting"]),
            is_held_for_share=CHECK in json.loads(row["failing_checks"] or "[]"),
            is_final=row["state"] == "held" and was_counted and not pending,
        )
    is_pending_unchanged = row["state"] == "merged" and row["read_at"] is None and bool(row["is_read_seen"])
    return Read(
        row["minute"],
        row["raw_rows"] or 0,
        row["rejected_rows"] or 0,
        is_current=not pending or is_pending_unchanged,
        state=row["state"],
        is_final=not pending and not row["is_released"],
    )


def _is_over(hour: datetime, clock: datetime, pipeline: Pipeline) -> bool:
    """Whether none of the hour's minutes is open. An hour far ahead of the clock counts as over: waiting would not help."""
    is_past = hour + HOUR <= minute_floor(clock)
    return is_past or hour > clock + pipeline.future_tolerance


def _suspect_hours(cursor, pipeline: Pipeline, hours: Collection[datetime]) -> set[datetime]:
    """The hours among these with a held minute, or whose verdict decides about a minute: few, and most batches have none."""
    suspects = set()
    for start, end in _ranges(hours):
        binds = _binds(pipeline, start, end) | {"percent": HOLD_PERCENT}
        suspects |= {hour_of(minute) for minute in column(cursor, sql("suspects"), binds)}
    return suspects & set(hours)


def _ranges(hours: Iterable[datetime]) -> list[tuple[datetime, datetime]]:
    """The hours as ranges, end excluded: consecutive hours are one range."""
    ranges: list[tuple[datetime, datetime]] = []
    for hour in sorted(hours):
        if ranges and ranges[-1][1] == hour:
            ranges[-1] = (ranges[-1][0], hour + HOUR)
        else:
            ranges.append((hour, hour + HOUR))
    return ranges


def _binds(pipeline: Pipeline, start: datetime, end: datetime) -> dict[str, object]:
    return {"pipeline": pipeline.name, "start": start, "end": end}
