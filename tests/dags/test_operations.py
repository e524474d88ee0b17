"""DAGs that are triggered by hand: what their forms ask is what their functions take."""

from __future__ import annotations


def test_the_form_of_verify_asks_for_nothing_that_must_be_given(dags) -> None:
    form = dags["minutemark_verify"].params.dump()
    assert form == {"pipeline": None, "from": None, "to": None, "patience": 120, "lines": 20}


def test_verify_fails_where_something_differs_and_is_not_tried_again(dags, monkeypatch) -> None:
    import pytest
    from airflow.sdk.exceptions import AirflowFailException

    from include.operations import verify
    from include.operations.recount.report import Finding, Findings, PipelineReport, Report

    found = PipelineReport("x", "all minutes", Findings(5), Findings(5))
    asked = []
    monkeypatch.setattr(verify, "asked_verify", lambda *form: asked.append(form) or Report([found]))
    recount = dags["minutemark_verify"].get_task("recount").python_callable
    form = dags["minutemark_verify"].params.dump()
    recount(params=form)
    found.differences.add(Finding("k", None, "etl.t", {"a": 1}, {"a": 2}, "mend it"), "What is right.")
    with pytest.raises(AirflowFailException, match="do not agree"):
        recount(params=form)
    assert asked == [(None, None, None, 120, 20)] * 2
