"""Minutes of the lake against the ledger, beside a pipeline that goes on working: it only reads, both stores.

Ledger and lake have no common snapshot. A look reads the ledger and the change log, then counts the lake, then reads
both again where they differ. A difference that is found is only a suspicion: an event may be written whose touch is on
its way, or a batch may just merge. It counts when a look of at least the settle time later finds the minute different
again and neither touched nor merged in between: whatever was in the lake at the first look has been touched by then,
and such a touch would show.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum

from include.lake import change_log, counts
from include.operations.progress import Bar
from include.operations.recount.report import Finding, again
from include.pipelines import Pipeline
from include.warehouse import ledger

log = logging.getLogger(__name__)

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
CHUNK = 240  # minutes of one look
POLL = 2.0  # seconds between looks at minutes that are waited for


class Verdict(StrEnum):
    """What one look says of a minute. Only `different` can become a difference."""

    SAME = "same"
    DIFFERENT = "different"
    PENDING = "pending"
    OPEN = "open"
    HELD = "held"
    CLOSED = "closed"


PURPOSES = {
    "unknown_to_ledger": "The change log names the minute, the ledger does not, and no poll will look at its day again.",
    "unannounced_rows": "The lake has rows in a minute that neither the ledger nor the change log knows.",
    "unread_rows": "The lake has rows that no read has counted, and no touch that would bring them to the next run.",
    "vanished_rows": "The lake no longer has all the rows that were read.",
    "other_rows": "The lake has as many rows as were read, but not the same ones.",
    Verdict.PENDING: "Not yet read, or written again since: the next runs take them.",
    Verdict.OPEN: "Not over yet: events are still being written.",
    Verdict.HELD: "Held by a gate: what was published before stays.",
}


@dataclass(frozen=True)
class Known:
    """What ledger and change log say of a minute. `state` is None where the ledger has no row."""

    state: str | None = None
    pending: bool = False
    reason: str | None = None
    read: tuple[int, int] | None = None  # rows and id checksum of the last merged read
    fates: tuple[int, int, int] = (0, 0, 0)  # counted, ignored, rejected
    attempt: int | None = None
    seen: str | None = None  # the last touch that a poll has seen
    touched: str | None = None  # the last touch
    day_is_due: bool = False  # the next poll reads the touches of its day

    @property
    def waits(self) -> bool:
        """Whether a run is going to read it without anybody's doing."""
        return self.pending or (self.touched is not None and self.touched != self.seen and self.day_is_due)

    @property
    def mark(self) -> tuple:
        """Differs after any touch, poll, merge or hold."""
        return (self.state, self.attempt, self.seen, self.touched)

    def agrees(self, in_lake: tuple[int, int]) -> bool:
        """Whether the last read found just these rows. Nobody has read, and need not read, a minute without rows."""
        if self.read is None:
            return in_lake == (0, 0) and self.touched is None and self.seen is None
        return in_lake == self.read


@dataclass(frozen=True)
class Look:
    """One look at a minute: what was known, what the lake held (None: not counted), and the lake's clock afterwards."""

    minute: datetime
    verdict: Verdict
    known: Known
    in_lake: tuple[int, int] | None
    clock: datetime

    @property
    def settles(self) -> bool:
        """Whether a later look may say something else that matters."""
        differs = self.in_lake is not None and not self.known.agrees(self.in_lake)
        return differs and self.verdict in (Verdict.DIFFERENT, Verdict.PENDING)


def judge(known: Known, in_lake: tuple[int, int] | None, *, is_open: bool, is_closed: bool) -> Verdict:
    """What to make of a minute. The open minute, pending and held ones are never different."""
    if is_closed or known.state == "closed":
        return Verdict.CLOSED
    if known.state == "held" and not known.waits:
        return Verdict.HELD
    if is_open:
        return Verdict.OPEN
    if known.waits or in_lake is None:
        return Verdict.PENDING
    return Verdict.SAME if known.agrees(in_lake) else Verdict.DIFFERENT


def kind_of(known: Known, in_lake: tuple[int, int]) -> str:
    """The name of a difference."""
    if known.state is None:
        return "unannounced_rows" if known.touched is None else "unknown_to_ledger"
    rows_read, rows_found = (known.read or (0, 0))[0], in_lake[0]
    if rows_found == rows_read and known.read is not None:
        return "other_rows"
    return "vanished_rows" if rows_found < rows_read else "unread_rows"


