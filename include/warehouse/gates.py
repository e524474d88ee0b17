"""Gates: every check of a gate runs and is stored. Minutes that break a check by themselves are held; the rest passes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from include import pipelines
from include.pipelines import Pipeline
from include.warehouse import batches, ledger
from include.warehouse.batches import Batch
from include.warehouse.errors import BatchRefused
from include.warehouse.session import in_transaction, rows
from include.warehouse.sql import Check, checks

STAGING, WAREHOUSE = "staging", "warehouse"
_SAMPLE = 5  # offending rows that are kept


@dataclass(frozen=True)
class CheckOutcome:
    """What one check found."""

    check: str
    severity: str
    outcome: str  # pass, warn or fail
    offending_rows: int
    sample: list[dict]
    minutes: frozenset[datetime] | None  # that it blames; None for a check that names none
    purpose: str

    def __str__(self) -> str:
        first = f"; first: {_json(self.sample[0])}" if self.sample else ""
        return f"{self.outcome:4} {self.check}: {self.offending_rows} offending rows{first}"


@dataclass(frozen=True)
class GateResult:
    """The verdict; str() is the report for the task's log."""

    batch_id: int
    gate: str
    attempt: int | None
    passed: bool
    outcomes: tuple[CheckOutcome, ...] = ()
    held: tuple[datetime, ...] = ()
    skipped: tuple[datetime, ...] = ()
    message: str = ""

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "FAILED"
        lines = [f"Gate {self.gate} {verdict} for batch {self.batch_id}, attempt {self.attempt}.", self.message]
        lines += [str(outcome) for outcome in self.outcomes]
        return "\n".join(line for line in lines if line)


def run_gate(conn, batch_id: int, gate: str) -> GateResult:
    """Run the gate's checks, store their results, and act on them. Raises BatchRefused when there is nothing to judge.

    staging: holds the minutes that failing checks name and lets the others pass; a still-open minute is only left out.
    warehouse: a failure makes the batch's minutes pending again.
    """
    batch = batches.get(conn, batch_id)
    conn.rollback()
    pipeline = pipelines.get(batch.pipeline)
    if gate == STAGING:
        return _staging(conn, pipeline, batch)
    if gate == WAREHOUSE:
        return _warehouse(conn, pipeline, batch)
    raise ValueError(f"There is no gate {gate!r}; there are {STAGING!r} and {WAREHOUSE!r}.")


def _staging(conn, pipeline: Pipeline, batch: Batch) -> GateResult:
    if batch.state in ("merged", "skipped"):
        said = f"The batch is {batch.state} already: its staging is gone, and nothing is left to check."
        return GateResult(batch.batch_id, STAGING, batch.merged_attempt, True, message=said)
    if batch.state != "open":
        raise BatchRefused(
            f"Batch {batch.batch_id} is {batch.state} ({batch.reason}). "
            "Clear the run from wait_for_changes, which opens a new one."
        )
    attempt = batches.completed_attempt(conn, batch.batch_id)
    if attempt is None:
        raise BatchRefused(_incomplete(conn, batch))
    outcomes = _judge(conn, pipeline, batch, STAGING, attempt)
    failed = [outcome for outcome in outcomes if outcome.outcome == "fail"]
    blamed = _blamed(failed)
    still_open = {minute for minute in blamed if _is_still_open(pipeline, batch, minute)}
    held = {minute: reason for minute, reason in blamed.items() if minute not in still_open}
    unnamed = [outcome for outcome in failed if not outcome.minutes]
    left = len(batch.minutes) - len(blamed)
    passed = not unnamed and left > 0
    if unnamed:
        held = {}  # the fault is the batch's, not these minutes'
    _act(conn, batch, attempt, held, {} if unnamed else {minute: blamed[minute] for minute in still_open}, passed)
    return GateResult(
        batch.batch_id,
        STAGING,
        attempt,
        passed,
        outcomes,
        tuple(sorted(held)),
        () if unnamed else tuple(sorted(still_open)),
        _staging_message(pipeline, batch, failed, unnamed, held, left),
    )


def _warehouse(conn, pipeline: Pipeline, batch: Batch) -> GateResult:
    if batch.state == "skipped":
        said = "The batch is skipped: it has published nothing that could be checked."
        return GateResult(batch.batch_id, WAREHOUSE, None, True, message=said)
    if batch.state != "merged":
        raise BatchRefused(
            f"Batch {batch.batch_id} is {batch.state}, not merged. Clear the run from merge_into_warehouse."
        )
    attempt = batch.merged_attempt
    outcomes = _judge(conn, pipeline, batch, WAREHOUSE, attempt)
    failed = [outcome for outcome in outcomes if outcome.outcome == "fail"]
    if not failed:
        return GateResult(batch.batch_id, WAREHOUSE, attempt, True, outcomes)

    def pend(cursor) -> int:
        cursor.execute(
            "UPDATE etl.batch_minutes AS m JOIN etl.minute_ledger AS l ON l.pipeline = %(pipeline)s AND l.minute = m.minute "
            "SET l.read_changed_at = NULL, l.read_at = NULL, l.settled_before = NULL "
            "WHERE m.batch_id = %(batch_id)s AND l.attempt = %(attempt)s",
            {"pipeline": pipeline.name, "batch_id": batch.batch_id, "attempt": attempt},
        )
        return cursor.rowcount

    minutes = in_transaction(conn, pend)
    said = (
        f"{_names(failed)}. {minutes} minutes are pending again, so the next run of {pipeline.name}_minute replaces them. "
        "If it fails the same way, look for a writer of contributions or facts that does not take the pipeline's lock."
    )
    return GateResult(batch.batch_id, WAREHOUSE, attempt, False, outcomes, message=said)


