"""Drift in the warehouse: the counts that a gate compares, drift on record, and acceptances, which are kept permanently."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from include.durations import MINUTE
from include.errors import MinutemarkError
from include.pipelines import Pipeline
from include.warehouse.drift import (
    APPEARED,
    DAY,
    DISAPPEARED,
    IGNORED,
    MIN_ROWS,
    UNREADABLE,
    Drift,
    DriftFinding,
    DriftFindings,
    MinuteFields,
    Records,
    Return,
    find,
)  # fmt: skip
from include.warehouse.gate_verdict import CheckOutcome
from include.warehouse.held import RELEASED
from include.warehouse.lengths import LONGEST_NAME, LONGEST_REASON
from include.warehouse.pipeline_lock import lock
from include.warehouse.session import execute, in_transaction, reading, rows, server_time
from include.warehouse.statements import Statements

sql = Statements(__file__)

# The check for each kind of drift: its name, and the rule that it checks.
CHECKS = {
    DISAPPEARED: (
        "staging_field_disappeared",
        "No minute of at least 100 rows lacks a field that more than 5 % of the rows of the day before had, "
        "unless chance or a burst can explain it.",
    ),
    UNREADABLE: (
        "staging_field_unreadable",
        "In a minute of at least 100 rows that has at least 20 values of a declared number or time, at most 20 % of these are "
        "unreadable, if at most 5 % of the field's values were unreadable the day before.",
    ),
    IGNORED: (
        "staging_ignored_share",
        "No minute of at least 100 rows has so many ignored rows that the others are fewer than a quarter of the usual number.",
    ),
    APPEARED: ("staging_unknown_field", "No event has a field that is neither declared nor accepted."),
}
NEW_FIELDS = (
    "staging_new_field",
    "No event has a field that the pipeline does not declare; reported once for each name.",
)
KINDS = tuple(CHECKS)
_SAMPLE = 10
_MAX_NAMED = 3  # findings in the reason of a minute
_MAX_NEW = 500  # undeclared fields on record: a producer that invents names must not fill the table


class AcceptanceRefused(MinutemarkError):
    """An acceptance that would accept nothing; the message says what is open instead."""


@dataclass(frozen=True)
class Accepted:
    """The result of an acceptance; `str()` describes it."""

    pipeline: str
    by: str
    drifts: tuple[tuple[str, str, datetime], ...]  # kind, field, first minute
    minutes: int

    def __str__(self) -> str:
        listed = "; ".join(f"{field} {kind}, since {minute:%Y-%m-%d %H:%M}" for kind, field, minute in self.drifts)
        waiting = (
            f" Held minutes that the next run of {self.pipeline}_minute reads again: {self.minutes}. "
            "Other checks may still hold them."
            if self.minutes
            else ""
        )
        return f"Accepted by {self.by}: {listed}. This drift no longer holds minutes.{waiting}"


def find_in_attempt(conn, pipeline: Pipeline, attempt: int) -> DriftFindings:
    """The drift in the minutes of this attempt."""
    with reading(conn) as cursor:
        staged = execute(cursor, sql("staged_fields"), {"attempt": attempt}).fetchall()
        batch = [MinuteFields.read(*row) for row in staged]
        on_record = recorded_drifts(cursor, pipeline)
        checked = [fields.minute for fields in batch if fields.rows >= MIN_ROWS]
        history = [fields for start, end in _days_before(checked) for fields in _history(cursor, pipeline, start, end)]
    return find(pipeline, batch, history, on_record)


def recorded_drifts(cursor, pipeline: Pipeline) -> list[Drift]:
    """The pipeline's drift on record, in the order in which it was recorded."""
    return [Drift(*row) for row in execute(cursor, sql("known"), {"pipeline": pipeline.name}).fetchall()]


