"""Reprocesses rejected events after a rule or a row has been fixed.

`./minutemark reprocess` and the DAG minutemark_replay call this.

Rows of the lake are read again with their whole minutes, which a merge replaces; rows of imports and topics go through
the import's admission and writer. If reprocessing is killed, start it again: every row counts once.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from operator import itemgetter

from include import pipelines, planner
from include.chunks import chunks
from include.connections import LAKE_READER, LAKE_WRITER, WAREHOUSE_ETL, endpoint
from include.durations import EPOCH, MICROSECOND
from include.errors import MinutemarkError
from include.files.readers import StoredEvents
from include.lake import change_log
from include.lake.admission import NotAdmitted
from include.lake.keys import minute_of, shard_of, short_id
from include.lake.presence import Presence
from include.lake.schema import check_table
from include.lake.session import lake, translate_errors
from include.lake.writer import Event, EventWriter, event_id
from include.pipelines import Pipeline
from include.progress_log import Bar
from include.warehouse import ledger, rejected
from include.warehouse.rejected import Selection
from include.warehouse.session import warehouse
from include.window import in_order

_ROWS_PER_CHUNK = 1_000
_CHARACTERS_PER_CHUNK = 8_000_000
_PAUSE = 2.0
PATIENCE = 600.0  # seconds without a merged minute
_COUNTS = ("raw_rows", "counted_rows", "ignored_rows")


class ReprocessingStalled(MinutemarkError):
    """No minute was merged for a long time; nothing is lost, and the next runs process the pending minutes."""


@dataclass
class Reprocessing:
    """A reprocessing that has started: its rows by minute, and the ledger's counts of these minutes before it started."""

    pipeline: Pipeline
    keys: dict[datetime, set[str]] = field(default_factory=dict)  # origin keys, as the lake's rejected events have them
    before: dict[datetime, tuple[int, ...]] = field(default_factory=dict)  # _COUNTS of the ledger
    started_at: datetime | None = None  # clock of the lake, after the last touch: a later read sees everything
    written: int = 0  # rows of imports and topics that are in the lake now
    refused: int = 0  # rows of imports and topics that stay rejected
    unreadable: int = 0  # rows that stay rejected, because their partition of the lake cannot be read

    @property
    def rows(self) -> int:
        return sum(map(len, self.keys.values()))


def begin(pipeline: Pipeline, selection: Selection, report: Callable[[str], object] = print) -> Reprocessing:
    """Make the minutes of the selected rejected events pending; write to the lake the imported rows that are now admitted.

    `report` first receives the plan. Returns when the next run can take the minutes.
    """
    reprocessing = Reprocessing(pipeline)
    with lake(LAKE_READER) as lookup, lake(LAKE_WRITER) as session, warehouse(WAREHOUSE_ETL) as conn:
        clock = change_log.clock(session)
        keys = rejected.lake_keys(conn, pipeline, selection)
        closed = _closed_minutes(conn, pipeline, keys, clock)
        imported, dimension_rows = rejected.rows_to_reprocess(conn, pipeline, selection)
        to_read = {minute: keys_of_minute for minute, keys_of_minute in keys.items() if minute not in closed}
        report(_plan(pipeline, to_read, len(imported)))
        for line in _skip_notes(pipeline, sum(len(keys[minute]) for minute in closed), dimension_rows):
            report(line)
        if not to_read and not imported:
            report(_reasons(conn, pipeline, selection))
            return reprocessing
        if imported:
            _write_imports(session, lookup, conn, reprocessing, imported, clock)
            report(
                f"{reprocessing.written} rows of imports and topics are in the lake now; {reprocessing.refused} stay rejected."
            )
            if reprocessing.unreadable:
                report(
                    f"{reprocessing.unreadable} more rows stay rejected, because their partitions of {pipeline.lake_table} "
                    "cannot be read. Read the log of the lake's nodes, then run the command again."
                )
        _remember_counts(conn, reprocessing, to_read)
        for minute, keys_of_minute in to_read.items():
            reprocessing.keys.setdefault(minute, set()).update(keys_of_minute)
        # Touched in the change log, because a run that started earlier, with the old rule, would overwrite a mark in the ledger.
        change_log.touch(session, pipeline.lake_table, to_read)
        reprocessing.started_at = change_log.clock(session)
    with lake(LAKE_READER) as session, warehouse(WAREHOUSE_ETL) as conn:
        planner.poll(pipeline, session, conn)
    return reprocessing


