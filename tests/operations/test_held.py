"""Held minutes on a real server: a hold changes nothing that is published, and one merge uses up a release."""

from __future__ import annotations

import json
import os
import re
import threading
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from airflow.models import DagRun

from dags import operations
from include.warehouse import batches, held, ledger, merge
from include.warehouse.errors import BatchRefused
from include.warehouse.session import warehouse
from tests.warehouse.lab import CLOCK, RECRUITMENT, SECOND, TEN, Lab, contribution, minute

MINUTE = timedelta(minutes=1)
BAD = [contribution(bid_sum=-1)]
GOOD = {minute(1): [contribution()]}
PUBLISHED = (
    "SELECT * FROM recruitment.events", "SELECT * FROM recruitment.events_by_minute", "SELECT * FROM etl.rejected_events",
    "SELECT minute, read_changed_at, batch_id, attempt, raw_rows, counted_rows, ignored_rows, rejected_rows, id_checksum"
    " FROM etl.minute_ledger",
)  # fmt: skip


def gate(lab: Lab, rows: dict, *, run_id: str = "gate", see: bool = False, **values):
    """Run a batch of these minutes up to its staging gate; returns (batch id, result)."""
    if see:
        lab.see(*rows, at=CLOCK - 500 * SECOND)
    opening = {name: values.pop(name) for name in ("clock", "allow_shrink", "kind", "is_delta") if name in values}
    batch_id = lab.open(*rows, run_id=run_id, **opening)
    lab.stage(batch_id, rows, **values)
    return batch_id, lab.check(batch_id)


def hold(lab: Lab, rows: dict | None = None, **values) -> int:
    """Hold minute 0 at the gate, and merge the batch's good minutes, such as minute 1, without it."""
    batch_id, result = gate(lab, {minute(0): BAD, **GOOD} | (rows or {}), run_id="hold", see=True, **values)
    assert minute(0) in result.held
    merge.merge(batch_id)
    return batch_id


def release(lab: Lab, start=TEN, end=None, by: str = "ann", **values) -> held.Released:
    return held.release(lab.conn, RECRUITMENT, start, end or start + MINUTE, by=by, **values)


def releases(lab: Lab, columns: str = "minute, released_by, used_by_batch") -> list[tuple]:
    return lab.query(f"SELECT {columns} FROM etl.releases ORDER BY release_id")


def test_the_dag_records_the_user_who_triggered_its_run_not_the_name_in_the_form(lab: Lab) -> None:
    hold(lab)
    run = DagRun(dag_id="minutemark_release", run_id="manual", triggering_user_name="ulf")
    form = dict.fromkeys(("from", "to")) | {"pipeline": "recruitment", "minute": "2026-03-01T10:00"}
    operations.release_minutes.function(params=form | {"by": "the CFO", "why": "refund"}, dag_run=run)
    assert releases(lab, "minute, released_by, reason") == [(minute(0), "ulf", "refund (by the CFO)")]


# A statement takes a limited number of minutes; a source that breaks may fill a whole batch with bad minutes.
def test_every_one_of_many_bad_minutes_is_held_for_its_own_rows(lab: Lab) -> None:
    bad = {minute(number): [contribution(bid_sum=-1)] * (1 + number % 2) for number in range(-1_100, 0)}
    for rows in bad.values():
        rows[1:] = [{**row, "job_id": 8} for row in rows[1:]]
    batch_id = hold(lab, bad)
    held_now = lab.query("SELECT minute, rows_now, batch_id FROM etl.holds WHERE minute < %s ORDER BY minute", TEN)
    assert held_now == [(at, len(rows), batch_id) for at, rows in bad.items()]
    states = "SELECT COUNT(*) FROM etl.{} WHERE state = 'held' AND reason LIKE '%%staging_events_no_negative%%'"
    assert [lab.one(states.format(table)) for table in ("minute_ledger", "batch_minutes")] == [1_101, 1_101]
    assert lab.pending() == []
    release(lab, minute(-1_100), minute(1))
    held_since = lab.query("SELECT held_since FROM etl.holds ORDER BY minute")
    ledger.hold(lab.conn.cursor(), "recruitment", [(at, None, "fails alone") for at in bad], None)
    lab.conn.commit()
    assert lab.query("SELECT held_since FROM etl.holds ORDER BY minute") == held_since
    assert lab.one("SELECT COUNT(*) FROM etl.releases WHERE used_at IS NOT NULL AND used_by_batch IS NULL") == 1_100


