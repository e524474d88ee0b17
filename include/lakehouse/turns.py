"""Which of the hours that are due a call takes: half of them the newest, the others those that waited longest.

The newest do not wait for a backlog, and hours that fail each time do not keep the others from their turn.
"""

from __future__ import annotations

from dataclasses import dataclass

from include.pipelines import Pipeline
from include.warehouse.session import in_transaction, rows


@dataclass(frozen=True)
class Step:
    """Something to do for hours of etl.lakehouse_hours: the condition of those that are due, and when they were tried last."""

    due: str
    tried_at: str
    key: str


COUNT = Step(
    "to_count = 1 AND (waited_at IS NULL OR waited_at < CURRENT_TIMESTAMP(6) - INTERVAL 10 MINUTE)",
    "count_tried_at",
    "hours_to_count",
)
LOAD = Step("to_load = 1", "load_tried_at", "hours_to_load")


def take(conn, pipeline: Pipeline, step: Step, most: int) -> list[dict]:
    """Rows with hour, changes, counted_change and counts. Records that these hours were tried, whatever becomes of them."""
    due = (
        f"SELECT hour, changes, counted_change, counts FROM etl.lakehouse_hours FORCE INDEX ({step.key}) "
        f"WHERE pipeline = %(pipeline)s AND {step.due}"
    )
    tried = (
        f"UPDATE etl.lakehouse_hours SET {step.tried_at} = CURRENT_TIMESTAMP(6) "
        "WHERE pipeline = %(pipeline)s AND hour IN %(hours)s"
    )

    def take_some(cursor) -> list[dict]:
        binds = {"pipeline": pipeline.name, "most": most, "half": most // 2}
        newest = rows(cursor, f"{due} ORDER BY hour DESC LIMIT %(half)s", binds)
        longest = rows(cursor, f"{due} ORDER BY {step.tried_at}, hour DESC LIMIT %(most)s", binds)
        taken = dict(list({row["hour"]: row for row in newest + longest}.items())[:most])
        if taken:
            cursor.execute(tried, {"pipeline": pipeline.name, "hours": tuple(sorted(taken))})
        return list(taken.values())

    return in_transaction(conn, take_some)
