"""Continuous runs on a real scheduler: one after the other, with a backfill alongside them, and with exact facts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from tests.e2e.comparison import must_conserve_rows, must_equal_reference
from tests.e2e.runs import change, count, query, write
from tests.e2e.stack import Stack, started, until
from tests.reference.rows import click

pytestmark = pytest.mark.usefixtures("schemas")

NOON = datetime(2026, 3, 1, 12, 0, 5)
MINUTE = timedelta(minutes=1)
FIRST = [click(NOON + number * MINUTE, number) for number in range(3)]
LATE = [click(NOON + timedelta(seconds=20), 20, bid="4")]
DURING_BACKFILL = [click(NOON + timedelta(hours=3), 30)]
OWN_BATCHES = "etl.batches WHERE dag_id = 'recruitment_minute' AND state = 'merged' AND kind = "


@pytest.fixture(scope="module")
def stack(schemas) -> Iterator[Stack]:
    write(FIRST)
    with started(MINUTEMARK_SCHEDULE="continuous") as stack:
        yield stack


def test_runs_follow_one_another(stack):
    until(lambda: must_equal_reference(FIRST, {}))
    write(LATE)
    until(lambda: must_equal_reference(FIRST + LATE, {}))
    runs = query(f"SELECT run_id, opened_at, merged_at FROM {OWN_BATCHES} 'minute' ORDER BY batch_id")
    assert len({run_id for run_id, *_ in runs}) == len(runs) >= 2
    assert all(run_id.startswith("scheduled__") for run_id, *_ in runs)
    assert all(opened >= merged for (*_, merged), (_, opened, _) in zip(runs, runs[1:], strict=False))


def test_a_backfill_alongside_continuous_runs_reads_each_of_its_minutes(stack):
    change("DELETE FROM recruitment.events")
    before = count(f"{OWN_BATCHES} 'minute'")
    stack.airflow.backfill("recruitment_minute", NOON.replace(second=0), NOON.replace(second=0) + 2 * MINUTE)
    write(DURING_BACKFILL)

    def both_are_done() -> None:
        assert count(f"{OWN_BATCHES} 'backfill'") == len(FIRST)
        assert count(f"{OWN_BATCHES} 'minute'") > before
        must_equal_reference(FIRST + LATE + DURING_BACKFILL, {})

    until(both_are_done)
    minutes = query(
        "SELECT m.minute FROM etl.batch_minutes AS m JOIN etl.batches AS b ON b.batch_id = m.batch_id "
        "WHERE b.kind = 'backfill' ORDER BY m.minute"
    )
    assert [minute for (minute,) in minutes] == [NOON.replace(second=0) + number * MINUTE for number in range(3)]
    must_conserve_rows()
