"""Drift on a real server: what is counted, held, accepted and ended."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta

import pytest
from airflow.models import DagRun

from dags import operations
from include.housekeeping import expired
from include.warehouse import drifts, gates, held, merge, status
from include.warehouse.drift import APPEARED, DISAPPEARED, IGNORED
from tests.warehouse.lab import RECRUITMENT, Lab, contribution, minute

ROWS = 200
COUNTS = {"present": {"job_id": ROWS, "ts": ROWS}, "unreadable": {}, "unknown": {}}
RENAMED = COUNTS | {"present": {"ts": ROWS}, "unknown": {"jobId": ROWS}}


def stage_batch(lab: Lab, fields: dict, run_id: str = "run-1") -> int:
    """A batch whose transform has staged 200 counted rows for each minute, and these counts of fields."""
    rows = {at: [contribution(event_count=ROWS, clicks=ROWS)] for at in fields}
    lab.see(*rows)
    batch_id = lab.open(*rows, run_id=run_id)
    lab.stage(batch_id, rows, counts={at: {"field_counts": json.dumps(counts)} for at, counts in fields.items()})
    return batch_id


def publish_minutes(lab: Lab, fields: dict, run_id: str = "run-1") -> gates.GateResult:
    """Run the chain for these minutes, unless the staging gate stops it."""
    batch_id = stage_batch(lab, fields, run_id)
    result = lab.check(batch_id)
    if result.passed:
        merge.merge(batch_id)
        assert lab.check(batch_id, "warehouse").passed
    return result


@pytest.fixture
def day(lab: Lab) -> Lab:
    """A warehouse with ten good minutes."""
    publish_minutes(lab, {minute(number): COUNTS for number in range(-10, 0)}, "day")
    return lab


def test_a_merge_keeps_the_counts_of_its_newest_read(lab: Lab) -> None:
    publish_minutes(lab, {minute(0): COUNTS, minute(1): COUNTS})
    publish_minutes(lab, {minute(0): RENAMED | {"present": {"job_id": 1, "ts": 2}}}, "again")
    kept = {at: json.loads(text) for at, text in lab.query("SELECT minute, field_counts FROM etl.minute_fields")}
    assert kept == {minute(0): RENAMED | {"present": {"job_id": 1, "ts": 2}}, minute(1): COUNTS}


def test_a_renamed_field_holds_its_minute_and_names_the_field_while_neighbors_pass(day: Lab) -> None:
    result = publish_minutes(day, {minute(0): COUNTS, minute(1): RENAMED, minute(2): COUNTS})
    assert result.passed and result.held == (minute(1),)
    row = day.ledger(minute(1))
    assert row["state"] == "held" and day.ledger(minute(2))["state"] == "merged"
    assert "job_id is in none of 200 rows; over the previous day, 100 % of the rows had it." in row["reason"]
    assert "Undeclared fields: jobId." in row["reason"]
    assert "./minutemark accept recruitment job_id" in row["reason"]
    [drift] = [record for record in drifts.listed(day.conn, [RECRUITMENT]) if record["kind"] == DISAPPEARED]
    assert (drift["field"], drift["first_minute"], drift["minute_rows"], drift["status"]) == (
        "job_id", minute(1), ROWS, "ended",
    )  # fmt: skip


def test_accepted_drift_is_merged_with_the_next_run_and_holds_nothing_later(day: Lab) -> None:
    publish_minutes(day, {minute(0): COUNTS, minute(1): RENAMED})
    done = drifts.accept(day.conn, RECRUITMENT, "job_id", None, by="ann", reason="renamed on purpose")
    assert done.minutes == 1 and "Accepted by ann: job_id disappeared" in str(done)
    assert day.pending() == [minute(1)]
    assert held.held_minutes(day.conn, [RECRUITMENT])[0]["status"] == "accepted"
    result = publish_minutes(day, {minute(1): RENAMED, minute(3): RENAMED}, "next")
    assert result.held == () and day.ledger(minute(1))["state"] == "merged"
    assert day.facts() == {(7, 0): 13 * ROWS}
    [drift] = [record for record in drifts.listed(day.conn, [RECRUITMENT]) if record["kind"] == DISAPPEARED]
    assert (drift["status"], drift["accepted_by"], drift["reason"]) == ("accepted", "ann", "renamed on purpose")


def test_the_dag_records_the_user_who_triggered_its_run_not_the_forms_name(day: Lab) -> None:
    publish_minutes(day, {minute(0): COUNTS, minute(1): RENAMED})
    run = DagRun(dag_id="minutemark_accept", run_id="manual", triggering_user_name="ulf")
    form = {"pipeline": "recruitment", "field": "job_id", "kind": None, "by": "the CFO", "why": "renamed"}
    operations.accept_drift.function(params=form, dag_run=run)
    [drift] = [record for record in drifts.listed(day.conn, [RECRUITMENT]) if record["kind"] == DISAPPEARED]
    assert (drift["accepted_by"], drift["reason"]) == ("ulf", "renamed (by the CFO)")


def test_an_acceptance_ends_when_the_field_returns(day: Lab) -> None:
    publish_minutes(day, {minute(0): COUNTS, minute(1): RENAMED})
    drifts.accept(day.conn, RECRUITMENT, "job_id", DISAPPEARED, by="ann")
    publish_minutes(day, {minute(1): RENAMED, minute(3): COUNTS}, "back")
    assert publish_minutes(day, {minute(4): RENAMED, minute(5): COUNTS}, "gone again").held == (minute(4),)
    assert publish_minutes(day, {minute(1): RENAMED}, "read again").held == (), "An accepted minute stays accepted."


def test_an_acceptance_covers_no_other_check(day: Lab) -> None:
    publish_minutes(day, {minute(0): COUNTS, minute(1): RENAMED})
    drifts.accept(day.conn, RECRUITMENT, "job_id", None, by="ann")
    rows = {minute(1): [contribution(event_count=ROWS, clicks=ROWS, bid_sum=-1)]}
    day.stage(batch_id := day.open(*rows), rows, counts={minute(1): {"field_counts": json.dumps(RENAMED)}})
    assert not day.check(batch_id).passed
    assert "staging_events_no_negative" in day.ledger(minute(1))["reason"]


def test_an_acceptance_while_the_gate_runs_takes_effect(day: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_minutes(day, {minute(0): COUNTS, minute(1): RENAMED})
    batch_id, find = stage_batch(day, {minute(3): RENAMED}, "racing"), drifts.find_in_attempt

    def find_and_accept(conn, *rest):
        findings = find(conn, *rest)
        drifts.accept(conn, RECRUITMENT, "job_id", None, by="ann")
        return findings

    monkeypatch.setattr(drifts, "find_in_attempt", find_and_accept)
    assert day.check(batch_id).held == ()


def test_a_release_passes_drift_once_and_accepts_nothing(day: Lab) -> None:
    publish_minutes(day, {minute(0): COUNTS, minute(1): RENAMED})
    held.release(day.conn, RECRUITMENT, minute(1), minute(2), by="ann")
    result = publish_minutes(day, {minute(1): RENAMED, minute(3): RENAMED}, "next")
    assert result.released == (minute(1),) and result.held == (minute(3),)


def test_a_field_without_drift_cannot_be_accepted(day: Lab) -> None:
    publish_minutes(day, {minute(1): RENAMED, minute(2): COUNTS})
    with pytest.raises(drifts.AcceptanceRefused, match=r"field 'bid' .* Drift to accept: jobId .appeared., job_id"):
        drifts.accept(day.conn, RECRUITMENT, "bid", None, by="ann")
    with pytest.raises(drifts.AcceptanceRefused, match=r"field 'job_id' \(ignored\) of .* job_id \(disappeared\)"):
        drifts.accept(day.conn, RECRUITMENT, "job_id", IGNORED, by="ann")


def test_an_acceptance_without_a_name_says_what_it_records(day: Lab) -> None:
    publish_minutes(day, {minute(0): COUNTS, minute(1): RENAMED})
    assert str(drifts.accept(day.conn, RECRUITMENT, "job_id", None, by=" ")).startswith("Accepted by somebody: job_id")
    assert day.query("SELECT accepted_by FROM etl.drifts WHERE field = 'job_id'") == [("somebody",)]


def test_a_new_field_is_reported_once(day: Lab) -> None:
    novel = COUNTS | {"unknown": {"novelty": 3}}
    results = [publish_minutes(day, {minute(number): novel}, f"run {number}") for number in (1, 2)]
    outcomes = [
        next(outcome for outcome in result.outcomes if outcome.check == "staging_new_field") for result in results
    ]
    assert [(outcome.outcome, outcome.offending_rows) for outcome in outcomes] == [("warn", 1), ("pass", 0)]
    [drift] = drifts.listed(day.conn, [RECRUITMENT])
    assert (drift["field"], drift["kind"], drift["status"]) == ("novelty", APPEARED, "reported")
    assert status.freshness_of(day.conn, RECRUITMENT)["new_fields"] == ["novelty"], (
        "make status and the watch show this."
    )


@pytest.fixture
def hold_unknown_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """Declare that undeclared fields hold their minute."""
    strict = dataclasses.replace(RECRUITMENT, unknown_fields="hold")
    monkeypatch.setitem(gates.pipelines.all_pipelines(), strict.name, strict)


def test_an_undeclared_field_holds_its_minute_until_it_is_accepted(lab: Lab, hold_unknown_fields) -> None:
    result = publish_minutes(lab, {minute(1): COUNTS | {"unknown": {"novelty": 1}}, minute(2): COUNTS})
    assert result.held == (minute(1),)
    assert "novelty is not declared, and 1 rows have it" in lab.ledger(minute(1))["reason"]
    assert drifts.accept(lab.conn, RECRUITMENT, "novelty", None, by="ann").minutes == 1
    novel = {minute(number): COUNTS | {"unknown": {"novelty": 5}} for number in (1, 3)}
    assert publish_minutes(lab, novel, "next").held == ()


def test_a_name_with_spaces_can_be_accepted_as_it_is_sent(lab: Lab, hold_unknown_fields) -> None:
    publish_minutes(lab, {minute(1): COUNTS | {"unknown": {" novelty ": 1, "plain": 1}}, minute(2): COUNTS})
    assert drifts.accept(lab.conn, RECRUITMENT, " plain", None, by="ann").minutes == 1
    assert drifts.accept(lab.conn, RECRUITMENT, " novelty ", None, by="ann").drifts[0][1] == " novelty "


def test_an_acceptance_of_one_record_accepts_no_later_record_of_the_field(day: Lab) -> None:
    publish_minutes(day, {minute(1): RENAMED, minute(2): COUNTS})
    [drift_id] = [
        record["drift_id"] for record in drifts.listed(day.conn, [RECRUITMENT]) if record["kind"] == DISAPPEARED
    ]
    publish_minutes(day, {minute(3): RENAMED, minute(4): COUNTS}, "later")
    assert drifts.accept(day.conn, RECRUITMENT, "job_id", None, by="ann", drift_id=drift_id).minutes == 1
    refused = f"No drift of field 'job_id' of recruitment in record {drift_id} waits .* job_id .disappeared."
    with pytest.raises(drifts.AcceptanceRefused, match=refused):
        drifts.accept(day.conn, RECRUITMENT, "job_id", None, by="bob", drift_id=drift_id)
    assert day.ledger(minute(3))["state"] == "held"


def test_a_type_change_of_a_field_whose_rows_still_count_is_held(day: Lab) -> None:
    with_publishers = COUNTS | {"present": COUNTS["present"] | {"publisher_id": ROWS}}
    publish_minutes(day, {minute(number): with_publishers for number in range(-9, 0)}, "publishers")
    result = publish_minutes(
        day, {minute(1): with_publishers | {"unreadable": {"publisher_id": ROWS}}, minute(2): with_publishers}
    )
    assert result.held == (minute(1),)
    assert "200 of 200 values of publisher_id are not numbers" in day.ledger(minute(1))["reason"]


def test_a_drift_that_ended_while_its_minutes_are_held_is_accepted_too(day: Lab) -> None:
    publish_minutes(day, {minute(1): RENAMED, minute(2): COUNTS, minute(3): RENAMED, minute(4): COUNTS})
    assert day.query("SELECT first_minute, last_minute, ended_minute FROM etl.drifts WHERE kind = 'disappeared'") == [
        (minute(1), minute(1), minute(2)),
        (minute(3), minute(3), minute(4)),
    ]
    assert drifts.accept(day.conn, RECRUITMENT, "job_id", None, by="ann").minutes == 2


def test_a_drift_whose_minutes_are_read_backwards_is_one_drift(day: Lab) -> None:
    for number in (9, 5, 7):
        publish_minutes(day, {minute(number): RENAMED, minute(-1): COUNTS}, f"run {number}")
    publish_minutes(day, {minute(6): COUNTS}, "between them")
    [record] = day.query("SELECT first_minute, last_minute, ended_minute FROM etl.drifts WHERE kind = 'disappeared'")
    assert record == (minute(5), minute(9), None)
    assert drifts.accept(day.conn, RECRUITMENT, "job_id", None, by="ann").minutes == 3


def age_drifts(lab: Lab, days: int) -> None:
    """Make all recorded drift `days` days older."""
    lab.query(
        "UPDATE etl.drifts SET found_at = found_at - INTERVAL %s DAY, first_minute = first_minute - INTERVAL %s DAY, "
        "last_minute = last_minute - INTERVAL %s DAY, ended_minute = ended_minute - INTERVAL %s DAY",
        *[days] * 4,
    )


def remove_drifts(lab: Lab, *, dry: bool = False) -> int:
    return expired.remove_drifts(lab.conn, RECRUITMENT.name, timedelta(days=90), dry=dry)


def recorded_drifts(lab: Lab) -> list[tuple[str, str]]:
    return lab.query("SELECT field, kind FROM etl.drifts ORDER BY drift_id")


def test_drift_that_is_over_is_removed_after_its_retention(day: Lab) -> None:
    publish_minutes(day, {minute(1): RENAMED, minute(2): COUNTS})
    publish_minutes(day, {minute(1): COUNTS}, "fixed")
    day.query("DELETE FROM etl.minute_fields")
    assert recorded_drifts(day) == [("job_id", DISAPPEARED), ("jobId", APPEARED)]
    assert remove_drifts(day) == 0, "The retention starts when the drift is found, although its minutes are old."
    age_drifts(day, 100)
    assert remove_drifts(day, dry=True) == 2 and len(recorded_drifts(day)) == 2
    assert remove_drifts(day) == 2 and recorded_drifts(day) == []


def test_drift_that_still_affects_minutes_is_never_removed(day: Lab) -> None:
    publish_minutes(day, {minute(1): RENAMED})
    age_drifts(day, 100)
    assert remove_drifts(day) == 1 and recorded_drifts(day) == [("job_id", DISAPPEARED)], "This drift is open."
    assert drifts.accept(day.conn, RECRUITMENT, "job_id", None, by="ann")
    publish_minutes(day, {minute(3): COUNTS}, "back")
    day.query("UPDATE etl.drifts SET ended_minute = %s", minute(-100_000))
    age_drifts(day, 100)
    assert remove_drifts(day) == 0 and recorded_drifts(day) == [("job_id", DISAPPEARED)], "This drift is accepted."


def test_drift_that_ended_stays_while_a_minute_is_held_for_it(day: Lab) -> None:
    """Without the record, the next read would publish the minute, because the counts of the previous day are gone."""
    publish_minutes(day, {minute(1): RENAMED, minute(2): COUNTS})
    day.query("UPDATE etl.drifts SET found_at = found_at - INTERVAL 100 DAY")
    day.query("DELETE FROM etl.minute_fields")
    assert remove_drifts(day) == 1 and recorded_drifts(day) == [("job_id", DISAPPEARED)]
    assert publish_minutes(day, {minute(1): RENAMED}, "read again").held == (minute(1),)


def test_an_undeclared_field_stays_on_record_while_minutes_have_it(day: Lab) -> None:
    """Without the record, the field would be reported a second time."""
    publish_minutes(day, {minute(1): COUNTS | {"unknown": {'it\'s "new"': 3}}})
    age_drifts(day, 100)
    assert remove_drifts(day) == 0
    day.query("UPDATE etl.minute_fields SET field_counts = %s", json.dumps(COUNTS))
    assert remove_drifts(day) == 1


def test_an_undeclared_field_that_holds_a_minute_stays_on_record(lab: Lab, hold_unknown_fields) -> None:
    publish_minutes(lab, {minute(1): COUNTS | {"unknown": {"novelty": 1}}})
    age_drifts(lab, 100)
    assert remove_drifts(lab) == 0
    publish_minutes(lab, {minute(1): COUNTS}, "fixed")
    assert remove_drifts(lab) == 1