def outcomes(pipeline: Pipeline, findings: DriftFindings, on_record: Sequence[Drift]) -> list[CheckOutcome]:
    """The findings as results of checks, without accepted drift."""
    accepted = [drift for drift in on_record if drift.accepted_by]
    unaccepted = [finding for finding in findings.drifting if not Records(accepted).covering(finding)]
    results = [
        _outcome(pipeline, name, purpose, "fail", [finding for finding in unaccepted if finding.kind == kind])
        for kind, (name, purpose) in CHECKS.items()
    ]
    return [*results, _outcome(pipeline, *NEW_FIELDS, "warn", findings.new_fields)]


def record(
    cursor, pipeline: Pipeline, findings: DriftFindings, held: Iterable[datetime], on_record: Sequence[Drift]
) -> None:
    """Record drift that holds minutes, new fields and returned fields, without a commit. Take the pipeline's lock first."""
    held = set(held)
    records = Records(on_record)
    texts: dict[tuple[str, str, datetime], DriftFinding] = {}
    allowed = _MAX_NEW - sum(drift.kind == APPEARED for drift in on_record)
    for event in sorted((*findings.drifting, *findings.returned), key=lambda entry: entry.minute):
        if isinstance(event, Return):
            records.end(event)
        elif event.minute in held or records.covering(event):
            records.note(event)
            texts[event.kind, event.field, event.minute] = event
    for finding in findings.new_fields[: max(allowed, 0)]:
        records.note(finding)
        texts[finding.kind, finding.field, finding.minute] = finding
    for drift in records.drifts:
        if drift.drift_id is None:
            _insert(cursor, pipeline, drift, texts[drift.kind, drift.field, drift.first_minute])
        elif drift not in on_record:
            cursor.execute(
                sql("update"),
                {
                    "first": drift.first_minute,
                    "last": drift.last_minute,
                    "ended": drift.ended_minute,
                    "id": drift.drift_id,
                },
            )


def needs_lock(findings: DriftFindings) -> bool:
    """Whether `record` may have something to write."""
    return bool(findings.drifting or findings.new_fields or findings.returned)


def accept(
    conn,
    pipeline: Pipeline,
    field: str,
    kind: str | None,
    *,
    by: str,
    reason: str | None = None,
    drift_id: int | None = None,
) -> Accepted:
    """Accept the drift of a field, of one `kind` or of every kind, under the pipeline's lock. Raises AcceptanceRefused.

    Held minutes that show it become pending, and their other checks decide about them. With a `drift_id`, only that record is
    accepted: the one that the user has seen.
    """
    by = by.strip()[:LONGEST_NAME] or "somebody"

    def work(cursor) -> Accepted:
        lock(cursor, pipeline)
        open_drifts = [
            drift
            for drift in recorded_drifts(cursor, pipeline)
            if not drift.accepted_by and kind in (None, drift.kind) and drift_id in (None, drift.drift_id)
        ]
        # Spaces around the name are a typing error, unless a producer sends such a name.
        named = ([drift for drift in open_drifts if drift.field == name] for name in (field, field.strip()))
        accepted = next(filter(None, named), [])
        if not accepted:
            raise AcceptanceRefused(_nothing_open(cursor, pipeline, field, kind, drift_id))
        minutes = 0
        for drift in accepted:
            cursor.execute(
                sql("accept"),
                {
                    "by": by,
                    "reason": (reason or "").strip()[:LONGEST_REASON] or None,
                    "id": drift.drift_id,
                },
            )
            minutes += _make_pending(cursor, pipeline, drift)
        return Accepted(
            pipeline.name, by, tuple((entry.kind, entry.field, entry.first_minute) for entry in accepted), minutes
        )

    return in_transaction(conn, work)


def listed(conn, pipelines: Iterable[Pipeline], limit: int = 200) -> list[dict]:
    """Each pipeline's drift on record, at most `limit`, the newest first: drift_id, pipeline, kind, field, status,
    first_minute, minute_rows, description, found_at, accepted_by, accepted_at, reason and ended_minute.

    Status: open, accepted, ended (the field is back), or reported (an undeclared field that holds no minutes).
    """
    entries = []
    with reading(conn) as cursor:
        for pipeline in pipelines:
            binds = {"pipeline": pipeline.name, "policy": pipeline.unknown_fields, "limit": limit}
            entries += rows(cursor, sql("listed"), binds)
    return entries