class Minutes:
    """Looks at minutes of one pipeline. `opened` is the minute that was open when the recount began."""

    def __init__(self, pipeline: Pipeline, lake_session, conn) -> None:
        self._pipeline, self._lake, self._conn = pipeline, lake_session, conn
        self._opened = change_log.clock(lake_session).replace(second=0, microsecond=0)

    def days(self) -> list[date]:
        """Every day that the change log, the ledger, contributions or rejected events have a minute of."""
        found = set(change_log.changed_days(self._lake, self._pipeline.lake_table))
        kept = "SELECT DISTINCT minute FROM {table} WHERE pipeline = %(pipeline)s AND minute IS NOT NULL"
        sources = [kept.format(table="etl.minute_ledger"), kept.format(table="etl.rejected_events")]
        sources += [f"SELECT DISTINCT minute FROM {output.contributions}" for output in self._pipeline.outputs]
        for source in sources:
            found.update(self._column(f"SELECT DISTINCT DATE(m.minute) FROM ({source}) AS m"))
        return sorted(found)

    def of_day(self, day: date) -> list[datetime]:
        """The minutes of that day that the change log, the ledger or contributions have."""
        start = datetime(day.year, day.month, day.day)
        found = set(change_log.minutes_of_day(self._lake, self._pipeline.lake_table, day))
        within = "minute >= %(start)s AND minute < %(end)s"
        sources = [f"etl.minute_ledger WHERE pipeline = %(pipeline)s AND {within}"]
        sources += [f"{output.contributions} WHERE {within}" for output in self._pipeline.outputs]
        for source in sources:
            found.update(self._column(f"SELECT DISTINCT minute FROM {source}", start=start, end=start + DAY))
        return sorted(found)

    def contributions(self, start: datetime, end: datetime) -> int:
        """Stored contributions of the minutes from `start` until before `end`."""
        within = "minute >= %(start)s AND minute < %(end)s"
        return sum(
            self._column(f"SELECT COUNT(*) FROM {output.contributions} WHERE {within}", start=start, end=end)[0]
            for output in self._pipeline.outputs
        )

    def look(self, minutes: Iterable[datetime], earlier: Mapping[datetime, Look] | None = None) -> dict[datetime, Look]:
        """A look at each minute. With `earlier` looks the lake is counted only where it could settle something."""
        minutes = sorted(minutes)
        before, clock = self._known(minutes), change_log.clock(self._lake)
        wanted = [
            minute
            for minute in minutes
            if not self._is_closed(minute, clock) and not (earlier and before[minute].waits)
        ]
        in_lake = counts.minute_counts(self._lake, self._pipeline, wanted)
        clock = change_log.clock(self._lake)
        after = before | self._known([one for one in wanted if not before[one].agrees(in_lake[one])])
        looks = {}
        for minute in minutes:
            known, found = after[minute], in_lake.get(minute)
            verdict = judge(
                known, found, is_open=self._is_open(minute, clock), is_closed=self._is_closed(minute, clock)
            )
            if verdict is Verdict.DIFFERENT and known.mark != before[minute].mark:
                verdict = Verdict.PENDING  # it was counted for another read than this: evidence of nothing
            if found is None and earlier and minute in earlier:
                found = earlier[minute].in_lake
            looks[minute] = Look(minute, verdict, known, found, clock)
        return looks

    def settled(self, unsettled: Mapping[datetime, Look], patience: float, poll: float = POLL) -> Iterator[Look]:
        """The last look at each of these minutes. `different` are those that stayed so; the others may be pending yet.

        Waits up to `patience` seconds for pending ones to be merged, and once the settle time for those that differ.
        """
        left, begun = dict(unsettled), time.monotonic()
        title = f"{self._pipeline.name}: waiting for {len(left):,} minutes to be merged, or to differ again"
        with Bar(title, int(patience), unit="s") as bar:
            while left:
                is_last = time.monotonic() - begun >= patience
                if is_last:
                    yield from [left.pop(minute) for minute, look in list(left.items()) if not _is_suspect(look)]
                due = self._due(left)
                if due and (not is_last or len(due) == len(left)):
                    yield from self._look_again(left, due, is_last)
                bar.at(min(int(patience), int(time.monotonic() - begun)))
                if left:
                    time.sleep(poll)

    def _due(self, left: Mapping[datetime, Look]) -> list[datetime]:
        clock = change_log.clock(self._lake)
        return [
            minute
            for minute, look in sorted(left.items())
            if not _is_suspect(look) or clock - look.clock >= self._pipeline.settle
        ]

    def _look_again(self, left: dict[datetime, Look], due: list[datetime], is_last: bool) -> Iterator[Look]:
        for chunk in chunks(due):
            for minute, look in self.look(chunk, {minute: left[minute] for minute in chunk}).items():
                earlier = left[minute]
                confirmed = _is_suspect(look) and _is_suspect(earlier) and look.known.mark == earlier.known.mark
                if confirmed or not look.settles or is_last:
                    del left[minute]
                    yield look if confirmed or not _is_suspect(look) else replace(look, verdict=Verdict.PENDING)
                else:
                    left[minute] = look

    def finding(self, look: Look) -> Finding:
        """What to say of a minute that is not the same."""
        known, name = look.known, self._pipeline.name
        remedies = {
            Verdict.PENDING: f"{name}_minute reads it next; verify again then",
            Verdict.OPEN: "it is read when it is over; verify again then",
            Verdict.HELD: f"{known.reason or 'no reason is kept'}; mend it, then {again(name, look.minute)}",
        }
        kind = look.verdict.value
        remedy = remedies.get(look.verdict)
        if remedy is None:
            kind = kind_of(known, look.in_lake)
            remedy = again(name, look.minute)
        if kind == "vanished_rows":
            shrunk = again(name, look.minute, shrink=True)
            remedy = f"bring the lost rows back into the lake; if they are gone on purpose, {shrunk}"
        return Finding(kind, look.minute, "etl.minute_ledger", _rows(look.in_lake), _rows(known.read), remedy)

    def _known(self, minutes: list[datetime]) -> dict[datetime, Known]:
        """Ledger first, then the change log: a touch in between is a touch that no poll has seen."""
        if not minutes:
            return {}
        rows: dict[datetime, dict] = {}
        for first, last in _runs_of_days(minutes):
            rows |= ledger.ledger_of(self._conn, self._pipeline, first, last + MINUTE)
        cursors = ledger.read_cursors(self._conn, self._pipeline)
        days = change_log.changed_days(self._lake, self._pipeline.lake_table)
        due = set(ledger.days_to_drill(days, cursors, self._pipeline.settle))
        touches: dict[datetime, object] = {}
        for day in {minute.date() for minute in minutes}:
            touches |= change_log.minutes_of_day(self._lake, self._pipeline.lake_table, day)
        return {
            minute: _known(rows.get(minute), touches.get(minute), minute.date() in due)
            for minute in minutes
        }  # fmt: skip

    def _is_open(self, minute: datetime, clock: datetime) -> bool:
        return self._opened <= minute <= clock + self._pipeline.future_tolerance

    def _is_closed(self, minute: datetime, clock: datetime) -> bool:
        retention = self._pipeline.lake_retention
        return retention is not None and minute < clock - retention

    def _column(self, query: str, **binds) -> list:
        cursor = self._conn.cursor()
        cursor.execute(query, {"pipeline": self._pipeline.name, **binds})
        found = [row[0] for row in cursor.fetchall()]
        self._conn.rollback()
        return found


