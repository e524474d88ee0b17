"""What housekeeping removes from the warehouse, and what it must leave alone, on a real server."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from include.connections import WAREHOUSE_ADMIN
from include.housekeeping import expired, steps
from include.warehouse import batches, merge
from include.warehouse.errors import BatchRefused
from include.warehouse.session import warehouse
from tests.warehouse.lab import CLOCK, SECOND, Lab, contribution, minute

DAY = timedelta(days=1)
STAGED = "SELECT (SELECT COUNT(*) FROM etl.staged_counts) + (SELECT COUNT(*) FROM recruitment.events_staged)"


def staged_batch(lab: Lab, number: int = 0, **values) -> int:
    """An open batch of one minute whose transform is done."""
    batch_id = lab.open(minute(number), run_id=f"run-{number}", **values)
    lab.stage(batch_id, {minute(number): [contribution()]}, rejects=[(minute(number), "bid is negative")], ignored=9)
    return batch_id


def age(lab: Lab, days: int) -> None:
    """Make batches, attempts, rejected events and check results `days` days older."""
    lab.query("UPDATE etl.batches SET opened_at = opened_at - INTERVAL %s DAY", days)
    lab.query("UPDATE etl.attempts SET started_at = started_at - INTERVAL %s DAY", days)
    lab.query("UPDATE etl.rejected_events SET rejected_at = rejected_at - INTERVAL %s DAY", days)
    lab.query("UPDATE etl.check_results SET checked_at = checked_at - INTERVAL %s DAY", days)


def tidy(**days: float) -> dict[str, int]:
    """Run the step; return its counts by what they count."""
    return {removed.what: removed.count for removed in steps.run_step("clean_warehouse", days)}


def facts_and_ledger(lab: Lab) -> tuple:
    """Facts, contributions and ledger."""
    return tuple(
        lab.query(f"SELECT * FROM {table} ORDER BY 1, 2, 3")
        for table in ("recruitment.events", "recruitment.events_by_minute", "etl.minute_ledger")
    )


def test_staging_of_unknown_attempts_is_removed(lab: Lab) -> None:
    staged_batch(lab)
    lab.query("DELETE FROM etl.attempts")  # their batch was removed, and then a driver thought dead came back
    assert expired.remove_dead_staging(lab.conn, dry=True) == 3
    assert lab.one(STAGED) == 2
    assert expired.remove_dead_staging(lab.conn) == 3
    assert lab.one(STAGED) == 0


def test_staging_of_a_pipeline_that_no_longer_merges_is_removed(lab: Lab) -> None:
    staged_batch(lab)
    lab.query("UPDATE etl.batches SET state = 'failed', pipeline = 'given_away'")
    assert expired.remove_dead_staging(lab.conn) == 3


def test_staging_of_a_possibly_live_batch_is_kept(lab: Lab) -> None:
    batch_id = staged_batch(lab)
    lab.query("UPDATE etl.batches SET opened_at = opened_at - INTERVAL 30 DAY")  # opened long ago, tried again today
    assert tidy()["abandoned batches closed"] == 0
    assert lab.one(STAGED) == 2
    assert lab.check(batch_id).passed
    merge.merge(batch_id)
    assert lab.facts() == {(7, 0): 1}


def test_an_open_batch_without_recent_attempts_is_abandoned_with_its_staging(lab: Lab) -> None:
    batch_id = staged_batch(lab, kind="backfill", is_delta=False)
    assert lab.check(batch_id).passed
    age(lab, 3)
    dry = steps.run_step("clean_warehouse", {}, dry=True)
    assert [removed.count for removed in dry if removed.count] == [1, 3], "One batch, and its three staged rows."
    assert batches.get(lab.conn, batch_id).state == "open"
    tidy()
    assert lab.one(STAGED) == 0
    with pytest.raises(BatchRefused, match="no run has worked on it for 2 days.*wait_for_changes"):
        merge.merge(batch_id)
    with pytest.raises(BatchRefused, match="wait_for_changes"):
        batches.new_attempt(lab.conn, batch_id)


def test_an_abandoned_batch_names_the_time_without_an_attempt(lab: Lab) -> None:
    batch_id = staged_batch(lab)
    age(lab, 3)
    assert batches.close_overdue(lab.conn, "recruitment", batch_id, 1.5 * DAY)
    assert batches.get(lab.conn, batch_id).reason == "no run has worked on it for 36 hours"


# The list of overdue batches is out of date when the batch's turn comes: a user has cleared the run since.
def test_a_batch_that_resumes_after_the_check_is_not_abandoned(lab: Lab) -> None:
    batch_id = staged_batch(lab)
    age(lab, 3)
    assert batches.overdue(lab.conn, "recruitment", 2 * DAY) == [batch_id]
    lab.stage(batch_id, {minute(0): [contribution(clicks=2, event_count=2)]})
    assert not batches.close_overdue(lab.conn, "recruitment", batch_id, 2 * DAY)
    assert lab.check(batch_id).passed
    merge.merge(batch_id)
    assert lab.facts() == {(7, 0): 2}


def test_a_minute_of_an_abandoned_delta_stays_pending(lab: Lab) -> None:
    lab.see(minute(0))
    staged_batch(lab)
    age(lab, 3)
    tidy()
    assert lab.pending() == [minute(0)]


def test_old_rejected_events_lose_their_payload_but_stay_counted(lab: Lab) -> None:
    lab.publish({minute(0): []}, rejects=[(minute(0), "bid is negative"), (minute(0), "ts is unreadable")], ignored=20)
    lab.query(
        "INSERT INTO etl.rejected_events (pipeline, origin, origin_key, reason, payload) VALUES "
        "('recruitment', 'import', 'sha:12', 'no usable id', 'a,b'), ('recruitment', 'kafka', 'topic/0/7', 'no JSON', '{')"
    )
    age(lab, 100)
    lab.publish({minute(1): []}, rejects=[(minute(1), "of today")], ignored=9, run_id="run-2")
    before = facts_and_ledger(lab)
    assert tidy()["payloads of rejected events emptied"] == 4
    assert tidy()["payloads of rejected events emptied"] == 0
    kept = lab.query("SELECT reason, payload <> '' FROM etl.rejected_events ORDER BY reason")
    assert kept == [
        ("bid is negative", 0),
        ("no JSON", 0),
        ("no usable id", 0),
        ("of today", 1),
        ("ts is unreadable", 0),
    ]
    differing = lab.query(
        "SELECT l.minute FROM etl.minute_ledger AS l WHERE l.rejected_rows <> (SELECT COUNT(*) FROM etl.rejected_events AS r "
        "WHERE r.pipeline = l.pipeline AND r.minute = l.minute AND r.origin = 'lake')"
    )
    assert differing == []
    assert facts_and_ledger(lab) == before


def test_a_minute_that_is_read_again_gets_its_payloads_back(lab: Lab) -> None:
    rejects = [(minute(0), "bid is negative")]
    lab.publish({minute(0): []}, rejects=rejects, ignored=9)
    age(lab, 100)
    tidy()
    lab.publish({minute(0): []}, rejects=rejects, ignored=9, run_id="run-2")
    assert tidy()["payloads of rejected events emptied"] == 0
    assert lab.one("SELECT payload FROM etl.rejected_events") == '{"secret": "payload"}'


def test_old_samples_of_checks_are_deleted_and_the_verdicts_are_kept(lab: Lab) -> None:
    lab.check(staged_batch(lab))
    result = lab.one("SELECT COUNT(*) FROM etl.check_results")
    age(lab, 40)
    assert tidy(staging=90)["samples of check results emptied"] == result
    assert lab.query("SELECT COUNT(*), COUNT(sample) FROM etl.check_results") == [(result, 0)]


def test_old_batches_are_removed_with_everything_that_belongs_to_them(lab: Lab) -> None:
    for number in range(13):
        lab.publish({minute(number): [contribution(number + 1)]}, run_id=f"run-{number}")
    lab.query(
        "INSERT INTO etl.release_passes (batch_id, attempt, minute, check_name, release_id) "
        "SELECT batch_id, 1, '2026-03-05 10:00', 'staging_not_empty', 1 FROM etl.batches"
    )
    age(lab, 100)
    before = facts_and_ledger(lab)
    kept = [batch_id for (batch_id,) in lab.query("SELECT batch_id FROM etl.batches ORDER BY batch_id DESC LIMIT 10")]
    counts = tidy()
    assert counts["batches removed"] == 3
    assert counts["rows removed by its housekeeping.sql"] > 0
    for table in ("batches", "batch_minutes", "attempts", "check_results", "release_passes"):
        left = lab.query(f"SELECT DISTINCT batch_id FROM etl.{table} ORDER BY batch_id DESC")
        assert [batch_id for (batch_id,) in left] == kept, table
    assert facts_and_ledger(lab) == before
    assert tidy()["batches removed"] == 0


def test_minutes_whose_batch_is_gone_are_processed_like_any_other(lab: Lab) -> None:
    lab.see(minute(0))
    first = lab.publish({minute(0): [contribution()]})
    for number in range(1, 12):
        lab.publish({minute(number): []}, run_id=f"run-{number}")
    age(lab, 100)
    tidy()
    with pytest.raises(BatchRefused, match=f"Batch {first} is not in etl.batches"):
        merge.merge(first)
    lab.see(minute(0), at=CLOCK - 300 * SECOND)
    assert lab.pending() == [minute(0)]
    lab.publish({minute(0): [contribution(clicks=3, event_count=3)]}, run_id="late")
    assert (lab.facts(), lab.pending()) == ({(7, 0): 3}, [])


def test_all_failed_batches_but_the_newest_are_removed_even_if_nothing_was_ever_merged(lab: Lab) -> None:
    for number in range(3):
        staged_batch(lab, number)
    lab.query("UPDATE etl.batches SET state = 'failed'")
    newest_attempt = lab.one("SELECT MAX(attempt) FROM etl.attempts")
    age(lab, 100)
    assert tidy()["batches removed"] == 2
    assert lab.query("SELECT attempt FROM etl.attempts") == [(newest_attempt,)]


def test_open_and_recent_batches_are_kept(lab: Lab) -> None:
    staged_batch(lab)
    lab.query("UPDATE etl.batches SET state = 'failed'")
    staged_batch(lab, 1)
    lab.query("UPDATE etl.batches SET opened_at = opened_at - INTERVAL 100 DAY WHERE state = 'open'")
    staged_batch(lab, 2)
    assert tidy()["batches removed"] == 0
    assert lab.one("SELECT COUNT(*) FROM etl.batches") == 3


def test_an_interrupted_housekeeping_keeps_its_chunks_and_resumes(lab: Lab) -> None:
    rejects = [(minute(0), f"reason {number}") for number in range(2_007)]
    lab.publish({minute(0): []}, rejects=rejects, ignored=30_000)
    age(lab, 100)
    last = lab.one("SELECT MAX(rejected_id) FROM etl.rejected_events")
    with warehouse(WAREHOUSE_ADMIN) as admin:
        admin.cursor().execute(
            "CREATE TRIGGER etl.broken_disk BEFORE UPDATE ON etl.rejected_events FOR EACH ROW "
            f"IF NEW.rejected_id = {last} THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'The disk is gone'; END IF"
        )
        with pytest.raises(Exception, match="The disk is gone"):
            expired.empty_payloads(lab.conn, "recruitment", 90 * DAY)
        admin.cursor().execute("DROP TRIGGER etl.broken_disk")
    assert lab.one("SELECT COUNT(*) FROM etl.rejected_events WHERE payload = ''") == 2_000
    assert expired.empty_payloads(lab.conn, "recruitment", 90 * DAY) == 7


@pytest.mark.parametrize(
    ("days", "message"),
    [
        ({"batches": 0}, "Retention batches is 0 days. Set it to 1 to 36500 days."),
        ({"change_log": 999_999}, "Retention change_log is 999999 days. Set it to 1 to 36500 days."),
        ({"batch": 3}, "Unknown retention 'batch'"),
    ],
)
def test_an_implausible_retention_is_refused_before_anything_is_deleted(lab: Lab, days: dict, message: str) -> None:
    with pytest.raises(steps.RetentionRefused, match=message):
        steps.run_step("clean_warehouse", days)


def test_the_command_says_what_it_would_remove(
    lab: Lab, schemas: None, minutemark, capsys: pytest.CaptureFixture
) -> None:
    lab.publish({minute(0): []}, rejects=[(minute(0), "bid is negative")], ignored=9)
    age(lab, 2)
    assert minutemark("housekeeping", "--dry-run", "--keep-rejected-payloads", "1") == 0
    assert "recruitment: 1 payloads of rejected events emptied" in capsys.readouterr().out
    assert minutemark("housekeeping", "--dry-run", "--keep-rejected-payloads=1", "--json") == 0
    done = json.loads(capsys.readouterr().out)
    assert {"where": "recruitment", "what": "payloads of rejected events emptied", "count": 1} in done["removed"]
    assert json.loads(lab.one("SELECT payload FROM etl.rejected_events")) == {"secret": "payload"}
    assert (
        minutemark(
            "housekeeping", "--dry-run", *(f"--keep-{name.replace('_', '-')}=36500" for name in steps.RETENTIONS)
        )
        == 0
    )
    assert minutemark("housekeeping", "--keep-change-log=999999") == 2
    assert "is 999999. Write a number from 1 to 36500." in " ".join(capsys.readouterr().err.split())
    for refused in ("soon", "inf"):
        assert minutemark("housekeeping", f"--keep-rejected-payloads={refused}") == 2
        assert f"{refused!r}, which is not a number" in capsys.readouterr().err


def test_open_batches_of_a_pipeline_that_is_no_longer_declared_are_abandoned(lab: Lab) -> None:
    staged_batch(lab)
    lab.query("UPDATE etl.batches SET pipeline = 'given_away'")
    lab.query("INSERT INTO etl.pipelines (pipeline) VALUES ('given_away')")
    age(lab, 3)
    try:
        tidy()
        assert lab.query("SELECT state FROM etl.batches") == [("failed",)]
        assert lab.one(STAGED) == 0
    finally:
        lab.query("DELETE FROM etl.pipelines WHERE pipeline = 'given_away'")