def _judge(conn, pipeline: Pipeline, batch: Batch, gate: str, attempt: int) -> tuple[CheckOutcome, ...]:
    binds = {"pipeline": pipeline.name, "batch_id": batch.batch_id, "attempt": attempt}
    found = [check for folder in ("control", pipeline.name) for check in checks(folder, gate)]
    outcomes = tuple(_outcome(check, rows(conn.cursor(), check.query, binds)) for check in found)
    conn.rollback()

    def store(cursor) -> None:
        cursor.executemany(
            "INSERT INTO etl.check_results (batch_id, attempt, gate, check_name, severity, outcome, offending_rows, sample) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (
                    batch.batch_id,
                    attempt,
                    gate,
                    one.check,
                    one.severity,
                    one.outcome,
                    one.offending_rows,
                    _json(one.sample),
                )
                for one in outcomes
            ],
        )

    in_transaction(conn, store)
    return outcomes


def _outcome(check: Check, offending: list[dict]) -> CheckOutcome:
    outcome = check.severity if offending else "pass"
    names_minutes = bool(offending) and "minute" in offending[0]
    minutes = frozenset(row["minute"] for row in offending) if names_minutes else None
    return CheckOutcome(
        check.name, check.severity, outcome, len(offending), offending[:_SAMPLE], minutes, check.purpose
    )


def _blamed(failed: Iterable[CheckOutcome]) -> dict[datetime, str]:
    """Each minute that a failing check names, with the reason that people read."""
    reasons: dict[datetime, list[str]] = {}
    for outcome in failed:
        for minute in outcome.minutes or ():
            reasons.setdefault(minute, []).append(f"{outcome.check}: {outcome.purpose}")
    return {minute: " ".join(found)[:500] for minute, found in reasons.items()}


def _is_still_open(pipeline: Pipeline, batch: Batch, minute: datetime) -> bool:
    """Its events are still being written, so that one look at it says little. Minutes far ahead are not open, but wrong."""
    return batch.lake_clock.replace(second=0, microsecond=0) <= minute <= batch.lake_clock + pipeline.future_tolerance


def _act(
    conn, batch: Batch, attempt: int, held: dict[datetime, str], skipped: dict[datetime, str], passed: bool
) -> None:
    """Settle the batch's minutes and let the merge take this attempt, in one transaction."""
    changed_at = {planned.minute: planned.changed_at for planned in batch.minutes}

    def settle(cursor) -> None:
        # An earlier gate judged an earlier attempt.
        cursor.execute(
            "UPDATE etl.batch_minutes SET state = 'planned', reason = NULL "
            "WHERE batch_id = %(batch_id)s AND state IN ('held', 'skipped', 'superseded')",
            {"batch_id": batch.batch_id},
        )
        for state, minutes in (("held", held), ("skipped", skipped)):
            for minute, reason in sorted(minutes.items()):
                cursor.execute(
                    "UPDATE etl.batch_minutes SET state = %(state)s, reason = %(reason)s "
                    "WHERE batch_id = %(batch_id)s AND minute = %(minute)s",
                    {"batch_id": batch.batch_id, "minute": minute, "state": state, "reason": reason},
                )
        ledger.hold(
            cursor,
            batch.pipeline,
            [(minute, changed_at.get(minute), reason) for minute, reason in held.items()],
            attempt,
        )
        cursor.execute(
            "UPDATE etl.batches SET checked_attempt = %(attempt)s WHERE batch_id = %(batch_id)s AND state = 'open'",
            {"batch_id": batch.batch_id, "attempt": attempt if passed else None},
        )

    in_transaction(conn, settle)


def _staging_message(pipeline, batch, failed, unnamed, held, left) -> str:
    if not failed:
        return ""
    if unnamed:
        return (
            f"{_names(unnamed)}. Nothing of this batch is published; its minutes stay pending. Look at the sample in "
            "etl.check_results, mend the cause in the lake or the transform, and clear the run from transform_delta."
        )
    remedy = (
        f"To publish a held minute all the same, mend its cause and run {pipeline.name}_minute with `from` and `to`"
        " (with allow_shrink, if its rows are meant to be fewer); a new event in it also makes it pending again."
    )
    if left <= 0:
        what_next = remedy if held else "It is still open: the next run reads it again."
        return f"{_names(failed)}. No minute is left to publish. {what_next}"
    listed = ", ".join(f"{minute:%Y-%m-%d %H:%M}" for minute in sorted(held)[:10]) or "none"
    return f"{_names(failed)}. Held: {len(held)} minutes ({listed}); the other {left} pass. {remedy}"


def _names(outcomes: Iterable[CheckOutcome]) -> str:
    return "; ".join(
        f"{one.check} found {one.offending_rows} offending rows, first {_json(one.sample[0])}" for one in outcomes
    )


def _incomplete(conn, batch: Batch) -> str:
    found = rows(
        conn.cursor(),
        "SELECT a.attempt, COUNT(c.minute) AS minutes FROM etl.attempts AS a LEFT JOIN etl.staged_counts AS c "
        "ON c.attempt = a.attempt WHERE a.batch_id = %(batch_id)s GROUP BY a.attempt ORDER BY a.attempt DESC LIMIT 1",
        {"batch_id": batch.batch_id},
    )
    conn.rollback()
    what = (
        f"attempt {found[0]['attempt']} has counts for {found[0]['minutes']} of {len(batch.minutes)} minutes"
        if found
        else "it has no attempt"
    )
    return f"Batch {batch.batch_id} has no completed attempt: {what}. Clear the run from transform_delta."


def _json(value) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)
