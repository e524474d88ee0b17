"""The real log, imported and processed by the DAG itself, against the reference: fact by fact, minute by minute.

The tests build on each other in the order of the file, because processing the log takes four runs of the chain.
"""

from __future__ import annotations

import gzip
import json
from decimal import Decimal

import pytest

from include.files.imports import import_dimension, import_events
from tests.e2e.comparison import must_conserve_rows, must_equal_reference
from tests.e2e.runs import RECRUITMENT, query
from tests.reference import recruitment as reference

pytestmark = [pytest.mark.real_data, pytest.mark.usefixtures("schemas")]


@pytest.fixture(scope="module")
def log(real_data):
    """(rows, company_id by job) of the real input."""
    jobs = reference.companies(reference.read_rows(real_data / "job.csv"))
    return reference.read_rows(real_data / "tracking.csv"), jobs


def test_without_recover_the_imported_log_becomes_the_facts_of_the_classic_pipeline(airflow, real_data, log):
    import_dimension("job", real_data / "job.csv")
    summary = import_events(RECRUITMENT, real_data / "tracking.csv")
    assert (summary.written, summary.rejected) == (len(log[0]), 0)
    airflow.catch_up(recover=False)
    must_equal_reference(*log, recover=False)
    must_conserve_rows()
    [totals] = query("SELECT COUNT(*), SUM(clicks), SUM(impressions), SUM(spend_hour) FROM recruitment.events")
    assert totals == (64, 920, 952, Decimal("787.2"))


def test_a_repeated_and_recovered_import_becomes_the_facts_of_the_reference(airflow, real_data, log):
    """The second import makes every minute pending, so that one catch-up shows both: nothing duplicated, all recovered."""
    import_events(RECRUITMENT, real_data / "tracking.csv")
    airflow.catch_up()
    must_equal_reference(*log)
    must_conserve_rows()
    [(clicks, conversions)] = query("SELECT SUM(clicks), SUM(conversion) FROM recruitment.events")
    assert clicks > 2 * 920
    assert conversions > 0


def test_saved_in_other_formats_the_log_changes_only_the_corrected_fact(airflow, real_data, log, tmp_path):
    content = (real_data / "tracking.csv").read_text(encoding="utf-8")
    rows, jobs = log
    place = next(place for place, row in enumerate(rows) if row["custom_track"] == "click" and row["bid"])
    corrected = [*rows[:place], rows[place] | {"bid": "7.25"}, *rows[place + 1 :]]
    as_json = [json.dumps({name: text for name, text in row.items() if text}) for row in corrected]
    forms = {
        "saved on Windows": content.replace("\n", "\r\n").encode("utf-8-sig"),
        "compressed": gzip.compress(content.encode()),
        "corrected": "\n".join(as_json).encode(),
    }
    for form, file in forms.items():
        (tmp_path / form).write_bytes(file)
        summary = import_events(RECRUITMENT, tmp_path / form)
        assert (summary.written, summary.rejected) == (len(rows), 0)
        airflow.catch_up()
        must_equal_reference(corrected if form == "corrected" else rows, jobs)
        must_conserve_rows()
