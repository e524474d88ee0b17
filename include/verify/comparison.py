"""Decides what one comparison of a minute shows, without access to a store.

A minute that differs is only a suspicion until it is compared again; see minutes.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from include.pipelines import Pipeline
from include.verify.report import Finding, reread_remedy


class MinuteState(StrEnum):
    """What one comparison found for a minute. Only `different` and `unreadable` can become a difference."""

    SAME = "same"
    DIFFERENT = "different"
    PENDING = "pending"
    OPEN = "open"
    HELD = "held"
    CLOSED = "closed"
    UNREADABLE = "unreadable"


PURPOSES = {
    "unknown_to_ledger": "The change log has the minute, but the ledger does not, and no poll will read its day again.",
    "unannounced_rows": "The lake has rows in a minute that neither the ledger nor the change log knows.",
    "unread_rows": "The lake has rows that no read has counted, and no touch makes them pending.",
    "vanished_rows": "The lake no longer has all the rows that were read.",
    "other_rows": "The lake has as many rows as were read, but not the same ones.",
    MinuteState.UNREADABLE: "The lake has a partition of the minute that cannot be read. Everything else was verified.",
    MinuteState.PENDING: "Not yet read, or written again since: the next run reads it.",
    MinuteState.OPEN: "Not over yet: events are still being written.",
    MinuteState.HELD: "Held: what was published before stays.",
}


@dataclass(frozen=True)
class Known:
    """A minute in ledger and change log. `state` is None if the ledger has no row."""

    state: str | None = None
    pending: bool = False
    waiting: bool = False  # held until the other rows of its hour are read
    reason: str | None = None
    read: tuple[int, int] | None = None  # rows and id checksum of the last merged read
    fates: tuple[int, int, int] = (0, 0, 0)  # counted, ignored, rejected
    attempt: int | None = None
    seen: str | None = None  # the last touch that a poll has seen
    touched: str | None = None  # the last touch
    day_is_due: bool = False  # the next poll reads the touches of its day

    @property
    def is_due(self) -> bool:
        """Whether a run will read it without intervention."""
        return self.pending or (self.touched is not None and self.touched != self.seen and self.day_is_due)

    @property
    def mark(self) -> tuple:
        """A value that changes with any touch, with a poll that sees one, with any merge, and when a minute becomes held."""
        return (self.state, self.attempt, self.seen, self.touched)

    def agrees(self, in_lake: tuple[int, int]) -> bool:
        """Whether the last read found exactly these rows.

        A minute that has no rows and was never touched need not have been read.
        """
        if self.read is None:
            return in_lake == (0, 0) and self.touched is None and self.seen is None
        return in_lake == self.read


@dataclass(frozen=True)
class Comparison:
    """One comparison of a minute: what was known, the lake's rows (None: not counted), and the lake's clock afterwards."""

    minute: datetime
    state: MinuteState
    known: Known
    in_lake: tuple[int, int] | None
    clock: datetime
    unreadable: tuple[int, str] | None = None  # the shard that cannot be read, and why

    @property
    def may_change(self) -> bool:
        """Whether a later comparison may have another result that matters."""
        differs = self.in_lake is not None and not self.known.agrees(self.in_lake)
        return differs and self.state in (MinuteState.DIFFERENT, MinuteState.PENDING)


def classify(
    known: Known, in_lake: tuple[int, int] | None, *, is_open: bool, is_closed: bool, is_unreadable: bool
) -> MinuteState:
    """The state of a minute. Open, pending and held minutes are never different."""
    if is_closed or known.state == "closed":
        return MinuteState.CLOSED
    if known.state == "held" and not known.is_due:
        return MinuteState.HELD
    if is_unreadable:
        return MinuteState.UNREADABLE
    if is_open:
        return MinuteState.OPEN
    if known.is_due or in_lake is None:
        return MinuteState.PENDING
    return MinuteState.SAME if known.agrees(in_lake) else MinuteState.DIFFERENT


def kind_of(known: Known, in_lake: tuple[int, int]) -> str:
    """The name of a difference."""
    if known.state is None:
        return "unannounced_rows" if known.touched is None else "unknown_to_ledger"
    rows_read, rows_found = (known.read or (0, 0))[0], in_lake[0]
    if rows_found == rows_read and known.read is not None:
        return "other_rows"
    return "vanished_rows" if rows_found < rows_read else "unread_rows"


def known_of(row: dict | None, touched: object, day_is_due: bool) -> Known:
    """A minute, from its row of the ledger and its last touch in the change log; each may be None."""
    touched = str(touched) if touched else None
    if row is None:
        return Known(touched=touched, day_is_due=day_is_due)
    seen = row["seen_changed_at"]
    return Known(
        state=row["state"],
        pending=bool(row["pending"]),
        waiting=bool(row["waiting"]),
        reason=row["reason"],
        read=None if row["raw_rows"] is None else (row["raw_rows"], row["id_checksum"] or 0),
        fates=(row["counted_rows"] or 0, row["ignored_rows"] or 0, row["rejected_rows"] or 0),
        attempt=row["attempt"],
        seen=seen.decode() if isinstance(seen, bytes | bytearray) else seen,
        touched=touched,
        day_is_due=day_is_due,
    )


def finding_of(pipeline: Pipeline, comparison: Comparison) -> Finding:
    """The finding for a minute whose state is neither `same` nor `closed`."""
    known, name = comparison.known, pipeline.name
    if comparison.state is MinuteState.UNREADABLE and comparison.unreadable:
        shard, why = comparison.unreadable
        where = f"{pipeline.lake_table}, partition (minute {comparison.minute}, shard {shard})"
        return Finding(comparison.state.value, comparison.minute, where, _rows(known.read), {"rows": "unreadable"}, why)
    progress = f"{name}_minute reads it next" if known.is_due else "it changed while it was being read"
    reason = (known.reason or "No reason is kept").removesuffix(".")
    remedies = {
        MinuteState.PENDING: f"{progress}; then verify again",
        MinuteState.OPEN: "it is read when it is over; then verify again",
        MinuteState.HELD: reason
        if known.waiting
        else f"{reason}. Fix the cause, then {reread_remedy(name, comparison.minute)}",
    }
    kind = comparison.state.value
    remedy = remedies.get(comparison.state)
    if remedy is None:
        kind = kind_of(known, comparison.in_lake)  # ty: ignore[invalid-argument-type]
        remedy = reread_remedy(name, comparison.minute)
    if kind == "vanished_rows":
        shrink_remedy = reread_remedy(name, comparison.minute, shrink=True)
        remedy = f"bring the lost rows back into the lake; if they were removed on purpose, {shrink_remedy}"
    return Finding(kind, comparison.minute, "etl.minute_ledger", _rows(comparison.in_lake), _rows(known.read), remedy)


def _rows(counted: tuple[int, int] | None) -> dict[str, int]:
    return {} if counted is None else {"rows": counted[0], "id_checksum": counted[1]}
