"""DAGs that are triggered by hand: their forms have the parameters of their functions."""

from __future__ import annotations

import os

import pytest
from airflow.sdk.exceptions import AirflowFailException


def test_the_form_of_verify_has_no_required_field(dags) -> None:
    form = dags["minutemark_verify"].params.dump()
    assert form == {"pipeline": None, "from": None, "to": None, "patience": 120, "lines": 20}


def test_the_form_of_import_leaves_encoding_and_format_to_be_detected(dags) -> None:
    form = dags["minutemark_import"].params.dump()
    assert (form["encoding"], form["format"], form["max_rejected"]) == (None, None, 20)


def test_a_refused_import_fails_with_its_reason_and_is_not_retried(dags, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MINUTEMARK_IMPORT_ROOT", str(tmp_path))
    file = tmp_path / "x.csv"
    file.write_bytes(b"PAR1\0")
    form = dags["minutemark_import"].params.dump() | {"pipeline": "ecommerce", "file": str(file)}
    with pytest.raises(AirflowFailException, match="it is a Parquet file, which cannot be imported"):
        dags["minutemark_import"].get_task("import_rows").python_callable(params=form)


def test_every_dag_whose_form_names_a_pipeline_requires_its_permission(dags) -> None:
    from plugins.access import PREFIX, forms

    assert {dag_id for dag_id, dag in dags.items() if "pipeline" in dag.params} <= forms().dag_ids <= set(dags)
    assert all(dag_id.startswith(PREFIX) for dag_id in forms().dag_ids), "Others would be triggered without a check."


def test_an_import_reads_files_of_its_folder_only(dags, tmp_path, monkeypatch) -> None:
    root, outside = tmp_path / "data", tmp_path / "secret.csv"
    monkeypatch.setenv("MINUTEMARK_IMPORT_ROOT", str(root))
    (root / "folder").mkdir(parents=True)
    outside.write_text("root:x:0:0,password\n")
    (root / "link.csv").symlink_to(outside)
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "pipe")
    os.link(outside, root / "hard.csv")
    run = dags["minutemark_import"].get_task("import_rows").python_callable
    form = dags["minutemark_import"].params.dump()
    for target in ({"pipeline": "ecommerce"}, {"table": "job"}):
        for file in (
            "/etc/passwd",
            "/proc/self/environ",
            "../secret.csv",
            str(outside),
            "link.csv",
            "folder/../../x",
            "a\0b",
        ):
            with pytest.raises(AirflowFailException, match="is not in .*the only folder") as refused:
                run(params=form | target | {"file": file})
            assert "password" not in str(refused.value)
        for file in ("pipe", "folder", "absent.csv", ".", "loop"):
            with pytest.raises(AirflowFailException, match="not a regular file|is not in .*the only folder"):
                run(params=form | target | {"file": file})
        with pytest.raises(AirflowFailException, match="is a hard link: the file has 2 names") as refused:
            run(params=form | target | {"file": "hard.csv"})
        assert "password" not in str(refused.value)
