"""DAGs that are triggered by hand: what their forms ask is what their functions take."""

from __future__ import annotations


def test_the_form_of_verify_asks_for_nothing_that_must_be_given(dags) -> None:
    form = dags["minutemark_verify"].params.dump()
    assert form == {"pipeline": None, "from": None, "to": None, "patience": 120, "lines": 20}