def chunks(minutes: list[datetime]) -> Iterator[list[datetime]]:
    """The minutes in order, at most CHUNK at a time."""
    for start in range(0, len(minutes), CHUNK):
        yield minutes[start : start + CHUNK]


def _known(row: dict | None, touched, day_is_due: bool) -> Known:
    touched = str(touched) if touched else None
    if row is None:
        return Known(touched=touched, day_is_due=day_is_due)
    seen = row["seen_changed_at"]
    return Known(
        state=row["state"],
        pending=bool(row["pending"]),
        reason=row["reason"],
        read=None if row["raw_rows"] is None else (row["raw_rows"], row["id_checksum"] or 0),
        fates=tuple(row[name] or 0 for name in ("counted_rows", "ignored_rows", "rejected_rows")),
        attempt=row["attempt"],
        seen=seen.decode() if isinstance(seen, bytes | bytearray) else seen,
        touched=touched,
        day_is_due=day_is_due,
    )


def _runs_of_days(minutes: list[datetime]) -> Iterator[tuple[datetime, datetime]]:
    """First and last minute of each day among them: one range of the ledger a day, whatever lies between the days."""
    first = last = minutes[0]
    for minute in minutes[1:]:
        if minute.date() != first.date():
            yield first, last
            first = minute
        last = minute
    yield first, last


def _is_suspect(look: Look) -> bool:
    return look.verdict is Verdict.DIFFERENT


def _rows(counted: tuple[int, int] | None) -> dict[str, int]:
    return {} if counted is None else {"rows": counted[0], "id_checksum": counted[1]}