def _outcome(
    pipeline: Pipeline, name: str, purpose: str, severity: str, findings: Sequence[DriftFinding]
) -> CheckOutcome:
    by_minute: dict[datetime, list[DriftFinding]] = {}
    for finding in findings:
        by_minute.setdefault(finding.minute, []).append(finding)
    sample = [
        {"minute": finding.minute, "field": finding.field, "rows": finding.rows, "found": finding.text}
        for finding in findings[:_SAMPLE]
    ]
    reasons = {minute: _reason(pipeline, minute_findings) for minute, minute_findings in by_minute.items()}
    result = severity if findings else "pass"
    minutes = frozenset(by_minute) if findings else None
    return CheckOutcome(name, severity, result, len(findings), sample, minutes, purpose, reasons)


def _reason(pipeline: Pipeline, findings: Sequence[DriftFinding]) -> str:
    """The drift in a minute, and what to do."""
    others = len(findings) - _MAX_NAMED
    more = f" Other fields that drift: {others}." if others > 0 else ""
    texts = " ".join(finding.text for finding in findings[:_MAX_NAMED])
    commands = " or ".join(f"./minutemark accept {pipeline.name} {finding.field}" for finding in findings[:_MAX_NAMED])
    return f"{texts}{more} Fix the producer, or: {commands}"


def _insert(cursor, pipeline: Pipeline, drift: Drift, first: DriftFinding) -> None:
    cursor.execute(
        sql("insert"),
        (
            pipeline.name, drift.kind, drift.field, drift.first_minute, drift.last_minute, drift.ended_minute, first.rows,
            drift.usual, first.text[:LONGEST_REASON],
        ))  # fmt: skip


def _make_pending(cursor, pipeline: Pipeline, drift: Drift) -> int:
    """Make held minutes pending if the drift covers them and they failed the check of its kind."""
    first_open = pipeline.first_open(server_time(cursor))  # closed minutes stay as they are
    binds = {
        "pipeline": pipeline.name,
        "released": RELEASED,
        "start": max(drift.first_minute - DAY, first_open),
        "end": drift.ended_minute or datetime(9999, 12, 31),
        "check": f'%"{CHECKS[drift.kind][0]}"%',
    }
    return execute(cursor, sql("make_pending"), binds).rowcount


def _nothing_open(cursor, pipeline: Pipeline, field: str, kind: str | None, drift_id: int | None) -> str:
    names = sorted({(drift.field, drift.kind) for drift in recorded_drifts(cursor, pipeline) if not drift.accepted_by})
    shown = ", ".join(f"{name} ({kind})" for name, kind in names[:20])
    instead = f"Drift to accept: {shown}." if names else f"{pipeline.name} has no open drift."
    chosen = f" ({kind})" if kind else ""
    record = f" in record {drift_id}" if drift_id is not None else ""
    return f"No drift of field {field!r}{chosen} of {pipeline.name}{record} waits to be accepted. {instead}"


def _history(cursor, pipeline: Pipeline, start: datetime, end: datetime) -> Iterator[MinuteFields]:
    binds = {"pipeline": pipeline.name, "start": start, "end": end}
    return (MinuteFields.read(*row) for row in execute(cursor, sql("history"), binds).fetchall())


def _days_before(minutes: Sequence[datetime]) -> list[tuple[datetime, datetime]]:
    """The ranges, end excluded, that contain the day before each of these minutes."""
    ranges: list[tuple[datetime, datetime]] = []
    for minute in minutes:
        start, end = minute - DAY, minute + MINUTE
        if ranges and start <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], end)
        else:
            ranges.append((start, end))
    return ranges
