"""The newest batches of a pipeline, and the runs of batches, which the page links to."""

from __future__ import annotations

from collections.abc import Iterable

from include.pipelines import Pipeline, all_pipelines
from include.warehouse.session import rows
from include.warehouse.statements import Statements

sql = Statements(__file__)


def newest_binds(pipeline: Pipeline, number: int) -> dict[str, object]:
    """Binds of sql("newest"): about `number` batches of this pipeline, if all pipelines are equally busy."""
    return {"pipeline": pipeline.name, "batches": number * len(all_pipelines())}


def runs_of(conn, batch_ids: Iterable[int | None]) -> dict[int, dict]:
    """dag_id and run_id of each of these batches that is still known."""
    known_ids = sorted({batch_id for batch_id in batch_ids if batch_id is not None})
    records = rows(conn.cursor(), sql("runs_of"), {"batch_ids": known_ids}) if known_ids else ()
    return {row["batch_id"]: {"dag_id": row["dag_id"], "run_id": row["run_id"]} for row in records}