def follow(reprocessing: Reprocessing, *, patience: float = PATIENCE, pause: float = _PAUSE) -> str:
    """Wait until every minute is merged, held or closed; returns the outcome as text. Raises ReprocessingStalled."""
    if not reprocessing.keys:
        return "There is nothing to wait for."
    waiting, last_progress = set(reprocessing.keys), time.monotonic()
    with (
        warehouse(WAREHOUSE_ETL) as conn,
        Bar(f"minutes of {reprocessing.pipeline.name} merged", len(waiting), unit="minute") as bar,
    ):
        while True:
            ledger_rows = ledger.rows_of(conn, reprocessing.pipeline, waiting)
            rest = {minute for minute in waiting if not _is_finished(ledger_rows.get(minute), reprocessing.started_at)}  # ty: ignore[invalid-argument-type]
            if rest != waiting:
                last_progress = time.monotonic()
            waiting = rest
            bar.at(len(reprocessing.keys) - len(waiting))
            if not waiting:
                return outcome(conn, reprocessing)
            if time.monotonic() - last_progress > patience:
                raise ReprocessingStalled(
                    f"{len(waiting)} of {len(reprocessing.keys)} minutes are still pending, and none was merged for "
                    f"{patience:.0f} s. Check that the DAG {reprocessing.pipeline.name}_minute is not paused and does not "
                    "fail. Nothing is lost: its next runs process them."
                )
            time.sleep(pause)


def outcome(conn, reprocessing: Reprocessing) -> str:
    """The outcome of the rows as text, when all their minutes are merged, held or closed."""
    ledger_rows = ledger.rows_of(conn, reprocessing.pipeline, reprocessing.keys)
    merged = {minute: keys for minute, keys in reprocessing.keys.items() if ledger_rows[minute]["state"] == "merged"}
    total = sum(map(len, merged.values()))
    still_rejected = rejected.still_rejected(conn, reprocessing.pipeline, merged)
    _, counted, ignored = (
        sum((ledger_rows[minute][name] or 0) - reprocessing.before[minute][number] for minute in merged)
        for number, name in enumerate(_COUNTS)
    )
    passed = total - still_rejected
    if min(counted, ignored) >= 0 and counted + ignored == passed:
        fates = f"{counted} counted, {ignored} ignored, {still_rejected} still rejected"
    else:  # other rows of these minutes were added, removed or changed their fate: the ledger does not distinguish them
        fates = f"{passed} counted or ignored, {still_rejected} still rejected"
    lines = [f"{total} rows of {len(merged)} minutes were processed: {fates}."]
    for state, note in (
        ("held", "`./minutemark held` says why"),
        ("closed", "the lake may no longer have all of their events"),
    ):
        minutes = sorted(minute for minute in reprocessing.keys if ledger_rows[minute]["state"] == state)
        if minutes:
            rows = sum(len(reprocessing.keys[minute]) for minute in minutes)
            lines.append(f"{rows} rows are in {len(minutes)} minutes that are {state}, {_span(minutes)}: {note}.")
    if reprocessing.refused:
        lines.append(
            f"{reprocessing.refused} rows of imports and topics were refused again: `./minutemark rejected` says why."
        )
    return "\n".join(lines)


@dataclass(frozen=True)
class ReprocessResult:
    """The result of reprocessing; `str()` describes it."""

    text: str
    rows: int = 0
    minutes: frozenset[datetime] = frozenset()
    written: int = 0
    refused: int = 0

    def __str__(self) -> str:
        return self.text


def run_reprocess(
    pipeline: str,
    reason: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    wait: bool = True,
    *,
    report: Callable[[str], object] = print,
) -> ReprocessResult:
    """Reprocess rejected events; `report` receives the plan. Raises ReprocessingStalled.

    With `wait`, returns once their minutes are merged, held or closed.
    """
    selection = Selection((reason or "").strip() or None, *in_order(start, end))
    started = begin(pipelines.get(pipeline), selection, report)
    if not started.keys:
        return ReprocessResult("", refused=started.refused)
    text = follow(started) if wait else f"The next runs of {pipeline}_minute process these minutes."
    return ReprocessResult(text, started.rows, frozenset(started.keys), started.written, started.refused)


