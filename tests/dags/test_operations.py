"""DAGs that are triggered by hand: what their forms ask is what their functions take."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException


def test_the_form_of_verify_asks_for_nothing_that_must_be_given(dags) -> None:
    form = dags["minutemark_verify"].params.dump()
    assert form == {"pipeline": None, "from": None, "to": None, "patience": 120, "lines": 20}


def test_the_form_of_import_leaves_the_file_to_be_recognized(dags) -> None:
    form = dags["minutemark_import"].params.dump()
    assert (form["encoding"], form["format"], form["max_rejected"]) == (None, None, 20)


def test_an_import_that_is_refused_fails_with_its_reason_and_is_not_tried_again(dags, tmp_path) -> None:
    file = tmp_path / "x.csv"
    file.write_bytes(b"PAR1\0")
    form = dags["minutemark_import"].params.dump() | {"pipeline": "ecommerce", "file": str(file)}
    with pytest.raises(AirflowFailException, match="it is a Parquet file, which cannot be imported"):
        dags["minutemark_import"].get_task("import_rows").python_callable(params=form)
