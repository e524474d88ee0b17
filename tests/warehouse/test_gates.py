"""Both gates on a real server: what each check finds, what is held, and what passes."""

from __future__ import annotations

from datetime import timedelta

import pytest

from include.warehouse import batches, merge
from include.warehouse.errors import BatchRefused
from tests.warehouse.lab import CLOCK, SECOND, Lab, contribution, minute

GOOD = {minute(1): [contribution()]}


def stage_batch(lab: Lab, rows: dict, **values) -> int:
    """A batch of these minutes whose transform is done."""
    lab.see(*rows)
    opening = {name: values.pop(name) for name in ("clock", "allow_shrink") if name in values}
    batch_id = lab.open(*rows, **opening)
    lab.stage(batch_id, rows, **values)
    return batch_id


def outcome(result, check: str):
    return next(entry for entry in result.outcomes if entry.check == check)


# In each case, minute 0 breaks exactly one rule, and minute 1 is good.
BROKEN = {
    "staging_conservation": {"rows": [contribution()], "counts": {minute(0): {"raw_rows": 5}}},
    "staging_events_counts": {"rows": [contribution()], "counts": {minute(0): {"raw_rows": 2, "counted_rows": 2}}},
    "staging_events_no_negative": {"rows": [contribution(bid_sum=-1)]},
    "staging_keys_present": {"rows": [contribution(job_id=0)]},
}


@pytest.mark.parametrize("check", BROKEN)
def test_a_minute_that_breaks_a_rule_is_held_and_the_other_passes(lab: Lab, check: str) -> None:
    case = dict(BROKEN[check])
    batch_id = stage_batch(lab, {minute(0): case.pop("rows"), **GOOD}, **case)
    result = lab.check(batch_id)
    assert result.passed
    assert result.held == (minute(0),)
    assert outcome(result, check).outcome == "fail"
    assert [entry.check for entry in result.outcomes if entry.outcome == "fail"] == [check]
    merge.merge(batch_id)
    assert lab.one("SELECT COUNT(*) FROM recruitment.events_by_minute WHERE minute = %s", minute(0)) == 0
    assert lab.facts() == {(7, 0): 1}
    row = lab.ledger(minute(0))
    assert (row["state"], row["pending"], row["raw_rows"]) == ("held", 0, None)
    assert check in row["reason"]
    assert lab.check(batch_id, "warehouse").passed


def test_rejected_rows_without_their_payload_break_conservation(lab: Lab) -> None:
    batch_id = stage_batch(lab, {minute(0): [], **GOOD}, counts={minute(0): {"raw_rows": 3, "rejected_rows": 3}})
    assert lab.check(batch_id).held == (minute(0),)


# ⚑ shrink guard
def test_a_minute_with_fewer_rows_than_before_is_held_unless_the_run_allows_it(lab: Lab) -> None:
    lab.publish({minute(0): [contribution(event_count=5, clicks=5)]}, run_id="before")
    shrunk = {minute(0): [contribution()], **GOOD}
    result = lab.check(batch_id := stage_batch(lab, shrunk))
    assert result.held == (minute(0),)
    merge.merge(batch_id)
    assert lab.facts() == {(7, 0): 6}, "What was published stays."
    assert lab.ledger(minute(0))["raw_rows"] == 5, "Its counts stay too, because the guard needs them."
    allowed = stage_batch(lab, shrunk, allow_shrink=True)
    assert lab.check(allowed).held == ()
    merge.merge(allowed)
    assert lab.facts() == {(7, 0): 2}
    assert lab.ledger(minute(0))["state"] == "merged"


def test_a_still_open_minute_is_left_out_but_not_held(lab: Lab) -> None:
    now = CLOCK.replace(second=0)
    batch_id = stage_batch(lab, {now: [contribution(bid_sum=-1)], **GOOD})
    result = lab.check(batch_id)
    assert (result.passed, result.held, result.skipped) == (True, (), (now,))
    merge.merge(batch_id)
    assert lab.pending() == [now]
    assert lab.facts() == {(7, 0): 1}


def test_a_batch_in_which_only_open_minutes_fail_reports_that_they_are_read_again(lab: Lab) -> None:
    now = CLOCK.replace(second=0)
    result = lab.check(stage_batch(lab, {now: [contribution(bid_sum=-1)]}))
    assert "No minute is left to publish. Still open, and read again by the next run: 1.\n" in str(result)


def test_a_minute_far_ahead_is_held_like_any_other(lab: Lab) -> None:
    ahead = CLOCK.replace(second=0) + timedelta(hours=3)
    assert lab.check(stage_batch(lab, {ahead: [contribution(bid_sum=-1)], **GOOD})).held == (ahead,)


def test_the_gate_fails_when_no_minute_is_left(lab: Lab) -> None:
    batch_id = stage_batch(lab, {minute(0): [contribution(bid_sum=-1)]})
    result = lab.check(batch_id)
    assert not result.passed
    assert "staging_events_no_negative found offending rows (1), first" in str(result)
    assert "No minute is left to publish" in str(result)
    assert lab.pending() == [], "A held minute does not fail the next run."
    with pytest.raises(BatchRefused, match="has passed the staging gate"):
        merge.merge(batch_id)


