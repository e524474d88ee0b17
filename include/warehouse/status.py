"""What the warehouse knows about its own runs, for the live table, `make status` and dashboards; any account may ask."""

from __future__ import annotations

from datetime import timedelta

from include.pipelines import all_pipelines
from include.warehouse.session import rows


def recent_batches(conn, limit: int = 20) -> list[dict]:
    """The newest batches first: what each took, where its rows went, and `seconds` from tick to merged."""
    found = rows(
        conn.cursor(),
        "SELECT batch_id, pipeline, kind, dag_id, run_id, tick, opened_at, merged_at, state, reason, minutes,"
        " merged_minutes, raw_rows, counted_rows, ignored_rows, rejected_rows, merged_attempt,"
        " TIMESTAMPDIFF(MICROSECOND, tick, merged_at) / 1000000 AS seconds"
        " FROM etl.batches ORDER BY batch_id DESC LIMIT %(limit)s",
        {"limit": limit},
    )
    return [batch | {"seconds": None if batch["seconds"] is None else float(batch["seconds"])} for batch in found]


def freshness(conn) -> list[dict]:
    """For each pipeline: pending and held minutes, the newest event that was merged, and its age in seconds (`lag`).

    Minutes ahead of the clock do not count: one event from a clock that is wrong would look like news for ever.
    """
    cursor = conn.cursor()
    found = []
    for pipeline in all_pipelines().values():
        binds = {
            "pipeline": pipeline.name,
            "ahead": pipeline.future_tolerance // timedelta(microseconds=1),
        }
        counted = rows(
            cursor,
            "SELECT (SELECT COUNT(*) FROM etl.minute_ledger WHERE pipeline = %(pipeline)s AND pending = 1) AS pending,"
            " (SELECT COUNT(*) FROM etl.minute_ledger WHERE pipeline = %(pipeline)s AND state = 'held') AS held,"
            " (SELECT MAX(merged_at) FROM (SELECT merged_at FROM etl.batches WHERE pipeline = %(pipeline)s"
            "  AND state = 'merged' ORDER BY batch_id DESC LIMIT 10) AS b) AS last_merged_at",
            binds,
        )[0]
        newest = rows(
            cursor,
            "SELECT newest_create_time, TIMESTAMPDIFF(MICROSECOND, newest_create_time, CURRENT_TIMESTAMP(6)) / 1000000 AS lag"
            " FROM etl.minute_ledger WHERE pipeline = %(pipeline)s AND newest_create_time IS NOT NULL"
            " AND minute <= CURRENT_TIMESTAMP(6) + INTERVAL %(ahead)s MICROSECOND ORDER BY minute DESC LIMIT 1",
            binds,
        )
        found.append(
            {
                "pipeline": pipeline.name,
                **counted,
                "newest_create_time": newest[0]["newest_create_time"] if newest else None,
                "lag": float(newest[0]["lag"]) if newest else None,
            }
        )
    return found
