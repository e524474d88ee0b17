"""The housekeeping DAG and `./minutemark housekeeping` have the same steps, with the same retentions."""

from include.housekeeping import steps


def test_the_dag_has_a_task_for_every_step(dags):
    assert set(dags["minutemark_housekeeping"].task_ids) == set(steps.STEPS)


def test_the_form_overrides_every_retention(dags):
    overridden = {name.removeprefix("keep_") for name in dags["minutemark_housekeeping"].params if name != "dry_run"}
    assert overridden == set(steps.RETENTIONS)