def test_a_failing_check_that_names_no_minute_stops_the_batch(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from include.warehouse import gates
    from include.warehouse.sql import Check

    read_checks = gates.checks
    always = Check("staging_never", "fail", "Never right.", "SELECT 1 AS one")
    monkeypatch.setattr(gates, "checks", lambda folder, gate: [*read_checks(folder, gate), always])
    result = lab.check(stage_batch(lab, {minute(0): [contribution(bid_sum=-1)], **GOOD}))
    assert (result.passed, result.held) == (False, ())
    assert "Nothing of this batch is published" in result.message
    assert result.message.endswith(
        "The next run reads pending minutes again; to read others again, clear the run from wait_for_changes."
    )
    assert lab.pending() == [minute(0), minute(1)]


@pytest.mark.parametrize(
    "stray_minute", ["NULL", "'2026-03-01 23:00:00'"], ids=["no minute", "a minute of another batch"]
)
def test_a_failing_check_that_names_anything_but_minutes_of_the_batch_stops_it(
    lab: Lab, monkeypatch, stray_minute: str
) -> None:
    from include.warehouse import gates
    from include.warehouse.sql import Check

    lab.publish({minute(780): [contribution()]}, run_id="before")  # publishes that minute
    text = f"SELECT CAST({stray_minute} AS DATETIME) AS minute UNION ALL SELECT CAST('{minute(0)}' AS DATETIME)"
    stray = Check("staging_stray", "fail", "Rows lie in the batch's minutes.", text)
    read_checks = gates.checks
    monkeypatch.setattr(gates, "checks", lambda folder, gate: [*read_checks(folder, gate), stray])
    result = lab.check(stage_batch(lab, {minute(0): [contribution()], **GOOD}))
    assert (result.passed, result.held) == (False, ())
    assert lab.ledger(minute(780))["state"] == "merged"
    assert lab.pending() == [minute(0), minute(1)]


def test_the_sample_shows_a_row_of_each_minute_before_a_second_row_of_any(lab: Lab) -> None:
    bad = {minute(0): [contribution(job, bid_sum=-1) for job in range(1, 31)], minute(2): [contribution(bid_sum=-1)]}
    sample = outcome(lab.check(stage_batch(lab, bad | GOOD)), "staging_events_no_negative").sample
    assert [row["minute"] for row in sample[:3]] == [minute(0), minute(2), minute(0)]


def test_a_gate_that_outlives_its_batch_changes_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    batch_id = stage_batch(lab, {minute(0): [contribution(bid_sum=-1)], **GOOD})
    from include.warehouse import gates

    lock = gates.lock

    def lock_after_merge(cursor, pipeline) -> None:
        lock(cursor, pipeline)
        cursor.execute("UPDATE etl.batches SET state = 'merged'")

    monkeypatch.setattr(gates, "lock", lock_after_merge)
    with pytest.raises(BatchRefused, match="became merged while its gate ran"):
        lab.check(batch_id)
    assert lab.one("SELECT COUNT(*) FROM etl.minute_ledger WHERE state = 'held'") == 0
    assert lab.one("SELECT COUNT(*) FROM etl.check_results") == 0


def test_an_id_under_two_create_times_warns_and_names_both(lab: Lab) -> None:
    batch_id = stage_batch(lab, GOOD)
    times = ("0e207cd0-156b-11f1-8000-0a0b0c0d0e0f", "0e207ccf-156b-11f1-8000-0a0b0c0d0e0f")
    values = (minute(1), *times, batch_id)
    attempts = "SELECT attempt, 0, %s, 'order-7', %s, %s FROM etl.attempts WHERE batch_id = %s"
    lab.conn.cursor().execute(f"INSERT INTO etl.staged_repeats {attempts}", values)
    lab.conn.commit()
    result = lab.check(batch_id)
    check_result = outcome(result, "staging_id_twice")
    assert result.passed and check_result.outcome == "warn"
    assert list(check_result.sample) == [
        {"minute": minute(1), "event_id": "order-7", "create_time": times[0], "first_create_time": times[1]}
    ]
    merge.merge(batch_id)
    assert lab.one("SELECT COUNT(*) FROM etl.staged_repeats") == 0


def test_unknown_jobs_only_warn(lab: Lab) -> None:
    lab.query("INSERT INTO recruitment.job (id) VALUES (7)")
    result = lab.check(stage_batch(lab, {minute(0): [contribution(7), contribution(8), contribution(9)]}))
    check_result = outcome(result, "staging_unknown_jobs")
    assert (result.passed, check_result.outcome, check_result.offending_rows) == (True, "warn", 2)
    assert check_result.sample[0]["job_id"] == 8


def test_every_result_is_stored_even_if_the_gate_fails(lab: Lab) -> None:
    batch_id = stage_batch(lab, {minute(0): [contribution(bid_sum=-1)]})
    result = lab.check(batch_id)
    stored = lab.query("SELECT check_name, outcome, offending_rows, gate, attempt, sample FROM etl.check_results")
    assert {row[0] for row in stored} == {outcome.check for outcome in result.outcomes}
    negative = next(row for row in stored if row[0] == "staging_events_no_negative")
    assert negative[1:5] == ("fail", 1, "staging", result.attempt)
    assert '"job_id": 7' in negative[5]


def test_a_new_attempt_is_checked_again(lab: Lab) -> None:
    batch_id = stage_batch(lab, {minute(0): [contribution(bid_sum=-1)], **GOOD})
    assert lab.check(batch_id).held == (minute(0),)
    lab.stage(batch_id, {minute(0): [contribution()], **GOOD})
    result = lab.check(batch_id)
    assert (result.passed, result.held) == (True, ())
    merge.merge(batch_id)
    assert lab.ledger(minute(0))["state"] == "merged"
    assert lab.facts() == {(7, 0): 2}


def test_an_unfinished_transform_is_refused_with_its_progress(lab: Lab) -> None:
    batch_id = lab.open(minute(0), minute(1))
    with pytest.raises(BatchRefused, match="it has no attempt. Clear the run from transform_delta"):
        lab.check(batch_id)
    attempt = lab.stage(batch_id, {})
    lab.query("DELETE FROM etl.staged_counts WHERE minute = %s", minute(1))
    with pytest.raises(BatchRefused, match=f"attempt {attempt} has counts for 1 of 2 minutes"):
        lab.check(batch_id)


def test_the_warehouse_gate_requires_a_merged_batch(lab: Lab) -> None:
    with pytest.raises(BatchRefused, match="is not merged: it is open"):
        lab.check(lab.open(minute(0)), "warehouse")
    lab.query("UPDATE etl.batches SET state = 'failed'")
    [[failed]] = lab.query("SELECT batch_id FROM etl.batches")
    with pytest.raises(BatchRefused, match="has failed. Clear the run from wait_for_changes, which opens a new batch"):
        lab.check(failed, "warehouse")
    with pytest.raises(ValueError, match="Unknown gate 'warehose'"):
        lab.check(lab.open(minute(0)), "warehose")


@pytest.mark.parametrize(
    ("check", "damage"),
    [
        ("warehouse_events_totals", "UPDATE recruitment.events SET clicks = clicks + 1"),
        ("warehouse_events_totals", "DELETE FROM recruitment.events"),
        ("warehouse_events_totals", "DELETE FROM recruitment.events_by_minute"),
        ("warehouse_ledger_complete", "DELETE FROM etl.minute_ledger"),
        ("warehouse_ledger_complete", "UPDATE etl.minute_ledger SET ignored_rows = 9"),
    ],
)
def test_the_warehouse_gate_finds_tables_that_disagree(lab: Lab, check: str, damage: str) -> None:
    batch_id = lab.publish(GOOD)
    lab.query(damage)
    result = lab.check(batch_id, "warehouse")
    assert not result.passed
    assert outcome(result, check).outcome == "fail"
    stored = lab.query("SELECT outcome FROM etl.check_results WHERE check_name = %s ORDER BY check_result_id", check)
    assert stored[-1] == ("fail",)


@pytest.mark.parametrize("seen", [True, False])
def test_a_failed_warehouse_gate_leaves_its_minutes_pending(lab: Lab, seen: bool) -> None:
    if seen:
        lab.see(minute(1))
    batch_id = lab.publish(GOOD)
    assert lab.pending() == []
    lab.query("UPDATE recruitment.events SET clicks = clicks + 1")
    result = lab.check(batch_id, "warehouse")
    assert "1 minutes are pending again" in result.message
    assert lab.check(batch_id, "warehouse").message == result.message, "A cleared gate reports the same."
    assert lab.pending() == [minute(1)]
    lab.publish(GOOD, run_id="repair")
    assert lab.facts() == {(7, 0): 1}
    assert lab.pending() == []


def test_a_failed_warehouse_gate_that_leaves_no_minute_pending_says_how_to_replace_them(lab: Lab) -> None:
    batch_id = lab.publish(GOOD)
    lab.query("DELETE FROM etl.minute_ledger")
    message = lab.check(batch_id, "warehouse").message
    assert message.endswith("pending: to replace them, trigger recruitment_minute with `from` and `to`.")


# ⚑ each check accepts "this read or a newer one", in one SELECT
def test_a_newer_read_satisfies_the_check_of_an_older_one(lab: Lab) -> None:
    older = lab.publish(GOOD)
    lab.publish({minute(1): [contribution(clicks=3, event_count=3), contribution(8)]}, run_id="newer")
    assert lab.check(older, "warehouse").passed
    lab.publish({minute(1): []}, run_id="newest", allow_shrink=True, clock=CLOCK + SECOND)
    assert lab.check(older, "warehouse").passed
    assert batches.get(lab.conn, older).state == "merged"
