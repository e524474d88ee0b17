"""An import of jobs updates their facts at once."""

from __future__ import annotations

import threading

from include.warehouse import dimensions, merge
from include.warehouse.dimensions import import_dimension
from include.warehouse.session import warehouse
from tests.warehouse.lab import RECRUITMENT, Lab, contribution, minute

JOB = RECRUITMENT.dimensions[0]


def job(key: object, company: object, **values) -> dict:
    empty = dict.fromkeys(JOB.columns, "")
    return empty | {"id": key, "company_id": company} | values


def test_facts_get_the_company_of_a_job_that_becomes_known_or_changes(lab: Lab) -> None:
    lab.publish({minute(0): [contribution(7), contribution(8), contribution(9)]})
    assert lab.facts("company_id") == {(7, 0): None, (8, 0): None, (9, 0): None}
    rows = [job("7", "70", created_date="2022-06-19 14:14:00.473549"), job("8", "80")]
    assert import_dimension(lab.conn, JOB, rows) == 2
    assert lab.facts("company_id") == {(7, 0): 70, (8, 0): 80, (9, 0): None}
    import_dimension(lab.conn, JOB, [job("7", "71"), job("8", "")])
    assert lab.facts("company_id") == {(7, 0): 71, (8, 0): None, (9, 0): None}


def test_empty_texts_are_null_and_the_last_row_of_a_key_wins(lab: Lab) -> None:
    import_dimension(lab.conn, JOB, [job("7", "1", title="old"), job("7", "2", title="new")])
    assert lab.query("SELECT id, company_id, title, status, created_date FROM recruitment.job") == [
        (7, 2, "new", None, None)
    ]


def test_an_import_may_have_more_rows_than_one_transaction(lab: Lab, monkeypatch) -> None:
    monkeypatch.setattr(dimensions, "CHUNK", 10)
    lab.publish({minute(0): [contribution(25)]})
    assert import_dimension(lab.conn, JOB, (job(number, number * 10) for number in range(1, 36))) == 35
    assert lab.facts("company_id") == {(25, 0): 250}


# ⚑ every other writer of contributions or facts takes the pipeline's lock
def test_an_import_waits_for_a_running_merge(lab: Lab) -> None:
    lab.publish({minute(0): [contribution(7)]})
    merge.lock(lab.conn.cursor(), RECRUITMENT)

    def import_jobs() -> None:
        with warehouse() as conn:
            import_dimension(conn, JOB, [job("7", "70")])

    other = threading.Thread(target=import_jobs)
    other.start()
    other.join(0.5)
    assert other.is_alive(), "The import did not wait for the pipeline's lock."
    lab.conn.rollback()
    other.join(20)
    assert lab.facts("company_id") == {(7, 0): 70}