def test_a_hold_changes_nothing_that_is_published(lab: Lab) -> None:
    lab.publish({minute(0): [contribution(event_count=5, clicks=5)], minute(1): [contribution()]}, run_id="before")
    before = [lab.query(text) for text in PUBLISHED]
    _, result = gate(lab, {minute(0): [contribution()], minute(1): BAD})
    assert (result.passed, result.held) == (False, (minute(0), minute(1)))
    assert [lab.query(text) for text in PUBLISHED] == before


# ⚑ pending is derived: a release sets held_changed_at to a value that no change has
@pytest.mark.parametrize("touched", [True, False], ids=["in the change log", "not in the change log"])
def test_a_released_minute_is_pending_until_it_is_merged(lab: Lab, touched: bool) -> None:
    if touched:
        lab.see(minute(0))
    gate(lab, {minute(0): BAD}, kind="backfill", is_delta=False)
    assert lab.pending() == []
    assert str(release(lab)).startswith("Released by ann: 2026-03-01 10:00. The next run of recruitment_minute")
    assert lab.pending() == [minute(0)]
    batch_id, result = gate(lab, {minute(0): BAD}, run_id="next")
    assert (result.passed, result.held, result.released) == (True, (), (minute(0),))
    merge.merge(batch_id)
    row = lab.ledger(minute(0))
    assert (row["state"], row["reason"], row["pending"], row["raw_rows"]) == ("merged", None, 0, 1)


def test_a_check_that_only_a_released_minute_breaks_is_a_warning_that_names_the_user(lab: Lab) -> None:
    hold(lab)
    release(lab, reason="a refund of the agency")
    batch_id, result = gate(lab, {minute(0): BAD, **GOOD}, run_id="next")
    stored = lab.query(
        "SELECT severity, outcome, sample FROM etl.check_results "
        "WHERE batch_id = %s AND check_name = 'staging_events_no_negative'",
        batch_id,
    )
    assert stored[0][:2] == ("fail", "warn")
    assert json.loads(stored[0][2])[0]["released_by"] == "ann"
    assert "2026-03-01 10:00 passes staging_events_no_negative as released by ann." in str(result)
    merge.merge(batch_id)
    assert lab.query("SELECT batch_id, minute, check_name FROM etl.release_passes") == [
        (batch_id, minute(0), "staging_events_no_negative")
    ]
    [(held_reason, why, by, used)] = releases(lab, "held_reason, reason, released_by, used_by_batch")
    assert (why, by, used) == ("a refund of the agency", "ann", batch_id)
    assert held_reason.startswith("staging_events_no_negative: ")


def test_a_release_lets_no_other_minute_pass(lab: Lab) -> None:
    hold(lab)
    release(lab)
    batch_id, result = gate(lab, {minute(0): BAD, minute(2): BAD, **GOOD}, run_id="next", see=True)
    assert (result.passed, result.held, result.released) == (True, (minute(2),), (minute(0),))
    [check] = [outcome for outcome in result.outcomes if outcome.check == "staging_events_no_negative"]
    assert check.outcome == "fail"
    merge.merge(batch_id)
    states = dict(lab.query("SELECT minute, state FROM etl.minute_ledger"))
    assert states == {minute(0): "merged", minute(1): "merged", minute(2): "held"}


