"""Compares minutes of the lake with the ledger while the pipeline runs; it changes neither store.

Ledger and lake have no common snapshot. A comparison reads the ledger and the change log, then counts the lake, and reads
ledger and change log again for minutes that differ. Such a minute is only suspect at first: an event may be written
whose touch follows, or a batch may be merging. It is reported if a comparison at least the settle time later finds it
different again, and neither touched nor merged in between: by then, everything that the first comparison saw in the lake
has been touched, and such a touch would show.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime
from itertools import groupby

from include.chunks import slices
from include.connections import LAKE_READER, endpoint
from include.durations import DAY, MINUTE, minute_floor
from include.lake import change_log, counts
from include.lake.errors import explain
from include.pipelines import Pipeline
from include.progress_log import Bar
from include.verify.comparison import Comparison, Known, MinuteState, classify, known_of
from include.warehouse import ledger
from include.warehouse.session import column, read
from include.warehouse.statements import Statements

sql = Statements(__file__)

CHUNK = 240  # minutes of one comparison
POLL = 2.0  # seconds between comparisons of minutes that verify waits for


class Minutes:
    """Compares minutes of one pipeline. A minute that is open at the start counts as open to the end."""

    def __init__(self, pipeline: Pipeline, lake_session, conn) -> None:
        self._pipeline, self._lake, self._conn = pipeline, lake_session, conn
        self.unreadable: set[tuple[datetime, int]] = set()  # partitions, minute and shard
        self._opened = minute_floor(change_log.clock(lake_session))

    def days(self) -> list[date]:
        """Every day that the change log, the ledger, contributions or rejected events have a minute of."""
        changed = set(change_log.changed_days(self._lake, self._pipeline.lake_table))
        for table in ("etl.minute_ledger", "etl.rejected_events", *self._pipeline.tables_by_minute):
            changed.update(self._column(sql("days", table=table)))
        return sorted(changed)

    def minutes_of_day(self, day: date) -> list[datetime]:
        """The minutes of that day that the change log, the ledger or contributions have."""
        start = datetime(day.year, day.month, day.day)
        minutes = set(change_log.minutes_of_day(self._lake, self._pipeline.lake_table, day))
        for table in ("etl.minute_ledger", *self._pipeline.tables_by_minute):
            minutes.update(self._column(sql("minutes", table=table), start=start, end=start + DAY))
        return sorted(minutes)

    def count_contributions(self, start: datetime, end: datetime) -> int:
        """The number of stored contributions of the minutes from `start` to `end` (excluded)."""
        return sum(
            self._column(sql("contributions", table=table), start=start, end=end)[0]
            for table in self._pipeline.tables_by_minute
        )

    def compare(
        self,
        minutes: Iterable[datetime],
        earlier: Mapping[datetime, Comparison] | None = None,
        on_row: Callable[[datetime, str], object] | None = None,
    ) -> dict[datetime, Comparison]:
        """Compare each minute. With `earlier` comparisons, the rows of minutes that a run will read are not counted."""
        minutes = sorted(minutes)
        known_before, clock = self._read_known(minutes), change_log.clock(self._lake)
        to_count = [
            minute
            for minute in minutes
            if not self._pipeline.is_closed(minute, clock) and not (earlier and known_before[minute].is_due)
        ]
        unreadable: dict[datetime, tuple[int, str]] = {}

        def add_unreadable(minute: datetime, shard: int, error: Exception) -> None:
            self.unreadable.add((minute, shard))
            unreadable.setdefault(minute, (shard, str(explain(error, endpoint(LAKE_READER)))))

        in_lake = counts.minute_counts(self._lake, self._pipeline, to_count, on_row, add_unreadable)
        clock = change_log.clock(self._lake)
        known_after = known_before | self._read_known(
            [
                candidate
                for candidate in to_count
                if candidate in in_lake and not known_before[candidate].agrees(in_lake[candidate])
            ]
        )
        comparisons = {}
        for minute in minutes:
            known, counted = known_after[minute], in_lake.get(minute)
            state = classify(
                known,
                counted,
                is_open=self._opened <= minute <= clock + self._pipeline.future_tolerance,
                is_closed=self._pipeline.is_closed(minute, clock),
                is_unreadable=minute in unreadable,
            )
            if state is MinuteState.DIFFERENT and known.mark != known_before[minute].mark:
                state = MinuteState.PENDING  # it changed while it was counted: no evidence
            if counted is None and earlier and minute in earlier:
                counted = earlier[minute].in_lake
            comparisons[minute] = Comparison(minute, state, known, counted, clock, unreadable.get(minute))
        return comparisons

    def compare_again(
        self, unsettled: Mapping[datetime, Comparison], patience: float, poll: float = POLL
    ) -> Iterator[Comparison]:
        """The last comparison of each of these minutes. `different` ones stayed different; others may still be pending.

        Waits up to `patience` seconds for pending minutes to be merged, and once the settle time for those that differ.
        """
        remaining, started = dict(unsettled), time.monotonic()
        title = f"{self._pipeline.name}: waiting for {len(remaining):,} minutes to be merged, or to differ again"
        with Bar(title, int(patience), unit="s") as bar:
            while remaining:
                is_last = time.monotonic() - started >= patience
                if is_last:
                    yield from [
                        remaining.pop(minute)
                        for minute, comparison in list(remaining.items())
                        if not _is_suspect(comparison)
                    ]
                due = self._due(remaining)
                if due and (not is_last or len(due) == len(remaining)):
                    yield from self._compare_due(remaining, due, is_last)
                bar.at(min(int(patience), int(time.monotonic() - started)))
                if remaining:
                    time.sleep(poll)

    def _due(self, remaining: Mapping[datetime, Comparison]) -> list[datetime]:
        clock = change_log.clock(self._lake)
        return [
            minute
            for minute, comparison in sorted(remaining.items())
            if not _is_suspect(comparison) or clock - comparison.clock >= self._pipeline.settle
        ]

    def _compare_due(
        self, remaining: dict[datetime, Comparison], due: list[datetime], is_last: bool
    ) -> Iterator[Comparison]:
        for chunk in slices(due, CHUNK):
            for minute, comparison in self.compare(chunk, {minute: remaining[minute] for minute in chunk}).items():
                earlier = remaining[minute]
                confirmed = (
                    _is_suspect(comparison) and _is_suspect(earlier) and comparison.known.mark == earlier.known.mark
                )
                if confirmed or not comparison.may_change or is_last:
                    del remaining[minute]
                    yield (
                        comparison
                        if confirmed or not _is_suspect(comparison)
                        else replace(comparison, state=MinuteState.PENDING)
                    )
                else:
                    remaining[minute] = comparison

    def _read_known(self, minutes: list[datetime]) -> dict[datetime, Known]:
        """Read cursors, ledger and change log, in this order: a poll or a touch in between then looks like a later one."""
        if not minutes:
            return {}
        cursors = ledger.read_cursors(self._conn, self._pipeline)
        rows: dict[datetime, dict] = {}
        for day_minutes in (list(group) for _, group in groupby(minutes, key=datetime.date)):
            rows |= ledger.ledger_of(self._conn, self._pipeline, day_minutes[0], day_minutes[-1] + MINUTE)
        days = change_log.changed_days(self._lake, self._pipeline.lake_table)
        due = set(ledger.days_to_read(days, cursors, self._pipeline.settle))
        touches: dict[datetime, object] = {}
        for day in {minute.date() for minute in minutes}:
            touches |= change_log.minutes_of_day(self._lake, self._pipeline.lake_table, day)
        return {minute: known_of(rows.get(minute), touches.get(minute), minute.date() in due) for minute in minutes}

    def _column(self, query: str, **binds) -> list:
        return read(self._conn, column, query, {"pipeline": self._pipeline.name, **binds})


def _is_suspect(comparison: Comparison) -> bool:
    return comparison.state is MinuteState.DIFFERENT
