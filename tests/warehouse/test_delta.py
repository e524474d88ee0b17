"""Planning: which pending minutes the next batch takes."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from include.warehouse.delta import UNKNOWN_ROWS, LastDelta, Pending, PlannedMinute, plan
from tests.warehouse.lab import CLOCK, RECRUITMENT, minute

SMALL = replace(RECRUITMENT, live_minutes=3, max_minutes=7, max_rows=10_000)  # six minutes of ten rows fit


def pending(*minutes: datetime, rows: int | None = 10, split_size: int | None = None) -> list[Pending]:
    return [Pending(minute, "changed", rows, split_size) for minute in minutes]


def minutes_of(batch) -> list[datetime]:
    return [planned.minute for planned in batch.minutes]


def test_nothing_pending_makes_no_batch() -> None:
    assert plan([], clock=CLOCK, pipeline=SMALL).minutes == ()


def test_newest_live_minutes_go_first_and_then_the_oldest() -> None:
    backlog = pending(*(minute(number) for number in range(100)))
    result = plan(backlog, clock=CLOCK, pipeline=SMALL)
    assert minutes_of(result) == [minute(number) for number in (0, 1, 2, 97, 98, 99)]


def test_rows_limit_the_backlog_before_the_live_minutes() -> None:
    backlog = pending(*(minute(number) for number in range(100)), rows=3_000)
    assert minutes_of(plan(backlog, clock=CLOCK, pipeline=SMALL)) == [minute(98), minute(99)]


# ⚑ a minute without rows takes time too
@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (0, 100),  # only minutes count
        (10, 50),  # minutes and rows count for half each
        (90, 10),
        (990, 1),
    ],
)
def test_minutes_and_rows_share_the_capacity_of_a_batch(rows, expected) -> None:
    shared = replace(SMALL, max_minutes=100, max_rows=1_000)
    backlog = pending(*(minute(number) for number in range(110)), rows=rows)
    assert len(minutes_of(plan(backlog, clock=CLOCK, pipeline=shared))) == expected


def test_suspects_share_the_capacity_of_a_batch_too() -> None:
    shared = replace(SMALL, max_minutes=100, max_rows=1_000)
    suspects = pending(*(minute(number) for number in range(110)), split_size=80)
    assert len(minutes_of(plan(suspects, clock=CLOCK, pipeline=shared))) == 50


def test_a_single_minute_of_any_size_is_planned() -> None:
    assert minutes_of(plan(pending(minute(0), rows=99_999_999), clock=CLOCK, pipeline=SMALL)) == [minute(0)]


@pytest.mark.parametrize(
    ("known", "typical", "expected"),
    [(0, 500.0, 0), (30, 500.0, 30), (None, 500.4, 500), (None, None, UNKNOWN_ROWS)],
)
def test_rows_are_estimated_from_the_last_read_then_from_typical_minutes(known, typical, expected) -> None:
    result = plan(pending(minute(0), rows=known), clock=CLOCK, pipeline=SMALL, typical_rows=typical)
    assert result.minutes[0].estimated_rows == expected


def test_minutes_far_ahead_of_the_lakes_clock_are_backlog() -> None:
    tomorrow = CLOCK.replace(second=0) + timedelta(days=1)
    ahead = [tomorrow + timedelta(minutes=number) for number in range(10)]
    result = plan(pending(minute(0), minute(1), *ahead), clock=CLOCK, pipeline=SMALL)
    assert minutes_of(result) == [minute(0), minute(1), *ahead[:4]]


def test_a_minute_slightly_ahead_is_live() -> None:
    soon = CLOCK.replace(second=0) + timedelta(minutes=4)
    narrow = replace(SMALL, live_minutes=1, max_minutes=3)
    result = plan(pending(*(minute(number) for number in range(9)), soon), clock=CLOCK, pipeline=narrow)
    assert minutes_of(result) == [minute(0), soon]


# ⚑ a batch that fails twice is split
def test_suspects_are_retried_without_other_minutes_in_groups_of_their_size() -> None:
    mixed = pending(minute(50), minute(51)) + pending(*(minute(number) for number in range(5)), split_size=2)
    result = plan(mixed, clock=CLOCK, pipeline=SMALL)
    assert (minutes_of(result), result.split_size) == ([minute(3), minute(4)], 2)


def test_suspects_alternate_with_fresh_minutes() -> None:
    mixed = pending(minute(50)) + pending(minute(0), split_size=1)
    assert minutes_of(plan(mixed, clock=CLOCK, pipeline=SMALL, last=LastDelta(True, minute(0)))) == [minute(50)]
    assert minutes_of(plan(mixed, clock=CLOCK, pipeline=SMALL, last=LastDelta(False, minute(0)))) == [minute(0)]


def test_suspects_do_not_wait_when_nothing_else_is_pending() -> None:
    result = plan(pending(minute(0), split_size=1), clock=CLOCK, pipeline=SMALL, last=LastDelta(True, minute(0)))
    assert minutes_of(result) == [minute(0)]


def test_suspects_take_turns() -> None:
    suspects = pending(minute(0), minute(1), minute(2), split_size=1)
    for last, expected in ((None, 2), (2, 1), (1, 0), (0, 2)):
        turn = LastDelta(False, None if last is None else minute(last))
        assert minutes_of(plan(suspects, clock=CLOCK, pipeline=SMALL, last=turn)) == [minute(expected)]


def folded(*minutes: datetime, rows: int = 1) -> dict[datetime, list[PlannedMinute]]:
    """The folded hours that contain these minutes."""
    return {
        minute: [PlannedMinute(minute.replace(minute=number), None, rows) for number in range(60)] for minute in minutes
    }


def test_a_minute_of_a_folded_hour_takes_its_hour_once() -> None:
    late = pending(minute(3), minute(7), minute(200))
    wide = replace(SMALL, max_minutes=600)
    result = plan(late, clock=CLOCK, pipeline=wide, folded=folded(minute(3), minute(7)))
    assert minutes_of(result) == [*(minute(number) for number in range(60)), minute(200)]


def test_a_folded_hour_counts_for_all_of_its_minutes_and_rows() -> None:
    late = pending(minute(3), minute(63), minute(123))
    hours = folded(minute(3), minute(63), minute(123))
    for narrow in (replace(SMALL, max_minutes=130), replace(SMALL, max_minutes=600, max_rows=200)):
        assert len(minutes_of(plan(late, clock=CLOCK, pipeline=narrow, folded=hours))) == 120


def test_a_folded_hour_that_exceeds_the_limit_of_a_batch_is_planned_alone() -> None:
    late = pending(minute(3), split_size=1)
    assert len(minutes_of(plan(late, clock=CLOCK, pipeline=SMALL, folded=folded(minute(3))))) == 60
