"""The rejected share: the verdict of a minute depends on the lake, not on the order or the size of the reads."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

import pytest

from include.chunks import slices
from include.warehouse import held, ledger, merge, rejected_share, status
from tests.warehouse.lab import CLOCK, DAY, SECOND, Lab, contribution

MINUTE = timedelta(minutes=1)
MIDNIGHT = datetime(DAY.year, DAY.month, DAY.day)
HOUR_IS_BAD = "so are more than 20 % of its hour's rows."


class Rows(NamedTuple):
    """The rows that the lake has in a minute."""

    good: int = 0
    broken: int = 0


def job_of(at: datetime) -> int:
    """Each minute has a separate job, so that its facts can be distinguished from those of the others."""
    return (at - MIDNIGHT) // MINUTE + 1


def read(lab: Lab, lake: dict[datetime, Rows], minutes: Iterable[datetime], **opening) -> None:
    """One run: gate and merge of these minutes, as the lake has them."""
    minutes = sorted(minutes)
    batch_id = lab.open(*minutes, run_id=f"run-{lab.one('SELECT COUNT(*) FROM etl.batches')}", **opening)
    result = {at: lake.get(at, Rows()) for at in minutes}
    contributions = {
        at: [contribution(job_of(at), event_count=rows.good, clicks=rows.good)]
        for at, rows in result.items()
        if rows.good
    }
    rejects = [(at, "bid is negative") for at, rows in result.items() for _ in range(rows.broken)]
    lab.stage(batch_id, contributions, rejects=rejects)
    if lab.check(batch_id).passed:
        merge.merge(batch_id)
        assert (
            lab.check(batch_id, "warehouse").passed
            or lab.one("SELECT state FROM etl.batches WHERE batch_id = %s", batch_id) == "skipped"
        )


def finish(lab: Lab, lake: dict[datetime, Rows], clock: datetime = CLOCK) -> None:
    """Run until nothing is pending."""
    for _ in range(20):
        rejected_share.recheck_waiting(lab.conn, lab.pipeline, clock)
        if not (pending := lab.pending()):
            return
        read(lab, lake, pending, clock=clock)
    raise AssertionError("Minutes are still pending after twenty runs.")


def states(lab: Lab) -> dict[datetime, tuple[str, str | None]]:
    assert lab.one("SELECT COUNT(*) FROM etl.minute_ledger WHERE waiting = 1") == 0
    return {
        at: (state, reason) for at, state, reason in lab.query("SELECT minute, state, reason FROM etl.minute_ledger")
    }


def expected(lake: dict[datetime, Rows]) -> dict[datetime, tuple[str, str | None]]:
    """The rule, restated: if an hour has 100 rows or more, over 20 % of them broken, its minutes above that share are held."""
    good, broken = Counter(), Counter()
    for at, rows in lake.items():
        good[at.hour] += rows.good
        broken[at.hour] += rows.broken

    def verdict(at: datetime, rows: Rows) -> tuple[str, str | None]:
        total = good[at.hour] + broken[at.hour]
        if total >= 100 and broken[at.hour] > 0.2 * total and rows.broken > 0.2 * sum(rows):
            return (
                "held",
                f"staging_rejected_share: {rows.broken} of the minute's {sum(rows)} rows are rejected, and {HOUR_IS_BAD}",
            )
        return "merged", None

    return {at: verdict(at, rows) for at, rows in lake.items()}


def mixed_lake() -> dict[datetime, Rows]:
    """500 minutes: hours that are sound, quiet, broken from the start or half-way, or just above or below the limit."""
    chance = random.Random(16)

    def rows(at: datetime) -> Rows:
        share = {
            0: 0.02, 1: 0.9, 2: 0.3, 3: 0.9 if at.minute >= 40 else 0.02, 4: 0.21, 5: 0.19, 6: 0.5, 7: 0.1, 8: 0.9,
        }[at.hour]  # fmt: skip
        size = chance.choice((0, 1)) if at.hour == 6 else chance.choice((1, 1, 2, 3, 5, 8, 20))
        broken = sum(chance.random() < share for _ in range(size))
        return Rows(size - broken, broken)

    return {at: rows(at) for at in (MIDNIGHT + number * MINUTE for number in range(500))}


def one_by_one(lab: Lab, lake: dict[datetime, Rows]) -> None:
    lab.see(*lake)
    for at in random.Random(1).sample(sorted(lake), len(lake)):
        read(lab, lake, [at])


def in_batches(lab: Lab, lake: dict[datetime, Rows]) -> None:
    lab.see(*lake)
    for part in slices(sorted(lake), 47):
        read(lab, lake, part)


def shuffled_in_batches(lab: Lab, lake: dict[datetime, Rows]) -> None:
    lab.see(*lake)
    for part in slices(random.Random(2).sample(sorted(lake), len(lake)), 31):
        read(lab, lake, part)


def all_at_once(lab: Lab, lake: dict[datetime, Rows]) -> None:
    lab.see(*lake)
    read(lab, lake, lake)


def live(lab: Lab, lake: dict[datetime, Rows]) -> None:
    """One run for every two minutes, as soon as the clock has passed them."""
    for part in slices(sorted(lake), 2):
        clock = part[-1] + MINUTE + 20 * SECOND
        lab.see(*part, at=clock - 40 * SECOND, clock=clock)
        rejected_share.recheck_waiting(lab.conn, lab.pipeline, clock)
        read(lab, lake, lab.pending(), clock=clock)


def live_and_by_backfill(lab: Lab, lake: dict[datetime, Rows]) -> None:
    """Live first, with the expected verdicts; then every minute again, hour by hour, newest first."""
    live(lab, lake)
    assert_verdicts(lab, lake)
    hours = list(slices([MIDNIGHT + number * MINUTE for number in range(540)], 60))
    for part in reversed(hours):
        read(lab, lake, part, kind="backfill", is_delta=False)


ORDERS = (one_by_one, in_batches, shuffled_in_batches, all_at_once, live_and_by_backfill)


# ⚑ a verdict belongs to a minute, never to its batch
@pytest.mark.one_server
@pytest.mark.parametrize("process", ORDERS, ids=lambda order: order.__name__)
def test_500_minutes_get_the_same_verdicts_in_any_order(lab: Lab, process) -> None:
    lake = mixed_lake()
    process(lab, lake)
    assert_verdicts(lab, lake)


def assert_verdicts(lab: Lab, lake: dict[datetime, Rows]) -> None:
    """Once nothing is pending: the verdict of every minute, and what is published."""
    finish(lab, lake)
    result = states(lab)
    verdicts = expected(lake)
    assert {at: result[at] for at in lake} == verdicts
    assert {state for state, _ in verdicts.values()} == {"held", "merged"}
    published = {(job_of(at), 0): rows.good for at, rows in lake.items() if rows.good and verdicts[at][0] == "merged"}
    assert lab.facts() == published


def hour_at(hour: int, rows: Rows) -> dict[datetime, Rows]:
    """An hour whose minutes are alike."""
    return {MIDNIGHT + timedelta(hours=hour, minutes=number): rows for number in range(60)}


# ⚑ the mangled file
@pytest.mark.one_server
@pytest.mark.parametrize("size", [1, 7, 60])
def test_minutes_of_a_mangled_file_are_held_and_the_good_file_replaces_them(lab: Lab, size: int) -> None:
    good = hour_at(3, Rows(5))
    lab.see(*good)
    read(lab, good, good)
    facts = lab.facts()
    assert len(facts) == 60

    intact = MIDNIGHT + timedelta(hours=3, minutes=30)
    # In the other minutes, 90 % of the rows are rejected.
    mangled = {at: Rows(5) if at == intact else Rows(at.minute % 2, 5 - at.minute % 2) for at in good}
    lab.see(*mangled, at=CLOCK - 400 * SECOND)
    for part in slices(sorted(mangled), size):
        read(lab, mangled, part)
    finish(lab, mangled)
    assert [at for at, (state, _) in states(lab).items() if state == "merged"] == [intact], (
        "The intact minute is published."
    )
    assert lab.facts() == facts, "What was published stays."

    lab.see(*good, at=CLOCK - 200 * SECOND)
    for part in slices(sorted(good), size):
        read(lab, good, part)
    finish(lab, good)
    assert {state for state, _ in states(lab).values()} == {"merged"}
    assert lab.facts() == facts
    assert lab.one("SELECT COUNT(*) FROM etl.releases") == 0


NOW = CLOCK.replace(second=0)  # twelve o'clock: the hour has started


def at_noon(number: int) -> datetime:
    return NOW + number * MINUTE


def test_a_minute_with_many_rejected_rows_waits_for_its_hour_and_is_not_reported_as_held(lab: Lab) -> None:
    lake = {at_noon(1): Rows(2, 1), at_noon(2): Rows(4)}
    lab.see(*lake, at=at_noon(3), clock=at_noon(4))
    read(lab, lake, [at_noon(1)], clock=at_noon(4))
    row = lab.ledger(at_noon(1))
    assert (row["state"], row["waiting"], row["pending"]) == ("held", 1, 0)
    assert row["reason"].startswith("staging_rejected_share: 1 of 3 rows are rejected. The minute waits until")
    assert lab.one("SELECT state FROM etl.batches") == "skipped", "The run does not fail."
    read(lab, lake, [at_noon(2)], clock=at_noon(4))
    assert lab.facts() == {(job_of(at_noon(2)), 0): 4}, "Its neighbor is published."
    assert status.freshness_of(lab.conn, lab.pipeline)["held"] == 0
    assert [held_minute["status"] for held_minute in held.held_minutes(lab.conn, [lab.pipeline])] == ["waiting"]

    rejected_share.recheck_waiting(lab.conn, lab.pipeline, at_noon(59))
    assert lab.pending() == []
    rejected_share.recheck_waiting(lab.conn, lab.pipeline, at_noon(60))
    assert [held_minute["status"] for held_minute in held.held_minutes(lab.conn, [lab.pipeline])] == ["due"]
    finish(lab, lake, at_noon(60))
    assert lab.facts() == {(job_of(at), 0): rows.good for at, rows in lake.items()}


def test_a_minute_waits_only_for_pending_minutes_of_its_hour(lab: Lab) -> None:
    lake = {**hour_at(3, Rows(2)), MIDNIGHT + timedelta(hours=4): Rows(1)}
    suspect = min(lake)
    lake[suspect] = Rows(1, 1)
    lab.see(*lake)
    read(lab, lake, [suspect])
    assert lab.ledger(suspect)["waiting"] == 1
    read(lab, lake, [at for at in lake if at.hour == 3 and at != suspect])
    assert lab.pending() == [suspect, max(lake)]
    read(lab, lake, [suspect])
    assert lab.ledger(suspect)["state"] == "merged"


def test_a_producer_that_breaks_is_noticed_before_the_hour_is_over(lab: Lab) -> None:
    lake = {at_noon(number): Rows(5, 25) for number in range(4)}
    for at in lake:
        lab.see(at, at=at + MINUTE, clock=at + 2 * MINUTE)
        read(lab, lake, [at], clock=at + 2 * MINUTE)
    assert {lab.ledger(at)["waiting"] for at in lake} == {0}, "As soon as the fourth minute is read, all four are held."
    assert status.freshness_of(lab.conn, lab.pipeline)["held"] == 4
    assert lab.one("SELECT COUNT(*) FROM etl.holds WHERE held_since < held_at") == 3, (
        "Three waited before they were held."
    )
    better = {at_noon(number): Rows(30) for number in range(10, 40)}
    lab.see(*better, at=at_noon(55), clock=at_noon(60))
    read(lab, better, better, clock=at_noon(60))
    finish(lab, lake | better, at_noon(60))
    assert {lab.ledger(at)["state"] for at in lake} == {"merged"}, "They pass, because the rest of the hour is better."


def test_a_minute_of_an_hour_that_was_bad_so_far_passes_at_its_end_without_another_read(lab: Lab) -> None:
    lake = {at_noon(0): Rows(40, 60), **{at_noon(number): Rows(100) for number in range(1, 21)}}
    for at in lake:
        lab.see(at, at=at + 50 * SECOND, clock=at + 100 * SECOND)
        read(lab, lake, [at], clock=at + 100 * SECOND)
    assert (lab.ledger(at_noon(0))["state"], lab.ledger(at_noon(0))["waiting"]) == ("held", 0)
    rejected_share.recheck_waiting(lab.conn, lab.pipeline, at_noon(59))
    assert lab.pending() == []
    finish(lab, lake, at_noon(60))
    assert lab.facts() == {(job_of(at), 0): rows.good for at, rows in lake.items()}


def test_a_published_minute_is_held_when_its_hour_turns_out_bad_unless_a_person_released_it(lab: Lab) -> None:
    first, second = MIDNIGHT, MIDNIGHT + MINUTE
    lake = {first: Rows(1, 1), second: Rows(1, 1)}
    lab.see(*lake)
    read(lab, lake, lake)
    facts = lab.facts()
    assert len(facts) == 2
    late = {MIDNIGHT + 2 * MINUTE: Rows(50, 50)}
    lab.see(*late, at=CLOCK - 400 * SECOND)
    read(lab, late, late)
    reason = f"staging_rejected_share: 1 of the minute's 2 rows are rejected, and {HOUR_IS_BAD}"
    assert [lab.ledger(at)["reason"] for at in lake] == [reason, reason]
    assert (lab.facts(), lab.pending()) == (facts, [])
    held.release(lab.conn, lab.pipeline, first, second, by="ann")
    finish(lab, lake | late)
    read(lab, late, late)  # the hour is checked again
    assert [lab.ledger(at)["state"] for at in lake] == ["merged", "held"]


def test_minutes_that_are_closed_while_held_still_count_in_their_hour(lab: Lab) -> None:
    """Otherwise the last minutes of a broken hour would be published once the others are past the lake's retention."""
    lake = hour_at(3, Rows(1, 4))
    lab.see(*lake)
    read(lab, lake, lake)
    last = max(lake)
    ledger.close_expired(lab.conn, replace(lab.pipeline, lake_retention=CLOCK - last), CLOCK)
    rejected_share.recheck_waiting(lab.conn, lab.pipeline, CLOCK)
    assert {at: state for at, (state, _) in states(lab).items()} == dict.fromkeys(lake, "closed") | {last: "held"}
    assert lab.pending() == []


