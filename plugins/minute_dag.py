"""The chain of every pipeline: from changed minutes of the lake to facts in the warehouse.

1. **wait_for_changes** polls the lake's change log. The newest live minutes, then the oldest pending ones, become a
   *batch*; the next tasks get its id. If nothing changed, a scheduled run waits in the triggerer for up to 45 seconds, or
   two minutes with continuous runs, and is then skipped. A manual run, or one of the reconcile DAG, does not wait.
2. **transform_delta** reads the batch's minutes with one Spark job and fills staging, as a new *attempt*.
3. **check_staging** checks that every raw row is counted, ignored or rejected, and that the figures are plausible.
4. **merge_into_warehouse** replaces the contributions of these minutes and recomputes their facts, in one transaction.
5. **check_warehouse** checks that facts and contributions agree. If not, the run fails and its minutes are pending again.
   In the minute DAG, this task also emits an asset event for each hour that is complete. See docs/assets.md.

A run can be cleared from any step. A cleared sensor opens a new batch, a cleared transform makes a new attempt, and a cleared
merge of a merged batch changes nothing. If a later run has closed the batch of a failed run, the steps of the failed run
refuse that batch: clear the sensor. To reprocess given minutes, trigger the DAG with `from` and `to`, or run a backfill. A
backfill takes exactly the minutes of its intervals.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Param, chain

from include.options import json_type
from include.pipelines import Pipeline
from plugins.assets import batches_asset, hours_asset
from plugins.changes import WaitForChanges
from plugins.gate import QualityGate
from plugins.merge import MergeIntoWarehouse
from plugins.notifiers import NotifyFailedRun
from plugins.transform import TransformDelta

START = datetime(2020, 1, 1, tzinfo=UTC)  # every DAG needs one; a backfill may start earlier, and catchup is off
# Settings of every DAG of the project.
SETTINGS: dict[str, Any] = {"start_date": START, "catchup": False, "on_failure_callback": NotifyFailedRun()}
BATCH_ID = "{{ ti.xcom_pull(task_ids='wait_for_changes') }}"
LIVE_BEFORE_BACKFILL = "plugins.priority.LiveBeforeBackfill"

# A killed task or a refused connection is retried within the minute.
TASK_DEFAULTS = {"retries": 2, "retry_delay": timedelta(seconds=10), "weight_rule": LIVE_BEFORE_BACKFILL}


def chain_dag(pipeline: Pipeline, kind: str, *, schedule, doc: str, priority: int, continuous: bool = False) -> DAG:
    """The DAG `<pipeline>_<kind>`; among live runs, the one with the higher priority gets pool slots first.

    If runs are `continuous`, the sensor waits longer, and `schedule` starts the next run when the last one ends.
    """
    complete_hours = [hours_asset(pipeline.name)] if kind == "minute" else []
    merged_batches = [batches_asset(pipeline.name)] if pipeline.batch_events else []
    with DAG(
        f"{pipeline.name}_{kind}",
        description=pipeline.description,
        doc_md=f"{doc}\n\n{__doc__}",
        schedule=schedule,
        max_active_runs=1,
        dagrun_timeout=timedelta(minutes=30),
        default_args={"owner": pipeline.owner, "priority_weight": priority, **TASK_DEFAULTS},
        params=form(pipeline),  # ty: ignore[invalid-argument-type]  # a dict becomes ParamsDict
        tags=sorted({kind, "minutemark", *pipeline.tags}),
        **SETTINGS,  # no catchup: what was missed is pending, and the next run takes it
    ) as dag:
        wait_for_changes = WaitForChanges(
            task_id="wait_for_changes",
            pipeline=pipeline.name,
            kind=kind,
            continuous=continuous,
            outlets=complete_hours,
            execution_timeout=timedelta(minutes=5),
        )
        transform_delta = TransformDelta(
            task_id="transform_delta",
            pipeline=pipeline.name,
            batch_id=BATCH_ID,
            pool="spark",
            execution_timeout=timedelta(minutes=15),
        )
        check_staging = QualityGate(
            task_id="check_staging",
            pipeline=pipeline.name,
            gate="staging",
            batch_id=BATCH_ID,
            execution_timeout=timedelta(minutes=2),
        )
        merge_into_warehouse = MergeIntoWarehouse(
            task_id="merge_into_warehouse",
            pipeline=pipeline.name,
            batch_id=BATCH_ID,
            # No pool: the lock of the pipeline's row serializes its merges, and other pipelines never wait for it.
            # The largest batch merges in seconds; one that hangs must not keep that lock.
            execution_timeout=timedelta(minutes=3),
        )
        check_warehouse = QualityGate(
            task_id="check_warehouse",
            pipeline=pipeline.name,
            gate="warehouse",
            batch_id=BATCH_ID,
            outlets=[*complete_hours, *merged_batches],
            execution_timeout=timedelta(minutes=2),
        )
        chain(wait_for_changes, transform_delta, check_staging, merge_into_warehouse, check_warehouse)
    return dag


def form(pipeline: Pipeline) -> dict[str, Param]:
    """The fields of the trigger form; scheduled runs take the defaults."""
    times = {
        name: Param(None, type=["null", "string"], format="date-time", title=name, description=description)
        for name, description in {
            "from": "First minute to reprocess (UTC). Leave `from` and `to` empty to process what a scheduled run would.",
            "to": "End of the range to reprocess (UTC), not included.",
        }.items()
    }
    allow_shrink = Param(
        False,
        type="boolean",
        title="allow_shrink",
        description="Publish a minute even if the lake now has fewer rows for it than an earlier run read. Off: hold it.",
    )
    options = {
        name: Param(
            default,
            type=json_type(default),
            title=name,
            description=pipeline.option_help.get(name, f"Option of the {pipeline.name} transform."),
        )
        for name, default in pipeline.options.items()
    }
    return {**times, "allow_shrink": allow_shrink, **options}
