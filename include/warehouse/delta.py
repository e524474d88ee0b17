"""Decides which pending minutes the next batch takes, without access to a store.

The newest minutes go first, so that a backlog never delays fresh data. Minutes that failed in a larger batch (suspects) get
separate batches, so that they delay no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from include.durations import minute_floor
from include.pipelines import Pipeline

UNKNOWN_ROWS = 1_000  # estimate for a minute while the pipeline has no merged rows


@dataclass(frozen=True)
class Pending:
    """A minute whose newest change, as a poll saw it, is not covered by a merged read."""

    minute: datetime
    changed_at: str | None  # seen_changed_at: a time-UUID as text
    raw_rows: int | None = None  # of its last merged read, or of a sample of the lake
    split_size: int | None = None  # largest batch it may join, after failing in a larger one


@dataclass(frozen=True)
class PlannedMinute:
    """A minute of a batch, with the change that its read will cover."""

    minute: datetime
    changed_at: str | None = None
    estimated_rows: int = 0


@dataclass(frozen=True)
class BatchPlan:
    """The minutes of a batch, oldest first; `split_size` is set for a batch of suspects."""

    minutes: tuple[PlannedMinute, ...]
    split_size: int | None = None


@dataclass(frozen=True)
class LastDelta:
    """The previous delta batches: suspects take turns with ordinary minutes, and among themselves."""

    was_suspect: bool = False
    oldest_suspect: datetime | None = None  # of the last batch of suspects


def plan(
    pending: Sequence[Pending],
    *,
    clock: datetime,
    pipeline: Pipeline,
    typical_rows: float | None = None,
    last: LastDelta = LastDelta(),
    folded: Mapping[datetime, Sequence[PlannedMinute]] = MappingProxyType({}),
) -> BatchPlan:
    """The next batch. `typical_rows` is the estimate for a minute that was never read.

    Batches of suspects alternate with ordinary ones.

    `folded` maps a pending minute of a folded hour to all minutes of the hour, which are taken together.
    """
    ordinary = [minute for minute in pending if minute.split_size is None]
    suspects = [minute for minute in pending if minute.split_size is not None]
    if suspects and (not ordinary or not last.was_suspect):
        suspects.sort(key=lambda suspect: suspect.minute, reverse=True)
        oldest = last.oldest_suspect
        if oldest is not None:  # continue with older ones: a suspect that keeps failing must not block the others
            suspects.sort(key=lambda suspect: suspect.minute >= oldest)
        size = suspects[0].split_size
        group = [suspect for suspect in suspects if suspect.split_size == size]
        return BatchPlan(_fill_batch(group, pipeline, typical_rows, folded, limit=size), size)
    return BatchPlan(_fill_batch(_sort(ordinary, clock, pipeline), pipeline, typical_rows, folded))


def _sort(pending: Iterable[Pending], clock: datetime, pipeline: Pipeline) -> list[Pending]:
    """The newest live minutes, newest first, then the others from the oldest. A minute far ahead is never live."""
    oldest_first = sorted(pending, key=lambda candidate: candidate.minute)
    horizon = clock + pipeline.future_tolerance
    live = [candidate for candidate in oldest_first if candidate.minute <= horizon][-pipeline.live_minutes :]
    taken = {candidate.minute for candidate in live}
    return live[::-1] + [candidate for candidate in oldest_first if candidate.minute not in taken]


def _fill_batch(
    pending: list[Pending],
    pipeline: Pipeline,
    typical_rows: float | None,
    folded: Mapping[datetime, Sequence[PlannedMinute]],
    *,
    limit: int | None = None,
) -> tuple[PlannedMinute, ...]:
    """The first of these minutes, at least one minute or folded hour, until the batch is full or has `limit` minutes."""
    chosen: dict[datetime, PlannedMinute] = {}
    budget = pipeline.max_minutes * pipeline.max_rows
    for candidate in pending:
        if candidate.minute in chosen:  # with its folded hour
            continue
        single = [PlannedMinute(candidate.minute, candidate.changed_at, estimate(candidate.raw_rows, typical_rows))]
        group = folded.get(candidate.minute, single)
        budget -= _cost(group, pipeline)
        if chosen and (budget < 0 or (limit is not None and len(chosen) + len(group) > limit)):
            break
        chosen.update((planned.minute, planned) for planned in group)
    return tuple(chosen[minute] for minute in sorted(chosen))


def _cost(minutes: Sequence[PlannedMinute], pipeline: Pipeline) -> int:
    """The cost of reading these minutes; a full batch costs max_minutes x max_rows.

    `max_minutes` empty minutes cost as much as `max_rows` rows.
    """
    rows = sum(minute.estimated_rows for minute in minutes)
    return len(minutes) * pipeline.max_rows + rows * pipeline.max_minutes


def estimate(raw_rows: int | None, typical_rows: float | None) -> int:
    """The number of rows that this minute probably has."""
    if raw_rows is not None:
        return raw_rows
    return round(typical_rows) if typical_rows is not None else UNKNOWN_ROWS


def is_open(minute: datetime, clock: datetime, pipeline: Pipeline) -> bool:
    """Whether events of the minute are still being written. A minute far ahead of the clock is not open."""
    return minute_floor(clock) <= minute <= clock + pipeline.future_tolerance
