"""The newest batches of a pipeline, and the runs behind batches, which the page links to."""

from __future__ import annotations

from collections.abc import Iterable

from include.pipelines import Pipeline, all_pipelines
from include.warehouse.session import rows

# All pipelines' newest by primary key, and then one's own: no index orders one pipeline's by age, whatever their state.
NEWEST = (
    "(SELECT batch_id FROM (SELECT batch_id, pipeline FROM etl.batches ORDER BY batch_id DESC LIMIT %(batches)s) AS n "
    "WHERE n.pipeline = %(pipeline)s)"
)


def newest(pipeline: Pipeline, each: int) -> dict[str, object]:
    """Binds of NEWEST: about `each` batches of this pipeline, where all pipelines are as busy as each other."""
    return {"pipeline": pipeline.name, "batches": each * len(all_pipelines())}


def runs_of(conn, batch_ids: Iterable[int | None]) -> dict[int, dict]:
    """dag_id and run_id of each of these batches that is still known."""
    wanted = {
        f"b{number}": batch_id
        for number, batch_id in enumerate(sorted({batch_id for batch_id in batch_ids if batch_id is not None}))
    }
    if not wanted:
        return {}
    records = rows(
        conn.cursor(),
        "SELECT batch_id, dag_id, run_id FROM etl.batches WHERE batch_id IN "
        f"({', '.join(f'%({name})s' for name in wanted)})",
        wanted,
    )
    return {row["batch_id"]: {"dag_id": row["dag_id"], "run_id": row["run_id"]} for row in records}
