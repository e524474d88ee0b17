"""Runs DAGs of this project with a separate Airflow home, one request after the other, without a scheduler.

A separate process, because Airflow reads its configuration when it is imported, and one for all tests, because importing
it takes seconds. Requests and answers are lines of JSON on stdin and stdout; what the tasks print goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from datetime import datetime
from typing import Any
from unittest.mock import patch


def main() -> None:
    """Carry out every request on stdin until it ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # before Airflow is imported: its logs keep the stdout that they find
    from airflow.utils.db import initdb

    initdb()
    for line in sys.stdin:
        try:
            answer = _run(**json.loads(line))
        except Exception:
            traceback.print_exc()
            answer = {"run_id": "", "state": "did not end", "tasks": {}}
        print(json.dumps(answer), file=answers)


def _dag(dag_id: str) -> Any:
    """The DAG, parsed again: a run leaves its parameters in the DAG object, which real runs do not share."""
    from airflow.models.dagbag import DagBag

    result = DagBag()
    if result.import_errors:
        raise RuntimeError(f"DAG files do not import: {result.import_errors}")
    return result.dags[dag_id]


def _run(
    dag_id: str,
    *,
    conf: dict[str, Any] | None = None,
    interval: list[str] | None = None,
    run_id: str | None = None,
    clear: list[str] | None = None,
    skip: list[str] | None = None,
    environment: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Run a DAG to its end: a manual run with `conf`; with `interval`, the run that a backfill creates for it; with
    `run_id`, that run again after the tasks of `clear` are cleared. Tasks of `skip` are marked as successful and do not
    run. `environment` is set for this run alone."""
    from airflow.models import dagrun

    with patch.dict(os.environ, environment or {}):  # some DAGs exist only with a setting
        dag = _dag(dag_id)
    make_run = dagrun.get_or_create_dagrun
    if interval:
        start, end = (datetime.fromisoformat(time) for time in interval)

        def make_run(*, dag, session, **_):
            return dag.create_dagrun(
                run_id=f"backfill__{datetime.now().isoformat()}",
                run_type=dagrun.DagRunType.BACKFILL_JOB,
                logical_date=start,
                data_interval=(start, end),
                run_after=end,
                state=dagrun.DagRunState.RUNNING,
                triggered_by=dagrun.DagRunTriggeredByType.BACKFILL,
                session=session,
            )

    if run_id:

        def make_run(*, dag, session, **_):
            dag.clear(task_ids=clear, run_id=run_id, dag_run_state=dagrun.DagRunState.RUNNING, session=session)
            session.commit()
            run = session.query(dagrun.DagRun).filter_by(dag_id=dag.dag_id, run_id=run_id).one()
            run.dag = dag
            return run

    pattern = "|".join(skip) if skip else None
    with patch.object(dagrun, "get_or_create_dagrun", make_run), patch.dict(os.environ, environment or {}):
        run = dag.test(run_conf=conf, mark_success_pattern=pattern)
    states = {task.task_id: str(task.state) for task in run.get_task_instances()}
    return {"run_id": run.run_id, "state": str(run.state), "tasks": states}


if __name__ == "__main__":
    main()
