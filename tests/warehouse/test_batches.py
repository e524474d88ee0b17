"""Batches: attempts, replacement, and how one minute that always fails is found without stopping the others."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from include.warehouse import batches, ledger, merge
from include.warehouse.delta import LastDelta
from include.warehouse.errors import BatchRefused
from include.warehouse.session import warehouse
from tests.warehouse.lab import CLOCK, RECRUITMENT, SECOND, Lab, contribution, minute

FOUR = [minute(number) for number in range(4)]


def fail_in_spark(lab: Lab, batch_id: int, times: int = 2) -> None:
    for _ in range(times):
        batches.new_attempt(lab.conn, batch_id)


def next_run(lab: Lab, run_id: str = "next") -> list[int]:
    return batches.close_abandoned(lab.conn, RECRUITMENT, "recruitment_minute", run_id)


def split_sizes(lab: Lab) -> dict:
    return dict(lab.query("SELECT minute, split_size FROM etl.minute_ledger WHERE split_size IS NOT NULL"))


def test_a_batch_remembers_what_its_run_needs(lab: Lab) -> None:
    lab.see(minute(0))
    batch_id = lab.open(minute(0), minute(1), allow_shrink=True, options={"recover": False})
    batch = batches.get(lab.conn, batch_id)
    assert (batch.pipeline, batch.run.options, batch.run.allow_shrink, batch.state) == (
        "recruitment",
        {"recover": False},
        True,
        "open",
    )
    assert [planned.minute for planned in batch.minutes] == [minute(0), minute(1)]
    assert batch.minutes[0].changed_at == lab.ledger(minute(0))["seen_changed_at"]
    assert batch.estimated_rows == 2


def test_attempt_numbers_grow_and_end_with_the_batch(lab: Lab) -> None:
    batch_id = lab.open(minute(0))
    first, second = batches.new_attempt(lab.conn, batch_id), batches.new_attempt(lab.conn, batch_id)
    assert second > first
    lab.stage(batch_id, {minute(0): [contribution()]})
    assert lab.check(batch_id).passed
    merge.merge(batch_id)
    # A cleared run of the minute DAG would not read them: they are no longer pending.
    for state in ("merged", "skipped"):
        lab.query("UPDATE etl.batches SET state = %s", state)
        with pytest.raises(BatchRefused, match=f"is {state}.*again, trigger recruitment_minute with `from` and `to`"):
            batches.new_attempt(lab.conn, batch_id)


# ⚑ an attempt ends with a row of counts for every minute of the batch, even if all are zero, as completion marker
def test_an_attempt_is_complete_when_every_minute_has_counts(lab: Lab) -> None:
    batch_id = lab.open(minute(0), minute(1))
    complete = lab.stage(batch_id, {minute(0): [contribution()]})
    broken = lab.stage(batch_id, {minute(0): [contribution()]})
    assert batches.completed_attempt(lab.conn, batch_id) == broken
    lab.query("DELETE FROM etl.staged_counts WHERE attempt = %s AND minute = %s", broken, minute(1))
    assert batches.completed_attempt(lab.conn, batch_id) == complete
    lab.query("DELETE FROM etl.staged_counts")
    assert batches.completed_attempt(lab.conn, batch_id) is None


def test_clearing_a_run_from_its_sensor_replaces_its_batch(lab: Lab) -> None:
    old = lab.open(minute(0), kind="backfill", is_delta=False)
    bystander = lab.open(minute(0), run_id="another", kind="backfill", is_delta=False)
    new = lab.open(minute(0), kind="backfill", is_delta=False)
    assert batches.get(lab.conn, old).reason == f"replaced by batch {new}"
    assert [batches.get(lab.conn, batch_id).state for batch_id in (old, bystander, new)] == ["failed", "open", "open"]
    with pytest.raises(BatchRefused, match="replaced by batch"):
        batches.new_attempt(lab.conn, old)


# ⚑ a batch that fails twice in Spark or in the merge is split
@pytest.mark.parametrize("step", ["spark", "merge"])
def test_minutes_of_a_batch_that_failed_twice_are_split(lab: Lab, step: str) -> None:
    lab.see(*FOUR)
    batch_id = lab.open(*FOUR)
    if step == "spark":
        fail_in_spark(lab, batch_id)
    else:
        lab.query("UPDATE etl.batches SET merge_tries = 2")
    assert next_run(lab) == [batch_id]
    assert split_sizes(lab) == dict.fromkeys(FOUR, 2)
    assert batches.get(lab.conn, batch_id).state == "failed"
    half = lab.open(*FOUR[:2], run_id="half", split_size=2)
    assert batches.last_delta(lab.conn, RECRUITMENT) == LastDelta(True, minute(0))
    fail_in_spark(lab, half)
    next_run(lab)
    assert split_sizes(lab) == {minute(0): 1, minute(1): 1, minute(2): 2, minute(3): 2}


@pytest.mark.parametrize("case", ["failed once", "gate failed", "not a delta", "same dag, same run"])
def test_other_failures_split_nothing(lab: Lab, case: str) -> None:
    lab.see(*FOUR)
    batch_id = lab.open(*FOUR, is_delta=case != "not a delta")
    if case == "gate failed":
        fail_in_spark(lab, batch_id, times=1)
        lab.stage(batch_id, {minute(0): [contribution(job_id=-1)]}, counts={at: {"raw_rows": 99} for at in FOUR})
        assert not lab.check(batch_id).passed
    else:
        fail_in_spark(lab, batch_id, times=1 if case.startswith("failed once") else 2)
    if case == "same dag, same run":
        lab.stage(batch_id, {})
        assert lab.check(batch_id).passed  # only its merge was never started
        next_run(lab, "run-1")
    else:
        next_run(lab)
    assert split_sizes(lab) == {}


# ⚑ a minute that fails alone while others pass is held
def test_a_minute_that_fails_alone_while_others_pass_is_held(lab: Lab) -> None:
    lab.see(minute(0), minute(1))
    single = lab.open(minute(0), split_size=1)
    fail_in_spark(lab, single)
    batches.record_failure(lab.conn, single, "java.lang.OutOfMemoryError")
    lab.publish({minute(1): [contribution()]}, run_id="other", is_delta=False)
    next_run(lab)
    row = lab.ledger(minute(0))
    assert row["state"] == "held"
    assert row["reason"] == "fails alone in transform_delta: java.lang.OutOfMemoryError"
    assert lab.pending() == []
    lab.see(minute(0), at=CLOCK + SECOND)
    assert lab.pending() == [minute(0)]


# A DAG has one run at a time: other minutes pass before and after a failure, never during it.
def test_a_minute_that_failed_alone_before_and_after_others_passed_is_held(lab: Lab) -> None:
    lab.see(minute(0))
    fail_in_spark(lab, lab.open(minute(0), split_size=1, run_id="first"))
    next_run(lab)
    assert lab.pending() == [minute(0)]
    lab.publish({minute(1): [contribution()]}, run_id="others")
    fail_in_spark(lab, lab.open(minute(0), split_size=1, run_id="second"))
    next_run(lab)
    assert lab.ledger(minute(0))["state"] == "held"


# A fault of a new day, such as a missing partition, does not affect minutes of earlier days.
def test_a_minute_is_not_held_because_minutes_of_earlier_days_pass(lab: Lab) -> None:
    lab.see(minute(0))
    for run_id in ("first", "second"):
        fail_in_spark(lab, lab.open(minute(0), split_size=1, run_id=run_id))
        lab.publish({minute(0) - timedelta(days=1): [contribution()]}, run_id=f"beside {run_id}", is_delta=False)
        next_run(lab, f"after {run_id}")
        assert lab.pending() == [minute(0)]
    fail_in_spark(lab, lab.open(minute(0), split_size=1, run_id="third"))
    lab.publish({minute(1): [contribution()]}, run_id="of that day", is_delta=False)
    next_run(lab)
    assert lab.ledger(minute(0))["state"] == "held"


# ⚑ a decision to hold a minute takes the pipeline's lock
def test_a_merge_that_commits_while_its_batch_is_closed_leaves_its_minute_merged(lab: Lab) -> None:
    lab.see(minute(0))
    single = lab.open(minute(0))
    lab.stage(single, {minute(0): [contribution()]})
    assert lab.check(single).passed
    lab.query("UPDATE etl.batches SET merge_tries = 2 WHERE batch_id = %s", single)
    lab.publish({minute(1): [contribution()]}, run_id="other", is_delta=False)

    def close() -> None:
        with warehouse() as conn:
            batches.close_abandoned(conn, RECRUITMENT, "recruitment_minute", "next")

    cursor = lab.conn.cursor()
    merge.lock(cursor, RECRUITMENT)
    merge._publish(cursor, RECRUITMENT, single)
    closing = threading.Thread(target=close)
    closing.start()
    closing.join(0.5)
    assert closing.is_alive(), "The next run did not wait for the merge."
    lab.conn.commit()
    closing.join(20)
    assert lab.ledger(minute(0))["state"] == "merged"
    assert lab.one("SELECT COUNT(*) FROM etl.holds") == 0


# A backfill may merge a minute while another batch of that minute fails.
def test_a_minute_that_another_batch_has_merged_is_not_held(lab: Lab) -> None:
    lab.see(minute(0))
    fail_in_spark(lab, lab.open(minute(0), split_size=1))
    lab.publish({minute(0): [contribution()]}, run_id="backfill", is_delta=False)
    next_run(lab)
    assert lab.ledger(minute(0))["state"] == "merged"


def test_the_reason_names_the_run_when_nothing_else_is_known(lab: Lab) -> None:
    lab.see(minute(0))
    lab.query(
        "UPDATE etl.batches SET merge_tries = 2 WHERE batch_id = %s", lab.open(minute(0), run_id="scheduled__10:01")
    )
    lab.publish({minute(1): [contribution()]}, run_id="other", is_delta=False)
    next_run(lab)
    assert lab.ledger(minute(0))["reason"] == (
        "fails alone in merge_into_warehouse: the log of merge_into_warehouse in run scheduled__10:01 says why"
    )


def test_nothing_is_held_while_everything_fails(lab: Lab) -> None:
    lab.publish({minute(1): [contribution()]}, run_id="before")
    lab.see(minute(0))
    fail_in_spark(lab, lab.open(minute(0), split_size=1))
    next_run(lab)
    assert lab.pending() == [minute(0)]
    assert split_sizes(lab) == {minute(0): 1}


# The open minute is never held: a quiet lake has batches of that minute alone.
def test_an_open_minute_that_fails_alone_is_retried(lab: Lab) -> None:
    now = CLOCK.replace(second=0)
    lab.see(now, at=CLOCK - SECOND)
    fail_in_spark(lab, lab.open(now))
    lab.publish({minute(1): [contribution()]}, run_id="other", is_delta=False)
    next_run(lab)
    assert (lab.ledger(now)["state"], lab.pending()) == ("seen", [now])


def test_when_a_group_passes_the_other_suspects_are_retried_in_larger_groups(lab: Lab) -> None:
    lab.see(*FOUR, at=CLOCK - 600 * SECOND)
    lab.query("UPDATE etl.minute_ledger SET split_size = 1")
    batch_id = lab.open(minute(0), split_size=1)
    lab.stage(batch_id, {minute(0): [contribution()]})
    assert lab.check(batch_id).passed
    merge.merge(batch_id)
    assert split_sizes(lab) == dict.fromkeys(FOUR[1:], 2)
    assert [pending_minute.split_size for pending_minute in ledger.pending_minutes(lab.conn, RECRUITMENT, CLOCK)] == [
        2,
        2,
        2,
    ]


def test_a_merged_batch_has_the_range_and_rows_that_it_published(lab):
    lab.see(minute(0), minute(2))
    batch_id = lab.publish({minute(0): [contribution()], minute(2): [contribution(), contribution(8)]})
    result = batches.merged_batch(lab.conn, batch_id)
    assert (result.start, result.end, result.minutes) == (minute(0), minute(3), 2)
    assert (result.raw_rows, result.counted_rows, result.kind) == (3, 3, "minute")
    assert result.attempt == lab.one("SELECT attempt FROM etl.minute_ledger WHERE minute = %s", minute(0))
    assert result.as_json()["end"] == "2026-03-01T10:03:00+00:00"
    lab.see(minute(5))
    assert batches.merged_batch(lab.conn, lab.open(minute(5))) is None