def test_a_released_minute_does_not_wait(lab: Lab) -> None:
    lake = {at_noon(1): Rows(2, 1)}
    lab.see(*lake, at=at_noon(3), clock=at_noon(4))
    read(lab, lake, lake, clock=at_noon(4))
    held.release(lab.conn, lab.pipeline, at_noon(1), at_noon(2), by="ann")
    finish(lab, lake, at_noon(4))
    assert lab.facts() == {(job_of(at_noon(1)), 0): 2}


def test_only_one_of_two_batches_publishes_a_waiting_minute_that_was_released_once(lab: Lab) -> None:
    at = at_noon(1)
    lab.see(at, at=at_noon(3), clock=at_noon(4))
    read(lab, {at: Rows(2, 1)}, [at], clock=at_noon(4))
    held.release(lab.conn, lab.pipeline, at, at_noon(2), by="ann")
    batches = []
    for run_id in ("first", "second"):
        batches.append(lab.open(at, run_id=run_id, clock=at_noon(4), kind="backfill", is_delta=False))
        lab.stage(batches[-1], {at: [contribution(event_count=2, clicks=2)]}, rejects=[(at, "bid is negative")])
        assert lab.check(batches[-1]).released == (at,)
    assert [merge.merge(batch_id).state for batch_id in batches] == ["merged", "skipped"]


@pytest.mark.parametrize(
    ("good", "broken", "check", "warning"),
    [
        (95, 5, "pass", "pass"),  # 5 percent
        (94, 6, "pass", "warn"),
        (80, 20, "pass", "warn"),  # 20 percent
        (79, 21, "fail", "warn"),
        (40, 40, "pass", "warn"),  # fewer than 100 rows
        (0, 0, "pass", "pass"),
    ],
)
def test_the_limits_of_both_checks(lab: Lab, good: int, broken: int, check: str, warning: str) -> None:
    lab.see(MIDNIGHT)
    read(lab, {MIDNIGHT: Rows(good, broken)}, [MIDNIGHT])
    result = dict(lab.query("SELECT check_name, outcome FROM etl.check_results WHERE gate = 'staging'"))
    assert result["staging_rejected_share"] == check
    if check == "pass":
        assert result["staging_rejected_share_warn"] == warning
