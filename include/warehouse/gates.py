"""Gates: every check of a gate runs, and its result is stored. Minutes that fail a check are held; the others pass."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from include import pipelines
from include.pipelines import Pipeline
from include.warehouse import batches, drifts, held, ledger, rejected_share
from include.warehouse.batches import Batch
from include.warehouse.delta import is_open
from include.warehouse.drift import DriftFindings
from include.warehouse.errors import BatchRefused
from include.warehouse.gate_verdict import CheckOutcome, Verdict, as_json, judge
from include.warehouse.pipeline_lock import lock
from include.warehouse.session import in_transaction, read, reading, rows, value, write
from include.warehouse.sql import Check, checks
from include.warehouse.statements import Statements

sql = Statements(__file__)

STAGING, WAREHOUSE = "staging", "warehouse"
_SAMPLE = 10  # offending rows that are kept
_MAX_SHOWN = 10  # minutes that a message names


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
    waiting: tuple[datetime, ...] = ()
    released: tuple[datetime, ...] = ()
    message: str = ""

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "FAILED"
        lines = [f"Gate {self.gate} {verdict} for batch {self.batch_id}, attempt {self.attempt}.", self.message]
        lines += [str(outcome) for outcome in self.outcomes]
        return "\n".join(line for line in lines if line)


def run_gate(conn, batch_id: int, gate: str) -> GateResult:
    """Run the gate's checks, store their results, and act on them. Raises BatchRefused if the batch is not ready.

    staging: holds the minutes that failing checks name and lets the others pass; a failing minute that is still open is
    left out but not held, and for a released minute a failure is a warning.
    warehouse: a failure makes the batch's minutes pending again.
    """
    with reading(conn):
        batch = batches.get(conn, batch_id)
    pipeline = pipelines.get(batch.pipeline)
    if gate == STAGING:
        return _staging(conn, pipeline, batch)
    if gate == WAREHOUSE:
        return _warehouse(conn, pipeline, batch)
    raise ValueError(f"Unknown gate {gate!r}. Choose one of {STAGING!r}, {WAREHOUSE!r}.")


def _staging(conn, pipeline: Pipeline, batch: Batch) -> GateResult:
    if batch.state in ("merged", "skipped"):
        message = f"The batch is already {batch.state}: its staging was deleted, and there is nothing left to check."
        return GateResult(batch.batch_id, STAGING, batch.merged_attempt, True, message=message)
    if batch.state != "open":
        raise BatchRefused(
            f"Batch {batch.batch_id} has failed ({batch.reason}). "
            "Clear the run from wait_for_changes, which opens a new batch."
        )
    attempt = batches.completed_attempt(conn, batch.batch_id)
    if attempt is None:
        raise BatchRefused(_why_incomplete(conn, batch))
    outcomes = _outcomes(conn, pipeline, batch, STAGING, attempt)
    findings = drifts.find_in_attempt(conn, pipeline, attempt)
    verdict = in_transaction(conn, lambda cursor: _decide(cursor, pipeline, batch, attempt, outcomes, findings))
    return GateResult(
        batch.batch_id,
        STAGING,
        attempt,
        verdict.passed,
        verdict.outcomes,
        tuple(sorted(verdict.held)),
        tuple(sorted(verdict.still_open)),
        tuple(sorted(verdict.waiting)),
        tuple(sorted({passed.minute for passed in verdict.passes})),
        _staging_message(pipeline, verdict),
    )


def _warehouse(conn, pipeline: Pipeline, batch: Batch) -> GateResult:
    if batch.state == "skipped":
        message = "The batch is skipped. It published nothing, so there is nothing to check."
        return GateResult(batch.batch_id, WAREHOUSE, None, True, message=message)
    if batch.state != "merged":
        step = "merge_into_warehouse" if batch.state == "open" else "wait_for_changes, which opens a new batch"
        raise BatchRefused(
            f"Batch {batch.batch_id} is not merged: it {batches.state_text(batch.state)}. Clear the run from {step}."
        )
    attempt = batch.merged_attempt
    outcomes = _outcomes(conn, pipeline, batch, WAREHOUSE, attempt)  # ty: ignore[invalid-argument-type]
    failed = [outcome for outcome in outcomes if outcome.outcome == "fail"]

    def store(cursor) -> None:
        _store(cursor, batch, WAREHOUSE, attempt, outcomes)
        cursor.execute(sql("checked"), {"failed": bool(failed), "batch_id": batch.batch_id})

    in_transaction(conn, store)
    if not failed:
        return GateResult(batch.batch_id, WAREHOUSE, attempt, True, outcomes)
    binds = {"pipeline": pipeline.name, "batch_id": batch.batch_id, "attempt": attempt}
    write(conn, sql("make_pending"), binds)
    pending = read(conn, value, sql("pending_of"), binds)
    message = f"{_describe(failed)}. {_after_failure(pipeline, pending)}"
    return GateResult(batch.batch_id, WAREHOUSE, attempt, False, outcomes, message=message)


def _after_failure(pipeline: Pipeline, pending: int) -> str:
    """What happens next. None of the minutes is pending if they are not in the ledger, are held, or were merged again since."""
    minute_dag = f"{pipeline.name}_minute"
    if not pending:
        return f"None of its minutes is pending: to replace them, trigger {minute_dag} with `from` and `to`."
    return (
        f"{pending} minutes are pending again, so the next run of {minute_dag} replaces them. If that run fails the same way, "
        "look for a writer of contributions or facts that does not take the pipeline's lock."
    )


def _outcomes(conn, pipeline: Pipeline, batch: Batch, gate: str, attempt: int) -> tuple[CheckOutcome, ...]:
    binds = {"pipeline": pipeline.name, "batch_id": batch.batch_id, "attempt": attempt}
    with reading(conn) as cursor:
        return tuple(_outcome(check, rows(cursor, check.query, binds)) for check in checks(pipeline, gate))


def _outcome(check: Check, offending: list[dict]) -> CheckOutcome:
    outcome = check.severity if offending else "pass"
    names_minutes = bool(offending) and "minute" in offending[0]
    minutes = frozenset(row["minute"] for row in offending) if names_minutes else None
    sample = _sample(offending) if names_minutes else offending[:_SAMPLE]
    return CheckOutcome(check.name, check.severity, outcome, len(offending), sample, minutes, check.purpose)


def _sample(offending: list[dict]) -> list[dict]:
    """A sample that has the first row of each minute before further rows, so that it shows as many minutes as possible."""
    seen, firsts, others = set(), [], []
    for row in offending:
        (others if row["minute"] in seen else firsts).append(row)
        seen.add(row["minute"])
    return (firsts + others)[:_SAMPLE]


def _decide(
    cursor, pipeline: Pipeline, batch: Batch, attempt: int, outcomes: tuple[CheckOutcome, ...], findings: DriftFindings
) -> Verdict:
    """Decide the verdict, store it, apply it to the batch's minutes, and mark the attempt for the merge. Does not commit.

    A gate that would hold a minute takes the pipeline's lock first, so that no release or acceptance changes the decision
    in between.
    """
    changed_at = {planned.minute: planned.changed_at for planned in batch.minutes}
    share_verdict = rejected_share.batch_verdict(cursor, pipeline, changed_at, batch.lake_clock, attempt)
    may_hold = share_verdict.waiting or any(
        outcome.outcome == "fail" for outcome in (*outcomes, *share_verdict.outcomes)
    )
    if may_hold or drifts.needs_lock(findings):
        lock(cursor, pipeline)
        share_verdict = rejected_share.batch_verdict(cursor, pipeline, changed_at, batch.lake_clock, attempt)
    on_record = drifts.recorded_drifts(cursor, pipeline)
    outcomes = (*outcomes, *share_verdict.outcomes, *drifts.outcomes(pipeline, findings, on_record))
    query = "SELECT state FROM etl.batches WHERE batch_id = %(batch_id)s FOR UPDATE"
    if (state := value(cursor, query, {"batch_id": batch.batch_id})) != "open":
        raise BatchRefused(f"Batch {batch.batch_id} became {state} while its gate ran: another task has ended it.")
    still_open = {minute for minute in changed_at if is_open(minute, batch.lake_clock, pipeline)}
    released = held.outstanding(cursor, pipeline, changed_at)
    verdict = judge(outcomes, changed_at, still_open, released, share_verdict.waiting, rejected_share.CHECK)
    _store(cursor, batch, STAGING, attempt, verdict.outcomes)
    _apply_verdict(cursor, batch, verdict)
    held.keep_passes(cursor, batch.batch_id, attempt, verdict.passes)
    drifts.record(cursor, pipeline, findings, verdict.held, on_record)
    ledger.hold(
        cursor,
        batch.pipeline,
        [(minute, changed_at[minute], reason) for minute, reason in {**verdict.held, **verdict.waiting}.items()],
        attempt,
        batch_id=batch.batch_id,
        failing_checks=verdict.failing_checks,
        waiting=verdict.waiting,
    )
    rejected_share.recheck_hours(cursor, pipeline, [*verdict.held, *verdict.waiting], batch.lake_clock)
    cursor.execute(
        "UPDATE etl.batches SET checked_attempt = %(attempt)s WHERE batch_id = %(batch_id)s",
        {"batch_id": batch.batch_id, "attempt": attempt if verdict.passed else None},
    )
    return verdict


def _store(cursor, batch: Batch, gate: str, attempt: int | None, outcomes: Iterable[CheckOutcome]) -> None:
    cursor.executemany(
        sql("keep_result"),
        [
            (batch.batch_id, attempt, gate)
            + (result.check, result.severity, result.outcome, result.offending_rows, as_json(result.sample))
            for result in outcomes
        ],
    )


def _apply_verdict(cursor, batch: Batch, verdict: Verdict) -> None:
    # An earlier gate may have left out minutes of an earlier attempt.
    cursor.execute(sql("plan_again"), {"batch_id": batch.batch_id})
    cursor.executemany(
        sql("leave_out"),
        [
            (batch.batch_id, minute, state, reason)
            for state, minutes in (("held", verdict.held), ("held", verdict.waiting), ("skipped", verdict.still_open))
            for minute, reason in sorted(minutes.items())
        ],
    )


def _staging_message(pipeline: Pipeline, verdict: Verdict) -> str:
    released = " ".join(
        f"{passed.minute:%Y-%m-%d %H:%M} passes {passed.check} as released by {passed.release.released_by}."
        for passed in verdict.passes[:_MAX_SHOWN]
    )
    listed = ", ".join(f"{minute:%Y-%m-%d %H:%M}" for minute in sorted(verdict.waiting)[:_MAX_SHOWN])
    waiting = f"Waiting for the other rows of their hour: {len(verdict.waiting)} minutes ({listed})." if listed else ""
    if not verdict.failed:
        return " ".join(filter(None, (released, waiting)))
    if verdict.batch_wide:
        return (
            f"{_describe(verdict.batch_wide)}. Nothing of this batch is published. Read the sample in etl.check_results, and "
            "fix the cause in the lake or the transform. The next run reads pending minutes again; to read others again, clear "
            "the run from wait_for_changes."
        )
    remedy = (
        "`./minutemark held` shows why. A minute is read again after a new event in it, or when "
        f"{pipeline.name}_minute is triggered with `from` and `to`. To publish it as it is: "
        f"./minutemark release {pipeline.name} MINUTE, or the DAG minutemark_release."
    )
    still_open = f"Still open, and read again by the next run: {len(verdict.still_open)}." if verdict.still_open else ""
    if verdict.publishable:
        listed = ", ".join(f"{minute:%Y-%m-%d %H:%M}" for minute in sorted(verdict.held)[:_MAX_SHOWN]) or "none"
        passing = f"Held: {len(verdict.held)} minutes ({listed}); the other {verdict.publishable} pass."
    else:
        passing = "No minute is left to publish."
    parts = (f"{_describe(verdict.failed)}.", passing, still_open, waiting, released, remedy if verdict.held else "")
    return " ".join(filter(None, parts))


def _describe(outcomes: Iterable[CheckOutcome]) -> str:
    return "; ".join(
        f"{outcome.check} found offending rows ({outcome.offending_rows}), first {as_json(outcome.sample[0])}"
        for outcome in outcomes
    )


def _why_incomplete(conn, batch: Batch) -> str:
    records = read(conn, rows, sql("newest_attempt"), {"batch_id": batch.batch_id})
    what = (
        f"attempt {records[0]['attempt']} has counts for {records[0]['minutes']} of {len(batch.minutes)} minutes"
        if records
        else "it has no attempt"
    )
    return f"Batch {batch.batch_id} has no completed attempt: {what}. Clear the run from transform_delta."
