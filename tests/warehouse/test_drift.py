"""What drifts in a batch, decided without access to a store."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from include.warehouse.drift import (
    APPEARED,
    DISAPPEARED,
    IGNORED,
    IGNORED_ROWS,
    UNREADABLE,
    Drift,
    DriftFindings,
    MinuteFields,
    find,
)  # fmt: skip
from tests.warehouse.lab import RECRUITMENT, minute

HOLDING = dataclasses.replace(RECRUITMENT, unknown_fields="hold")


def fields(
    number: int, rows: int = 200, ignored: int = 50, *, unknown=None, unreadable=None, **present
) -> MinuteFields:
    """The minute of that number; all rows have job_id and ts, unless `present` gives other counts."""
    counts = {"job_id": rows, "ts": rows} | present
    return MinuteFields(minute(number), rows, ignored, counts, unreadable or {}, unknown or {})


DAY = [fields(number) for number in range(-10, 0)]


def findings_of(batch, history=DAY, known=(), pipeline=RECRUITMENT) -> DriftFindings:
    return find(pipeline, batch, history, known)


def rows_of(findings: DriftFindings) -> list[tuple]:
    return [(finding.minute, finding.kind, finding.field) for finding in findings.drifting]


def on_record(kind: str, field: str, number: int, usual: float | None, accepted_by=None, ended=None) -> Drift:
    first = minute(number)
    return Drift(kind, field, first, first, usual, 7, accepted_by, None if ended is None else minute(ended))


def test_a_regular_field_that_no_row_has_is_found() -> None:
    findings = findings_of([fields(0, job_id=0), fields(1)])
    assert rows_of(findings) == [(minute(0), DISAPPEARED, "job_id")]
    assert (
        findings.drifting[0].text == "job_id is in none of 200 rows; over the previous day, 100 % of the rows had it."
    )


@pytest.mark.parametrize(
    ("rows", "share", "is_found"),
    [
        (99, 1.0, False),  # too few rows
        (100, 1.0, True),
        (100, 0.10, True),  # ten rows were expected
        (100, 0.09, False),  # nine rows were expected
        (1000, 0.05, False),  # not a regular field
        (1000, 0.06, True),
    ],
)
def test_when_an_absent_field_is_drift(rows: int, share: float, is_found: bool) -> None:
    day = [fields(number, 1000, 0, group_id=round(1000 * share)) for number in range(-5, 0)]
    assert bool(rows_of(findings_of([fields(0, rows, 0)], day))) == is_found


@pytest.mark.parametrize(
    "history",
    [
        [],
        DAY[:2],  # two minutes
        [fields(number, rows=100) for number in range(-4, 0)],  # 400 rows
        [fields(number) for number in range(-1460, -1441)],  # longer ago than a day
        [fields(number) for number in range(1, 20)],  # later
    ],
    ids=["none", "few minutes", "few rows", "old", "later"],
)
def test_without_enough_history_of_the_day_before_a_minute_is_not_judged(history) -> None:
    assert findings_of([fields(0, job_id=0, ignored=200)], history) == DriftFindings()


def bursts(*present: int) -> list[MinuteFields]:
    """Minutes of 200 rows; `present` has the number of rows with a group for each minute."""
    return [fields(number, group_id=rows) for number, rows in enumerate(present, -len(present))]


@pytest.mark.parametrize(
    ("day", "without", "is_held"),
    [  # rows with the field in each minute of the day; number of minutes without it after that; whether the last is held
        ((60, 60, 60, 60), 1, True),  # every minute has it
        ((60, 0, 60, 60), 1, False),  # it was absent for a minute before
        ((60, 0, 60, 60), 2, False),
        ((60, 0, 60, 60), 3, True),  # for more than twice as long as ever before
        ((200, 0, 0, 0, 0, 200), 8, False),
        ((200, 0, 0, 0, 0, 200), 9, True),
    ],
)
def test_a_field_that_comes_in_bursts_is_found_when_it_is_absent_for_longer_than_ever_before(
    day, without, is_held
) -> None:
    """⚑ A held minute without drift is as bad as drift that nobody sees."""
    batch = [fields(number, group_id=0) for number in range(without)]
    held = [finding.minute for finding in findings_of(batch, bursts(*day)).drifting]
    assert held == ([minute(without - 1)] if is_held else [])


def test_an_absence_on_record_does_not_make_absences_usual() -> None:
    accepted = [
        dataclasses.replace(on_record(DISAPPEARED, "group_id", -4, 0.3, "ann", ended=-2), last_minute=minute(-3))
    ]
    assert rows_of(findings_of([fields(0, group_id=0)], bursts(60, 60, 0, 0, 60, 60), accepted))


def test_a_burst_of_ignored_rows_besides_the_usual_ones_is_not_drift() -> None:
    assert not rows_of(findings_of([fields(0, rows=2000, ignored=1850)])), (
        "150 rows a minute are not ignored, as usual."
    )
    assert rows_of(findings_of([fields(0, rows=2000, ignored=1970)])), (
        "30 rows are less than a quarter of the usual 150."
    )


def test_one_row_with_the_field_is_enough() -> None:
    assert not rows_of(findings_of([fields(0, job_id=1)]))


def test_earlier_minutes_of_a_batch_are_history_like_minutes_of_the_ledger() -> None:
    """⚑ A minute gets the same verdict live, in a backfill and alone."""
    drifting = [fields(number, job_id=0) for number in range(3)]
    in_one_batch = rows_of(findings_of([*DAY, *drifting], history=[]))
    assert (
        in_one_batch
        == rows_of(findings_of(drifting))
        == [(fields.minute, DISAPPEARED, "job_id") for fields in drifting]
    )
    assert [rows_of(findings_of([fields])) for fields in drifting] == [[row] for row in in_one_batch]


def test_drifting_minutes_are_not_history_for_later_ones() -> None:
    """⚑ A drift of more than a day does not become usual, neither in one batch nor minute by minute."""
    two_days = [fields(number, job_id=0) for number in range(0, 2880, 5)]
    assert len(rows_of(findings_of([*DAY, *two_days], history=[]))) == len(two_days)
    last = [fields(2880, job_id=0)]
    assert not rows_of(findings_of(last, history=[]))
    assert rows_of(findings_of(last, history=[], known=[on_record(DISAPPEARED, "job_id", 0, 1.0)]))


def test_a_field_that_returns_ends_its_drift() -> None:
    known = [on_record(DISAPPEARED, "job_id", 0, 1.0, "ann")]
    findings = findings_of([fields(5, job_id=3), fields(6, job_id=0), fields(7), fields(8, job_id=0)], known=known)
    assert findings.returned == ((minute(7), DISAPPEARED, "job_id"),), (
        "Three rows of a producer that lags behind are not a return."
    )
    assert rows_of(findings) == [(minute(6), DISAPPEARED, "job_id"), (minute(8), DISAPPEARED, "job_id")]


def test_a_minute_before_the_first_minute_of_a_drift_belongs_to_it() -> None:
    drift = on_record(DISAPPEARED, "job_id", 0, 1.0, ended=10)
    assert drift.covers(minute(-5)) and drift.covers(minute(9))
    assert not drift.covers(minute(10)) and not drift.covers(minute(-1441))


def test_values_that_stop_being_numbers_are_found() -> None:
    day = [fields(number, publisher_id=150, unreadable={"publisher_id": 5}) for number in range(-10, 0)]
    assert rows_of(findings_of([fields(0, publisher_id=150, unreadable={"publisher_id": 140})], day)) == [
        (minute(0), UNREADABLE, "publisher_id")
    ]
    assert not rows_of(findings_of([fields(0, publisher_id=150, unreadable={"publisher_id": 30})], day)), (
        "20 % is not above the limit."
    )
    often = [fields(number, publisher_id=150, unreadable={"publisher_id": 15}) for number in range(-10, 0)]
    assert not rows_of(findings_of([fields(0, publisher_id=150, unreadable={"publisher_id": 140})], often))


def test_a_share_of_ignored_rows_far_above_that_of_the_day_is_found() -> None:
    assert rows_of(findings_of([fields(0, ignored=170)])) == [(minute(0), IGNORED, IGNORED_ROWS)], (
        "A fifth of 150 is left."
    )
    assert not rows_of(findings_of([fields(0, ignored=160)])), "More than a quarter of 150 is left."
    mostly_ignored = [fields(number, ignored=190) for number in range(-10, 0)]
    assert not rows_of(findings_of([fields(0, ignored=200)], mostly_ignored)), "Ten of 200 can be missing by chance."


def test_undeclared_fields_are_reported_once_if_they_hold_nothing() -> None:
    batch = [fields(0, unknown={"novelty": 3}), fields(1, unknown={"novelty": 9, "known": 1})]
    findings = findings_of(batch, known=[on_record(APPEARED, "known", -5, None)])
    assert not findings.drifting
    assert [(new_field.minute, new_field.field, new_field.rows) for new_field in findings.new_fields] == [
        (minute(0), "novelty", 3)
    ]


def test_undeclared_fields_hold_their_minute_if_the_pipeline_declares_so() -> None:
    findings = findings_of([fields(0, rows=3, unknown={"novelty": 1})], history=[], pipeline=HOLDING)
    assert rows_of(findings) == [(minute(0), APPEARED, "novelty")] and not findings.new_fields


def test_an_accepted_drift_causes_no_other_drift_for_more_than_a_day() -> None:
    accepted = [on_record(IGNORED, IGNORED_ROWS, 0, 0.25, "ann")]
    batch = [fields(number, ignored=200) for number in range(0, 1500, 5)]
    findings = findings_of(batch, known=accepted)
    assert {finding.kind for finding in findings.drifting} == {IGNORED}
    assert timedelta(days=1) < batch[-1].minute - batch[0].minute


def test_minutes_read_in_any_order_end_a_drift_only_after_its_last_minute() -> None:
    known = [dataclasses.replace(on_record(DISAPPEARED, "job_id", 10, 1.0), last_minute=minute(20))]
    assert not findings_of([fields(15)], known=known).returned
    assert findings_of([fields(25)], known=known).returned == ((minute(25), DISAPPEARED, "job_id"),)
