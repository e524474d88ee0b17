"""Chooses the due hours that a call processes: half of them the newest, the others those that were tried longest ago.

The newest hours do not wait for a backlog, and hours that always fail do not block the others.
"""

from __future__ import annotations

from dataclasses import dataclass

from include.pipelines import Pipeline
from include.warehouse.session import execute, in_transaction, rows
from include.warehouse.statements import Statements

sql = Statements(__file__)


@dataclass(frozen=True)
class Step:
    """A step for hours of etl.lakehouse_hours, such as counting them."""

    due: str  # SQL condition of the hours that are due
    tried_at: str  # column: when the step was tried last
    key: str  # index for the search


COUNT = Step(
    "to_count = 1 AND (waited_at IS NULL OR waited_at < CURRENT_TIMESTAMP(6) - INTERVAL 10 MINUTE)",
    "count_tried_at",
    "hours_to_count",
)
LOAD = Step("to_load = 1", "load_tried_at", "hours_to_load")


def take(conn, pipeline: Pipeline, step: Step, limit: int) -> list[dict]:
    """Rows of the hours that the step is to process. Records that these hours were tried, whatever the outcome."""

    def take_hours(cursor) -> list[dict]:
        binds = {"pipeline": pipeline.name, "limit": limit, "half": limit // 2}
        newest = rows(cursor, sql("newest", step=step), binds)
        least_recent = rows(cursor, sql("least_recent", step=step), binds)
        rows_by_hour = dict(list({row["hour"]: row for row in newest + least_recent}.items())[:limit])
        if rows_by_hour:
            execute(cursor, sql("tried", step=step), {"pipeline": pipeline.name, "hours": sorted(rows_by_hour)})
        return list(rows_by_hour.values())

    return in_transaction(conn, take_hours)
