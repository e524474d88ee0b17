"""Folding on a real server: it never changes facts, and a folded hour is replaced whole or not at all."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from include import planner
from include.durations import HOUR
from include.housekeeping import folding
from include.lake import change_log
from include.warehouse import batches, held, ledger, merge, sql
from include.warehouse.batches import RunInfo
from include.warehouse.folded_hours import minutes_of
from include.warehouse.session import in_transaction, warehouse
from include.warehouse.sql import files
from tests.warehouse.lab import CLOCK, RECRUITMENT, SECOND, TEN, Lab, contribution, minute

AGE = timedelta(days=90)
LATER = CLOCK + timedelta(days=100)
ELEVEN = TEN + HOUR
ALL_FACTS = "SELECT * FROM recruitment.events ORDER BY 1, 2, 3, 4, 5, 6"


def age_merges(lab: Lab) -> None:
    """Move the last merge of every minute three days back."""
    lab.query("UPDATE etl.minute_ledger SET merged_at = merged_at - INTERVAL 3 DAY")


def fold(lab: Lab, **values) -> int:
    return folding.fold(lab.conn, RECRUITMENT, LATER, AGE, **values)


def folded_hours(lab: Lab) -> list[datetime]:
    return [hour for (hour,) in lab.query("SELECT hour FROM etl.folded_hours ORDER BY hour")]


def differing_hours(lab: Lab) -> list:
    """Where contributions and ledger disagree, compared as verify does: by minute, and folded hours by hour."""
    [file] = files(RECRUITMENT, "verify/minutes_*_counts.sql")
    (query,) = file.statements
    cursor = lab.conn.cursor()
    cursor.execute(query, {"pipeline": "recruitment", "start": datetime(2000, 1, 1), "end": datetime(2100, 1, 1)})
    records = list(cursor.fetchall())
    lab.conn.rollback()
    return records


def test_verify_finds_a_folded_hour_that_lost_or_gained_a_contribution(lab: Lab) -> None:
    two_folded_hours(lab)
    lab.query("DELETE FROM recruitment.events_by_minute WHERE job_id = 8")
    assert differing_hours(lab) == [(TEN, 6, 5)]
    lab.query("UPDATE recruitment.events_by_minute SET event_count = event_count + 1 WHERE job_id = 9")
    assert differing_hours(lab) == []  # the sum is all that is left of an hour; its facts show the rest


def two_folded_hours(lab: Lab) -> list:
    """Fold two hours: job 7 has events in both, jobs 8 and 9 in one. Returns the facts as they were before."""
    lab.see(*(minute(number) for number in (0, 1, 2, 60, 61)))
    lab.publish(
        {
            minute(0): [contribution(7, clicks=2, event_count=2, bid_sum=Decimal("1.25"))],
            minute(1): [contribution(7, publisher_id=3), contribution(8)],
            minute(2): [contribution(7), contribution(9, hours=11, dates=TEN.date() - timedelta(days=9))],
        }
    )
    lab.publish({minute(60): [contribution(7)], minute(61): [contribution(7, bid_sum=0, bid_count=0)]}, run_id="run-2")
    age_merges(lab)
    facts = lab.query(ALL_FACTS)
    assert fold(lab) == 2
    assert folded_hours(lab) == [TEN, ELEVEN]
    return facts


def replace_hour(lab: Lab, rows: dict, run_id: str = "late", **values) -> int:
    """Run a batch of these minutes through the whole chain; it is widened to whole folded hours."""
    options = {name: values.pop(name) for name in ("kind", "is_delta", "allow_shrink") if name in values}
    batch_id = lab.open(*rows, run_id=run_id, **options)
    lab.stage(
        batch_id,
        {
            planned: rows.get(planned, values.get("others", {}).get(planned, []))
            for planned in minutes_in(lab, batch_id)
        },
    )
    lab.check(batch_id)
    merge.merge(batch_id)
    assert lab.check(batch_id, "warehouse").passed
    return batch_id


def minutes_in(lab: Lab, batch_id: int) -> list[datetime]:
    return [planned.minute for planned in batches.get(lab.conn, batch_id).minutes]


def test_folding_leaves_one_row_per_key_and_every_fact_as_it_was(lab: Lab) -> None:
    before = two_folded_hours(lab)
    assert lab.query(ALL_FACTS) == before
    rows = lab.query(
        "SELECT minute, job_id, publisher_id, event_count, bid_sum FROM recruitment.events_by_minute ORDER BY 1, 2, 3"
    )
    assert rows == [
        (TEN, 7, 0, 3, Decimal("1.75")),  # minutes 0 and 2
        (TEN, 7, 3, 1, Decimal("0.5")),
        (TEN, 8, 0, 1, Decimal("0.5")),
        (TEN, 9, 0, 1, Decimal("0.5")),
        (ELEVEN, 7, 0, 2, Decimal("0.5")),
    ]
    assert differing_hours(lab) == []
    assert fold(lab) == 0


def test_facts_recomputed_from_folded_contributions_are_the_same(lab: Lab) -> None:
    before = two_folded_hours(lab)
    lab.publish({minute(120): [contribution(job) for job in (7, 8, 9)]}, run_id="add")
    assert lab.query(ALL_FACTS) != before
    lab.publish({minute(120): []}, run_id="take-back", allow_shrink=True)
    assert lab.query(ALL_FACTS) == before
    assert differing_hours(lab) == []


def test_a_dry_run_counts_and_folds_nothing(lab: Lab) -> None:
    lab.publish({minute(0): [contribution()], minute(1): [contribution()]})
    age_merges(lab)
    assert (fold(lab, dry=True), folded_hours(lab)) == (1, [])


@pytest.mark.parametrize("kind", ["minute", "backfill", "manual", "reconcile"])
def test_a_batch_takes_the_whole_of_a_folded_hour(lab: Lab, kind: str) -> None:
    two_folded_hours(lab)
    batch_id = lab.open(minute(1), minute(130), kind=kind, is_delta=kind == "minute")
    assert minutes_in(lab, batch_id) == [*minutes_of(TEN), minute(130)]
    planned = {entry.minute: entry.changed_at for entry in batches.get(lab.conn, batch_id).minutes}
    assert planned[minute(0)] == lab.ledger(minute(0))["seen_changed_at"], (
        "The batch knows the newest touch that its read covers."
    )
    assert lab.one("SELECT minutes FROM etl.batches WHERE batch_id = %s", batch_id) == 61


def test_a_replaced_hour_is_unfolded_and_facts_of_several_hours_stay_right(lab: Lab) -> None:
    two_folded_hours(lab)
    others = {minute(0): [contribution(7, clicks=2, event_count=2)], minute(2): [contribution(7), contribution(9)]}
    replace_hour(lab, {minute(1): [contribution(7, clicks=4, event_count=4)]}, others=others, allow_shrink=True)
    assert folded_hours(lab) == [ELEVEN]
    # Job 7: 2 + 4 + 1 in this hour, 2 in the folded one. Job 8, and job 7 with publisher 3, had rows only in minute 1.
    assert lab.facts() == {(7, 0): 9, (9, 0): 1}
    assert differing_hours(lab) == []
    assert lab.one("SELECT COUNT(*) FROM etl.minute_ledger WHERE minute < %s AND state = 'merged'", ELEVEN) == 60


def test_an_unfolded_hour_is_folded_again_once_it_is_quiet(lab: Lab) -> None:
    two_folded_hours(lab)
    replace_hour(lab, {minute(0): [contribution()], minute(1): [contribution()]}, allow_shrink=True)
    assert (fold(lab), folded_hours(lab)) == (0, [ELEVEN])
    age_merges(lab)
    facts = lab.query(ALL_FACTS)
    assert (fold(lab), lab.query(ALL_FACTS)) == (1, facts)


@pytest.mark.parametrize("why", ["held by a gate", "superseded", "closed"])
def test_an_hour_that_lacks_a_minute_is_left_out_whole_and_stays_pending(lab: Lab, why: str) -> None:
    before = two_folded_hours(lab)
    lab.see(minute(1), at=CLOCK - 300 * SECOND)
    assert lab.pending() == [minute(1)]
    batch_id = lab.open(minute(1), minute(130), run_id="late", allow_shrink=True)
    rows = {at: [contribution(7, clicks=9, event_count=9)] for at in (minute(1), minute(2), minute(130))}
    if why == "held by a gate":
        rows[minute(2)] = [contribution(7, bid_sum=-1)]
    attempt = lab.stage(batch_id, rows)
    if why == "superseded":
        lab.query("UPDATE etl.minute_ledger SET attempt = %s WHERE minute = %s", attempt + 1, minute(2))
    if why == "closed":
        lab.query("UPDATE etl.minute_ledger SET state = 'closed' WHERE minute = %s", minute(2))
    assert lab.check(batch_id).passed
    result = merge.merge(batch_id)
    assert (result.minutes, result.left_out) == (1, 60), "Minute 130 is in no folded hour."
    lab.query("DELETE FROM recruitment.events_by_minute WHERE minute = %s", minute(130))
    assert folded_hours(lab) == [TEN, ELEVEN]
    assert lab.one("SELECT COUNT(*) FROM recruitment.events_by_minute") == 5
    assert lab.facts() == {key: clicks + (9 if key == (7, 0) else 0) for key, clicks in clicks_of(before).items()}
    assert lab.pending() == [minute(1)]
    state, reason = lab.query(
        "SELECT state, reason FROM etl.batch_minutes WHERE batch_id = %s AND minute = %s", batch_id, minute(1)
    )[0]
    assert state == "skipped"
    assert "only 59 of the 60 minutes" in reason


def clicks_of(facts: list) -> dict:
    """Clicks by (job_id, publisher_id)."""
    return {(row[0], row[3]): row[9] for row in facts}


# Only a batch that somehow lacks minutes gets here: folding waits for open batches, and batches for folding.
def test_a_merge_of_one_minute_of_a_folded_hour_is_skipped(lab: Lab) -> None:
    lab.publish({minute(0): [contribution()], minute(1): [contribution()]})
    batch_id = lab.open(minute(1), run_id="lacking")
    lab.stage(batch_id, {minute(1): [contribution(clicks=5, event_count=5)]})
    assert lab.check(batch_id).passed
    lab.query("INSERT INTO etl.folded_hours (pipeline, hour) VALUES ('recruitment', %s)", TEN)
    assert merge.merge(batch_id).state == "skipped"
    assert lab.check(batch_id, "warehouse").passed
    assert lab.facts() == {(7, 0): 2}


@pytest.mark.parametrize("why", ["pending", "held", "in an open batch", "merged today", "too young", "one minute only"])
def test_an_unfinished_hour_or_one_of_a_single_minute_is_not_folded(lab: Lab, why: str) -> None:
    lab.see(minute(0), minute(1), minute(2))
    lab.publish({minute(number): [contribution()] for number in range(1 if why == "one minute only" else 3)})
    if why != "merged today":
        age_merges(lab)
    if why == "one minute only":
        lab.publish({minute(1): [], minute(2): []}, run_id="empty")
        age_merges(lab)
    if why == "pending":
        lab.see(minute(1), at=CLOCK - SECOND)
    if why == "held":
        ledger.hold(lab.conn.cursor(), "recruitment", [(minute(1), None, "broken")], None)
        lab.conn.commit()
    if why == "in an open batch":
        lab.open(minute(30), run_id="open", kind="backfill", is_delta=False)
    clock = TEN + AGE + timedelta(minutes=59) if why == "too young" else LATER
    assert folding.fold(lab.conn, RECRUITMENT, clock, AGE) == 0
    assert lab.one("SELECT COUNT(*) FROM recruitment.events_by_minute") == (1 if why == "one minute only" else 3)


def two_minutes_to_fold(lab: Lab) -> None:
    lab.publish({minute(0): [contribution()], minute(1): [contribution()]})
    age_merges(lab)


# ⚑ folding and an opening batch: each becomes visible first, and then checks for the other
def test_a_batch_that_opens_while_its_hour_is_folded_takes_the_whole_hour(lab: Lab) -> None:
    two_minutes_to_fold(lab)
    with warehouse() as folder, warehouse() as opener:
        cursor = folder.cursor()
        assert folding.fold_hour(cursor, RECRUITMENT, TEN)
        opened: list[int] = []
        other = threading.Thread(target=lambda: opened.append(Lab(opener).open(minute(1), run_id="race")))
        other.start()
        other.join(0.5)
        assert other.is_alive(), "The batch did not wait for the hour that is being folded."
        folder.commit()
        other.join(20)
        assert minutes_in(lab, opened[0]) == minutes_of(TEN)


def test_an_hour_is_not_folded_while_a_batch_of_it_opens(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    two_minutes_to_fold(lab)
    result: list[int] = []
    folder = threading.Thread(target=lambda: result.append(fold_with_own_session()))
    add_missing_minutes = batches.folded_hours.add_missing_minutes

    def add_minutes_while_folding(*arguments) -> int:
        added = add_missing_minutes(*arguments)
        folder.start()  # after folded hours were read, before the batch is committed
        folder.join(0.5)
        assert folder.is_alive(), "Folding did not wait for the batch that is being opened."
        return added

    monkeypatch.setattr(batches.folded_hours, "add_missing_minutes", add_minutes_while_folding)
    batch_id = lab.open(minute(1), run_id="race")
    folder.join(20)
    assert (result, folded_hours(lab), minutes_in(lab, batch_id)) == ([0], [], [minute(1)])


def fold_with_own_session() -> int:
    with warehouse() as conn:
        return folding.fold(conn, RECRUITMENT, LATER, AGE)


def test_folding_waits_for_a_merge(lab: Lab) -> None:
    two_minutes_to_fold(lab)
    cursor = lab.conn.cursor()
    merge.lock(cursor, RECRUITMENT)
    folder = threading.Thread(target=fold_with_own_session)
    folder.start()
    folder.join(0.5)
    assert folder.is_alive(), "Folding did not take the pipeline's lock."
    lab.conn.commit()
    folder.join(20)
    assert folded_hours(lab) == [TEN]


def delta(lab: Lab, pipeline=RECRUITMENT, clock: datetime = CLOCK) -> int | None:
    polled = planner.Poll(clock, "", 1)
    run = RunInfo("recruitment_minute", "delta", clock)
    return planner.open_delta(pipeline, None, lab.conn, run, polled=polled)


def test_a_delta_takes_the_folded_hour_of_a_late_touch_and_what_else_is_pending(lab: Lab) -> None:
    two_folded_hours(lab)
    lab.see(minute(1), minute(61), minute(110), at=CLOCK - 300 * SECOND)
    assert minutes_in(lab, delta(lab)) == [*minutes_of(TEN), *minutes_of(ELEVEN)]  # minute 110 is in the second hour


def test_a_delta_takes_no_more_folded_hours_than_fit(lab: Lab) -> None:
    two_folded_hours(lab)
    lab.see(minute(1), minute(61), minute(130), at=CLOCK - 300 * SECOND)
    narrow = replace(RECRUITMENT, max_minutes=100)
    assert minutes_in(lab, delta(lab, narrow)) == [*minutes_of(TEN), minute(130)]


# Otherwise every run would read sixty minutes for nothing.
def test_a_delta_leaves_out_a_folded_hour_with_a_held_minute_until_the_minute_is_released(lab: Lab) -> None:
    two_folded_hours(lab)
    lab.see(minute(1), minute(130), at=CLOCK - 300 * SECOND)
    ledger.hold(
        lab.conn.cursor(), "recruitment", [(minute(2), lab.ledger(minute(2))["seen_changed_at"], "broken")], None
    )
    lab.conn.commit()
    assert minutes_in(lab, delta(lab)) == [minute(130)]
    assert lab.pending() == [minute(1), minute(130)]
    held.release(lab.conn, RECRUITMENT, minute(2), minute(3), by="a test")
    assert minutes_in(lab, delta(lab)) == [*minutes_of(TEN), minute(130)]


def test_blocked_folded_hours_take_no_places_from_the_rest_of_a_backlog(lab: Lab) -> None:
    two_folded_hours(lab)
    lab.query("DELETE FROM etl.folded_hours WHERE hour = %s", ELEVEN)
    lab.see(minute(1), minute(3), minute(5), minute(7), minute(70), minute(80), at=CLOCK - 300 * SECOND)
    ledger.hold(
        lab.conn.cursor(), "recruitment", [(minute(2), lab.ledger(minute(2))["seen_changed_at"], "broken")], None
    )
    lab.conn.commit()
    narrow = replace(RECRUITMENT, max_minutes=3, live_minutes=1)
    assert minutes_in(lab, delta(lab, narrow)) == [minute(70), minute(80)]


def test_the_pending_minute_of_a_folded_hour_that_fails_alone_while_others_pass_is_held(lab: Lab) -> None:
    two_folded_hours(lab)
    lab.see(minute(1), at=CLOCK - 300 * SECOND)
    batch_id = lab.open(minute(1), run_id="fails", split_size=1)
    batches.new_attempt(lab.conn, batch_id)
    batches.new_attempt(lab.conn, batch_id)
    lab.publish({minute(130): [contribution()]}, run_id="other", is_delta=False)
    batches.close_abandoned(lab.conn, RECRUITMENT, "recruitment_minute", "next")
    assert lab.query("SELECT minute FROM etl.minute_ledger WHERE state = 'held'") == [(minute(1),)]


# With a lake retention, the lake may no longer have all rows of the hour.
def test_a_closed_hour_is_folded_and_never_unfolded(lab: Lab) -> None:
    lab.see(minute(0), minute(1))
    lab.publish({minute(0): [contribution()], minute(1): [contribution()]})
    lab.see(minute(1), at=CLOCK - 300 * SECOND)
    forgetful = replace(RECRUITMENT, lake_retention=timedelta(days=10))
    age_merges(lab)
    assert ledger.close_expired(lab.conn, forgetful, LATER) == 1
    assert folding.fold(lab.conn, forgetful, LATER, AGE) == 1
    lab.see(minute(0), at=CLOCK - 200 * SECOND)
    assert delta(lab, forgetful, LATER) is None
    replace_hour(lab, {minute(0): [contribution(clicks=5, event_count=5)]}, kind="backfill", is_delta=False)
    assert (lab.facts(), folded_hours(lab)) == ({(7, 0): 2}, [TEN])


def test_a_range_into_a_folded_hour_whose_start_is_closed_is_refused(lab: Lab, reader) -> None:
    two_folded_hours(lab)
    clock = change_log.clock(reader)
    forgetful = replace(RECRUITMENT, lake_retention=clock - minute(10))
    run = RunInfo("d", "r", clock, kind="manual")
    with pytest.raises(planner.RangeRefused, match="10:00 to 10:59 are folded.*from 2026-03-01 11:00 on"):
        planner.open_range(forgetful, reader, lab.conn, run, start=minute(30), end=minute(50))


def test_a_fold_that_changes_what_an_hour_contributes_is_refused(lab: Lab, tmp_path, monkeypatch) -> None:
    two_minutes_to_fold(lab)
    [template] = files(RECRUITMENT, "fold.sql")
    shutil.copytree(sql.FOLDER, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(sql, "FOLDER", tmp_path)
    override = tmp_path / "recruitment" / "events" / "fold.sql"  # in place of the template
    override.parent.mkdir()
    for wrong_text in (
        template.text.replace("SUM(c.event_count)", "MAX(c.event_count)"),
        template.text.partition("DELETE FROM")[0],
    ):
        override.write_text(wrong_text)
        with pytest.raises(folding.FoldMismatch, match="recruitment/events/fold.sql"):
            fold(lab)
        assert (folded_hours(lab), lab.one("SELECT COUNT(*) FROM recruitment.events_by_minute")) == ([], 2)


def test_a_pipeline_without_summed_facts_is_not_folded(lab: Lab) -> None:
    two_minutes_to_fold(lab)
    clock = CLOCK + timedelta(days=100)
    assert folding.fold(lab.conn, replace(RECRUITMENT, facts=()), clock, timedelta(days=90)) == 0


def test_a_killed_folding_resumes_with_the_next_hour(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.publish({minute(number): [contribution()] for number in (0, 1, 60, 61)})
    age_merges(lab)
    facts = lab.query(ALL_FACTS)
    fold_hour, started = folding.fold_hour, []

    def killed_at_the_end_of_the_second(cursor, pipeline, hour) -> bool:
        started.append(hour)
        done = fold_hour(cursor, pipeline, hour)
        if len(started) == 2:
            raise KeyboardInterrupt
        return done

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(folding, "fold_hour", killed_at_the_end_of_the_second)
        fold(lab)
    assert (folded_hours(lab), differing_hours(lab), lab.query(ALL_FACTS)) == ([TEN], [], facts)
    assert (fold(lab), folded_hours(lab), differing_hours(lab), lab.query(ALL_FACTS)) == (1, [TEN, ELEVEN], [], facts)


def test_a_second_fold_of_the_same_hour_does_nothing(lab: Lab) -> None:
    two_minutes_to_fold(lab)
    assert fold(lab) == 1
    assert in_transaction(lab.conn, lambda cursor: folding.fold_hour(cursor, RECRUITMENT, TEN)) is False