def _write_imports(
    session, lookup, conn, reprocessing: Reprocessing, imported: Iterable[tuple[int, int]], clock: datetime
) -> None:
    """For each chunk, write the events and touch their minutes, and only then delete the rows: a kill loses nothing.

    The events are written as of the time when they were refused: a later version that the lake has by now stays. A deletion
    since then would hide such a write, so a deleted event is written as of now, and so are its later versions.
    """
    pipeline = reprocessing.pipeline
    check_table(session, pipeline)
    reader, writer, as_of, now = StoredEvents(pipeline, clock), EventWriter(session, pipeline), 0, 0
    deleted: set[tuple[uuid.UUID, str]] = set()
    with translate_errors(endpoint(LAKE_READER)):
        presence = Presence(lookup, pipeline)
    for chunk in chunks(imported, itemgetter(1), _ROWS_PER_CHUNK, _CHARACTERS_PER_CHUNK):
        events, times, accepted, refused = [], [], [], []
        for row in rejected.read_rows(conn, [rejected_id for rejected_id, _ in chunk]):
            try:
                events.append(reader.read(row["payload"], row["reason"]))
                times.append((row["rejected_at"] - EPOCH) // MICROSECOND)
                accepted.append(row["rejected_id"])
            except NotAdmitted as error:
                refused.append((row["rejected_id"], str(error), error.minute or row["minute"]))
        _remember_counts(conn, reprocessing, {minute_of(event.create_time) for event in events})
        for rejected_at, same_time in groupby(zip(times, events, strict=True), itemgetter(0)):
            as_of = max(rejected_at, as_of + 1)  # rows of one time may be in several chunks: the later version wins
            writer.write((event for _, event in same_time), as_of=as_of)
        # Before the query: a version that is written in the meantime wins.
        now = max(change_log.write_clock(session), now + 1)
        unreadable: list[Event] = []
        with translate_errors(endpoint(LAKE_READER)):
            absent = presence.absent(events, lambda unread, _, unreadable=unreadable: unreadable.extend(unread))
        deleted |= set(map(presence.key_of, absent))
        writer.write((event for event in events if presence.key_of(event) in deleted), as_of=now)
        # Whether they are deleted is unknown, so they stay rejected.
        accepted = [rejected_id for rejected_id, event in zip(accepted, events, strict=True) if event not in unreadable]
        reprocessing.unreadable += len(events) - len(accepted)
        rejected.record_outcomes(conn, accepted, refused)
        for event in events:
            reprocessing.keys.setdefault(minute_of(event.create_time), set()).add(_origin_key(pipeline, event))
        reprocessing.written += len(accepted)
        reprocessing.refused += len(refused)


def _remember_counts(conn, reprocessing: Reprocessing, minutes: Iterable[datetime]) -> None:
    """Keep the ledger's counts of these minutes before they are touched."""
    new_minutes = set(minutes) - reprocessing.before.keys()
    ledger_rows = ledger.rows_of(conn, reprocessing.pipeline, new_minutes)
    for minute in new_minutes:
        row = ledger_rows.get(minute, {})
        reprocessing.before[minute] = tuple(row.get(name) or 0 for name in _COUNTS)


def _origin_key(pipeline: Pipeline, event: Event) -> str:
    """The origin key that include/spark/staging.py writes if this event is rejected."""
    identity = event_id(pipeline, event)
    shard = shard_of(identity, pipeline.shards)
    parts = [f"{minute_of(event.create_time):%Y-%m-%dT%H:%MZ}", str(shard), str(event.create_time)]
    return "/".join(parts if pipeline.event_id == "create_time" else [*parts, short_id(identity)])


def _is_finished(row: dict | None, started_at: datetime) -> bool:
    if row is None:
        return False
    if row["state"] == "merged":
        return row["read_at"] is not None and row["read_at"] >= started_at
    # A touch makes a held minute pending until it is read.
    return row["state"] in ("held", "closed") and not row["pending"]


def _closed_minutes(conn, pipeline: Pipeline, minutes: Iterable[datetime], clock: datetime) -> set[datetime]:
    """Closed minutes among these, which no run may read again: the lake may no longer have all of their events."""
    closed = {minute for minute, row in ledger.rows_of(conn, pipeline, minutes).items() if row["state"] == "closed"}
    return closed | {minute for minute in minutes if pipeline.is_closed(minute, clock)}


def _plan(pipeline: Pipeline, to_read: dict[datetime, set[str]], imported: int) -> str:
    parts = []
    if to_read:
        total = sum(map(len, to_read.values()))
        parts.append(
            f"{total} rejected rows of {len(to_read)} minutes, {_span(to_read)}, are read again with their minutes"
        )
    if imported:
        parts.append(f"{imported} rows of imports and topics are validated again")
    return f"{pipeline.name}: {'; '.join(parts)}." if parts else f"{pipeline.name}: there is nothing to reprocess."


def _skip_notes(pipeline: Pipeline, closed: int, dimension_rows: int) -> Iterator[str]:
    if closed:
        yield (
            f"{closed} rows stay rejected: their minutes are closed, because the lake may no longer have all of their events."
        )
    if dimension_rows:
        names = ", ".join(dimension.name for dimension in pipeline.dimensions)
        yield (
            f"{dimension_rows} rows stay rejected: they come from dimension files ({names}). "
            "Fix the file and import it again."
        )


def _reasons(conn, pipeline: Pipeline, selection: Selection) -> str:
    groups = rejected.by_reason(conn, [pipeline], Selection(), payloads=False)
    listed = "; ".join(f"{group['rows']} x {group['origin']}: {group['reason']}" for group in groups[:10])
    condition = f" with a reason that begins with {selection.reason!r}" if selection.reason else ""
    if selection.start or selection.end:
        condition += " in these minutes"
    return f"No rejected events{condition} can be reprocessed. Rejected in {pipeline.name}: {listed or 'nothing'}."


def _span(minutes: Iterable[datetime]) -> str:
    first, last = min(minutes), max(minutes)
    return f"{first:%Y-%m-%d %H:%M}" + (f" to {last:%Y-%m-%d %H:%M}" if first != last else "")
