"""Lag: the age of the newest published event at each instant of a window. Only a merge lowers it.

At an instant t, the lag is t minus the newest create_time published by then. It rises with the clock, and falls when a
merge publishes a newer event; `etl.freshness` has a row for each such merge. So a backfill of old minutes does not change
it, nor does an empty or held minute, or one far ahead of the lake's clock, or a run that merges nothing new.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from include.pipelines import Pipeline
from include.warehouse.session import execute
from include.warehouse.statements import Statements

sql = Statements(__file__)


@dataclass(frozen=True)
class Lag:
    """Seconds of lag over a window: half of the time it was below `median`, 95 % of the time below `p95`, never above `worst`."""

    median: float
    p95: float
    worst: float
    covered: float  # seconds of the window that the history covers


def history(conn, pipeline: Pipeline, start: datetime) -> list[tuple[datetime, datetime]]:
    """(published_at, newest_create_time) of the publication in force at `start` and of all later ones, oldest first."""
    binds = {"pipeline": pipeline.name, "start": start}
    return list(execute(conn.cursor(), sql("history"), binds).fetchall())


def lag_between(published: Sequence[tuple[datetime, datetime]], start: datetime, end: datetime) -> Lag | None:
    """The lag from `start` to `end`; None if nothing was published before `end`. `published` is sorted, oldest first."""
    pieces = list(_pieces(published, start, end))
    covered = sum(highest - lowest for lowest, highest in pieces)
    if not covered:
        return None
    return Lag(
        median=_quantile(pieces, 0.5 * covered),
        p95=_quantile(pieces, 0.95 * covered),
        worst=max(highest for _, highest in pieces),
        covered=covered,
    )


def lag_by_step(
    published: Sequence[tuple[datetime, datetime]], start: datetime, end: datetime, step: timedelta
) -> Iterator[tuple[datetime, Lag | None]]:
    """The lag of each `step` from `start` to `end`, by its start; the last step may be shorter. None before any publication."""
    times = [at for at, _ in published]
    while start < end:
        until = min(start + step, end)
        in_force = max(bisect_right(times, start) - 1, 0)
        yield start, lag_between(published[in_force : bisect_right(times, until)], start, until)
        start = until


def _pieces(
    published: Sequence[tuple[datetime, datetime]], start: datetime, end: datetime
) -> Iterable[tuple[float, float]]:
    """The lag at the start and end of each interval between two publications. The lag rises by a second each second."""
    ends = [at for at, _ in published][1:] + [end]
    for (at, newest), next_at in zip(published, ends, strict=False):
        piece_start, piece_end = max(at, start), min(next_at, end)
        if piece_start < piece_end:
            yield (piece_start - newest).total_seconds(), (piece_end - newest).total_seconds()


def _quantile(pieces: Iterable[tuple[float, float]], seconds: float) -> float:
    """The lag that was not exceeded for this many seconds.

    Each piece rises by a second each second, so the time spent at a lag is proportional to the number of pieces that cross it.
    """
    edges = sorted(edge for lowest, highest in pieces for edge in ((lowest, 1), (highest, -1)))
    passed, crossing, last_lag = 0.0, 0, edges[0][0]
    for lag, change in edges:
        width = (lag - last_lag) * crossing
        if passed + width >= seconds:
            return last_lag + (seconds - passed) / crossing if crossing else lag
        passed, crossing, last_lag = passed + width, crossing + change, lag
    return last_lag