def test_a_release_lets_no_failure_of_the_whole_batch_pass(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from include.warehouse import gates
    from include.warehouse.sql import Check

    hold(lab)
    release(lab)
    original_checks = gates.checks
    always = Check("staging_never", "fail", "Never right.", "SELECT 1 AS one")
    monkeypatch.setattr(gates, "checks", lambda folder, name: [*original_checks(folder, name), always])
    batch_id, result = gate(lab, {minute(0): BAD, **GOOD}, run_id="next")
    assert (result.passed, result.released) == (False, ())
    with pytest.raises(BatchRefused, match="has passed the staging gate"):
        merge.merge(batch_id)
    monkeypatch.undo()
    assert gate(lab, {minute(0): BAD}, run_id="third")[1].passed, "The release is still there for the next batch."


# ⚑ a release is used up by one merge
def test_a_later_failure_of_a_released_minute_holds_it_again(lab: Lab) -> None:
    hold(lab)
    release(lab)
    batch_id, _ = gate(lab, {minute(0): BAD}, run_id="next")
    merge.merge(batch_id)
    assert releases(lab) == [(minute(0), "ann", batch_id)]
    _, result = gate(lab, {minute(0): BAD}, run_id="later")
    assert result.held == (minute(0),)
    assert releases(lab) == [(minute(0), "ann", batch_id)], "The record stays."


def test_a_merge_that_did_not_need_the_release_uses_it_up_too(lab: Lab) -> None:
    hold(lab)
    release(lab)
    batch_id, result = gate(lab, {minute(0): [contribution()]}, run_id="fixed")
    assert result.released == ()
    merge.merge(batch_id)
    assert releases(lab) == [(minute(0), "ann", batch_id)]
    assert gate(lab, {minute(0): BAD}, run_id="later")[1].held == (minute(0),)


# ⚑ two batches pass with the same release: the second merge finds it used up
def test_only_one_of_two_batches_publishes_with_a_release(lab: Lab) -> None:
    hold(lab)
    release(lab)
    first, _ = gate(lab, {minute(0): BAD}, run_id="first", kind="backfill", is_delta=False)
    worse = [contribution(bid_sum=-9)]
    second, result = gate(lab, {minute(0): worse, minute(2): [contribution(8)]}, run_id="second", is_delta=False)
    assert result.released == (minute(0),)
    merge.merge(first)
    assert merge.merge(second).left_out == 1
    assert lab.facts("bid_sum")[7, 0] == Decimal("-0.5"), "0.5 of minute 1, and -1 of the first read of minute 0."
    assert lab.facts()[8, 0] == 1


def test_a_repeated_merge_that_has_used_its_release_changes_nothing(lab: Lab) -> None:
    hold(lab)
    release(lab)
    batch_id, _ = gate(lab, {minute(0): BAD}, run_id="next")
    merge.merge(batch_id)
    before = [lab.query(text) for text in (*PUBLISHED, "SELECT * FROM etl.releases")]
    assert not merge.merge(batch_id).changed
    assert [lab.query(text) for text in (*PUBLISHED, "SELECT * FROM etl.releases")] == before


def test_a_release_outlives_a_batch_that_never_merges(lab: Lab) -> None:
    hold(lab)
    release(lab)
    gate(lab, {minute(0): BAD}, run_id="killed before its merge")
    batches.close_abandoned(lab.conn, RECRUITMENT, "recruitment_minute", "next")
    assert lab.pending() == [minute(0)]
    batch_id, result = gate(lab, {minute(0): BAD}, run_id="next")
    assert result.released == (minute(0),)
    merge.merge(batch_id)
    assert releases(lab) == [(minute(0), "ann", batch_id)]


# ⚑ shrink guard
def test_releasing_a_minute_that_shrank_publishes_the_smaller_read(lab: Lab) -> None:
    lab.publish({minute(0): [contribution(event_count=5, clicks=5)]}, run_id="before")
    smaller = {minute(0): [contribution()]}
    hold(lab, smaller)
    assert lab.facts() == {(7, 0): 6}
    release(lab)
    batch_id, result = gate(lab, smaller, run_id="next")
    assert [outcome.outcome for outcome in result.outcomes if outcome.check == "staging_shrink"] == ["warn"]
    merge.merge(batch_id)
    assert lab.check(batch_id, "warehouse").passed
    assert lab.facts() == {(7, 0): 2}
    assert lab.ledger(minute(0))["raw_rows"] == 1
    assert gate(lab, {minute(0): []}, run_id="shrinks again")[1].held == (minute(0),)


def test_a_release_gives_a_minute_that_failed_in_spark_one_more_try(lab: Lab) -> None:
    lab.see(minute(0))
    for run_id in ("first", "second"):
        batch_id = lab.open(minute(0), split_size=1, run_id=run_id)
        batches.new_attempt(lab.conn, batch_id)
        batches.new_attempt(lab.conn, batch_id)
        lab.publish({minute(1): [contribution()]}, run_id=f"alongside {run_id}", is_delta=False)
        batches.close_abandoned(lab.conn, RECRUITMENT, "recruitment_minute", f"after {run_id}")
        assert (lab.ledger(minute(0))["state"], lab.pending()) == ("held", [])
        if run_id == "first":
            release(lab)
            assert lab.pending() == [minute(0)]
    assert releases(lab, "used_by_batch, used_at IS NOT NULL") == [(None, 1)]
    assert gate(lab, {minute(0): BAD}, run_id="by hand", is_delta=False)[1].held == (minute(0),)


# ⚑ a release takes the pipeline's lock
def test_a_release_waits_for_a_gate_that_is_about_to_hold(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Minute 0 is held and touched, and a batch reads it again. A release between the checks and the verdict must not be lost."""
    from include.warehouse import gates

    hold(lab)
    lab.see(minute(0), at=CLOCK - SECOND)
    keep_passes, releasing = gates.held.keep_passes, []

    def release_meanwhile(cursor, *args) -> None:
        def release_in_another_session() -> None:
            with warehouse() as conn:
                held.release(conn, RECRUITMENT, TEN, TEN + MINUTE, by="ann")

        releasing.append(threading.Thread(target=release_in_another_session))
        releasing[0].start()
        releasing[0].join(0.5)
        assert releasing[0].is_alive(), "The release did not wait for the gate's verdict."
        keep_passes(cursor, *args)

    monkeypatch.setattr(gates.held, "keep_passes", release_meanwhile)
    _, result = gate(lab, {minute(0): BAD}, run_id="next")
    releasing[0].join(20)
    assert result.held == (minute(0),)
    assert lab.pending() == [minute(0)]


def test_releasing_again_says_that_it_waits_and_keeps_one_record(lab: Lab) -> None:
    hold(lab, {minute(2): BAD})
    release(lab)
    again = release(lab, TEN, TEN + 3 * MINUTE, by="bob")
    assert (again.minutes, again.before) == ((minute(2),), (minute(0),))
    assert "Already released, waiting for the next run: 2026-03-01 10:00." in str(again)
    assert releases(lab) == [(minute(0), "ann", None), (minute(2), "bob", None)]
    assert lab.pending() == [minute(0), minute(2)]


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (
            minute(1),
            minute(2),
            "2026-03-01 10:01 of recruitment is not held. Held minutes: 2026-03-01 10:00; `./minutemark held` shows",
        ),
        (
            minute(1),
            minute(9),
            "No minute of recruitment from 2026-03-01 10:01 to 2026-03-01 10:09 (excluded) is held. Held",
        ),
    ],
)
def test_a_release_of_minutes_that_are_not_held_names_those_that_are(lab: Lab, start, end, message: str) -> None:
    hold(lab)
    with pytest.raises(held.ReleaseRefused, match=re.escape(message)):
        release(lab, start, end)
    assert releases(lab) == []


def test_a_release_of_a_minute_that_was_released_and_merged_says_so(lab: Lab) -> None:
    hold(lab)
    release(lab)
    batch_id, _ = gate(lab, {minute(0): BAD}, run_id="next")
    merge.merge(batch_id)
    with pytest.raises(held.ReleaseRefused, match=f"was released by ann at .*, and batch {batch_id} has published it"):
        release(lab)


def test_minutes_past_lake_retention_are_not_released(lab: Lab) -> None:
    hold(lab)
    short_retention = replace(RECRUITMENT, lake_retention=timedelta(days=1))
    with pytest.raises(
        held.ReleaseRefused, match="10:00 of recruitment is closed: bedan.tracking keeps events for 1 day,"
    ) as refused:
        held.release(lab.conn, short_retention, TEN, TEN + MINUTE, by="ann")
    assert lab.pending() == []
    first = datetime.strptime(re.search(r"Only minutes from (.{16}) on can", str(refused.value))[1], "%Y-%m-%d %H:%M")
    with pytest.raises(held.ReleaseRefused, match="is not held") as not_closed:
        held.release(lab.conn, short_retention, first, first + MINUTE, by="ann")
    assert "closed" not in str(not_closed.value)


# Publishing a held minute without a release.
def test_a_touch_that_fixes_a_held_minute_publishes_it(lab: Lab) -> None:
    hold(lab)
    lab.see(minute(0), at=CLOCK - 100 * SECOND)
    assert lab.pending() == [minute(0)]
    batch_id, result = gate(lab, {minute(0): [contribution()]}, run_id="next")
    assert result.passed
    merge.merge(batch_id)
    assert (lab.ledger(minute(0))["state"], lab.pending(), lab.facts()) == ("merged", [], {(7, 0): 2})
    assert releases(lab) == []


@pytest.mark.parametrize("kind", ["backfill", "manual"])
def test_a_run_over_a_held_minute_that_passes_publishes_it(lab: Lab, kind: str) -> None:
    hold(lab)
    batch_id, result = gate(lab, {minute(0): [contribution()]}, run_id=kind, kind=kind, is_delta=False)
    assert result.passed
    merge.merge(batch_id)
    assert (lab.ledger(minute(0))["state"], lab.pending(), lab.facts()) == ("merged", [], {(7, 0): 2})


@pytest.mark.parametrize("kind", ["backfill", "manual"])
def test_a_run_over_a_held_minute_that_fails_leaves_it_held(lab: Lab, kind: str) -> None:
    hold(lab)
    assert gate(lab, {minute(0): BAD}, run_id=kind, kind=kind, is_delta=False)[1].held == (minute(0),)
    assert lab.pending() == []


def test_the_list_shows_since_when_how_many_rows_and_what_failed(lab: Lab) -> None:
    lab.publish({minute(0): [contribution(event_count=5, clicks=5)]}, run_id="before")
    batch_id = hold(lab, {minute(0): BAD, minute(2): BAD})
    first, second = held.held_minutes(lab.conn, [RECRUITMENT])
    assert (first["minute"], first["status"], first["rows_before"], first["rows_now"]) == (minute(0), "held", 5, 1)
    assert (first["batch_id"], second["rows_before"], second["rows_now"]) == (batch_id, None, 1)
    assert first["held_since"] == first["held_at"]
    assert [check["check_name"] for check in first["checks"]] == ["staging_shrink", "staging_events_no_negative"]
    assert [row["minute"] for row in second["checks"][0]["sample"]] == [str(minute(2))]
    lab.see(minute(0), at=CLOCK - SECOND)
    release(lab, minute(2))
    assert [row["status"] for row in held.held_minutes(lab.conn, [RECRUITMENT])] == ["touched", "released"]


def test_a_minute_that_is_held_again_keeps_the_time_of_its_first_hold(lab: Lab) -> None:
    hold(lab)
    [first_hold] = held.held_minutes(lab.conn, [RECRUITMENT])
    gate(lab, {minute(0): BAD}, run_id="again")
    [second_hold] = held.held_minutes(lab.conn, [RECRUITMENT])
    assert (second_hold["held_since"] == first_hold["held_since"], second_hold["held_at"] > first_hold["held_at"]) == (
        True,
        True,
    )


def test_a_minute_held_by_hand_or_before_an_upgrade_is_listed_too(lab: Lab) -> None:
    ledger.hold(lab.conn.cursor(), "recruitment", [(minute(0), None, "broken")], None)
    lab.query("DELETE FROM etl.holds")
    [row] = held.held_minutes(lab.conn, [RECRUITMENT])
    assert (row["reason"], row["held_since"], row["checks"]) == ("broken", None, [])


def test_holding_and_releasing_work_with_the_other_client_library(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mysql.connector")
    connection = json.loads(os.environ["AIRFLOW_CONN_WAREHOUSE_ETL"])
    monkeypatch.setenv(
        "AIRFLOW_CONN_WAREHOUSE_ETL", json.dumps(connection | {"extra": {"client": "mysql-connector-python"}})
    )
    with warehouse() as conn:
        assert "mysql.connector" in type(conn).__module__
        other = Lab(conn)
        hold(other)
        [row] = held.held_minutes(conn, [RECRUITMENT])
        assert (row["status"], row["checks"][0]["check_name"]) == ("held", "staging_events_no_negative")
        release(other, by="größer")
        batch_id, result = gate(other, {minute(0): BAD}, run_id="next")
        assert result.released == (minute(0),)
        merge.merge(batch_id)
        assert releases(other) == [(minute(0), "größer", batch_id)]


def test_held_minutes_are_listed_by_reason_in_a_table_and_by_minute_in_json(lab: Lab, minutemark, capsys) -> None:
    assert minutemark("held") == 0
    assert capsys.readouterr().out == "No minutes are held in ecommerce, recruitment.\n"
    hold(lab)
    release(lab, reason="checked with the agency")
    assert minutemark("held", "recruitment") == 0
    shown = capsys.readouterr().out
    for part in (
        "2026-03-01 10:00",
        "released by ann",
        "checked with the agency",
        "staging_events_no_negative found offending rows in batch ",
        ", 1 in all, such as",
        '"job_id": 7',
    ):
        assert part in shown
    for option in (["--json"], ["--format", "json"]):
        assert minutemark("held", *option) == 0
        [row] = json.loads(capsys.readouterr().out)
        assert (row["minute"], row["status"], row["rows_now"]) == ("2026-03-01 10:00:00", "released", 1)


def test_minutes_held_for_reasons_that_differ_only_in_numbers_are_one_row(lab: Lab, minutemark, capsys) -> None:
    reasons = {minute(number): f"{number + 1} of {number + 2:,} rows are rejected" for number in range(1_700)}
    ledger.hold(lab.conn.cursor(), "recruitment", [(at, None, why) for at, why in reasons.items()], None)
    ledger.hold(lab.conn.cursor(), "recruitment", [(minute(2_000), None, "bid is negative")], None)
    lab.conn.commit()
    assert minutemark("held", "recruitment", "--format", "tsv") == 0
    titles, *groups = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    shown = [dict(zip(titles, group, strict=True)) for group in groups]
    assert [(row["minutes"], row["first_minute"], row["last_minute"], row["reason"]) for row in shown] == [
        ("1700", str(minute(0)), str(minute(1_699)), "N of N rows are rejected"),
        ("1", str(minute(2_000)), str(minute(2_000)), "bid is negative"),
    ]
    assert minutemark("held", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)) == 1_701


def test_a_release_records_the_login_name_and_notes_a_different_name(lab: Lab, minutemark, monkeypatch, capsys) -> None:
    monkeypatch.setenv("LOGNAME", "carol")
    hold(lab, {minute(2): BAD})
    assert minutemark("release", "recruitment", "2026-03-01T10:00Z") == 0
    assert "Released by carol: 2026-03-01 10:00." in capsys.readouterr().out
    range_ = ["--from", "2026-03-01 10:00", "--to", "2026-03-01 10:05"]
    assert minutemark("release", "recruitment", *range_, "--by", "dora", "--why=-- it's right", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "pipeline": "recruitment",
        "by": "carol",
        "minutes": [str(minute(2))],
        "before": [str(minute(0))],
    }
    assert releases(lab, "minute, released_by, reason") == [
        (minute(0), "carol", None),
        (minute(2), "carol", "-- it's right (by dora)"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["recruitment"], "either `minute`, or both `from` and `to`"),
        (["recruitment", "--from", "2026-03-01T11:00", "--to", "2026-03-01T10:00"], "must be before `to`"),
        (["recruitment", "--from", "2026-03-01T11:00"], "`to` is empty"),
        (["recruitment", "2026-03-01T11:00"], "11:00 of recruitment is not held"),
    ],
)
def test_a_release_that_is_refused_says_what_is_held(
    lab: Lab, minutemark, capsys, arguments: list[str], message: str
) -> None:
    hold(lab)
    assert minutemark("release", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("Nothing was released. ") and "Traceback" not in error
    assert "2026-03-01 10:00" in error.partition("Held ")[2]
    assert re.search(message, error)
    assert lab.pending() == []
