"""A mangled file over published minutes, and the good file again: through import, Spark, gates and merge. The tests build on each
other in the order of the file."""

from __future__ import annotations

import csv
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from include.files.imports import import_events
from tests.e2e.comparison import must_equal_reference
from tests.e2e.runs import RECRUITMENT, count, published, query
from tests.reference.rows import click

pytestmark = pytest.mark.usefixtures("schemas")

TEN = datetime(2026, 3, 1, 10, 0, 5)
HOUR = [(TEN + timedelta(minutes=number), node) for number in range(60) for node in range(1, 6)]
GOOD = [click(at, node, job_id="7") for at, node in HOUR]
# Every second minute has one good row: 90 percent of the rows are broken.
MANGLED = [click(at, node, bid="1.5" if node == 1 and at.minute % 2 else "1,5;") for at, node in HOUR]


@pytest.fixture
def as_file(tmp_path: Path):
    """A function that writes rows to a file."""

    def write(rows: list[dict]) -> Path:
        file = tmp_path / "events.csv"
        with file.open("w", newline="") as lines:
            writer = csv.DictWriter(lines, ["create_time", *RECRUITMENT.fields])
            writer.writeheader()
            writer.writerows(rows)
        return file

    return write


def test_the_good_file_is_published(airflow, as_file):
    assert import_events(RECRUITMENT, as_file(GOOD)).written == len(GOOD)
    airflow.catch_up()
    must_equal_reference(GOOD, {})


def test_the_minutes_of_a_mangled_file_are_held_and_no_figure_changes(airflow, as_file):
    before = published()
    import_events(RECRUITMENT, as_file(MANGLED))
    assert airflow.run().tasks["check_staging"] == "failed"
    after = published()
    for table in ("recruitment.events", "recruitment.events_by_minute", "etl.rejected_events"):
        assert after[table] == before[table]
    assert query("SELECT state, waiting, COUNT(*) FROM etl.minute_ledger GROUP BY state, waiting") == [("held", 0, 60)]
    reasons = {reason for (reason,) in query("SELECT reason FROM etl.minute_ledger")}
    assert reasons == {
        f"staging_rejected_share: {broken} of the minute's 5 rows are rejected, and so are more than 20 % of its hour's rows."
        for broken in (4, 5)
    }


def test_importing_the_good_file_again_publishes_all_held_minutes(airflow, as_file):
    import_events(RECRUITMENT, as_file(GOOD))
    airflow.catch_up()
    must_equal_reference(GOOD, {})
    assert count("etl.minute_ledger WHERE state <> 'merged'") == count("etl.releases") == 0
