"""Pages of the ledger, newest minutes first. A page begins where the previous one ended, so that all cost the same."""

from __future__ import annotations

import json
from datetime import datetime

from include.errors import MinutemarkError
from include.page import batches
from include.pipelines import Pipeline
from include.warehouse.session import rows
from include.warehouse.statements import Statements

sql = Statements(__file__)

ROWS = 100

# The filters; each walks an index in the order of minutes.
STATES = {
    "all": "TRUE",
    "pending": "pending = 1",
    "held": "state = 'held'",
    "closed": "state = 'closed'",
    "merged": "state = 'merged'",
}
_FIRST, _LAST = datetime(1000, 1, 1), datetime(9999, 1, 1)


class StateRefused(MinutemarkError):
    """A `state` that is not one of the filters in STATES."""


def page(
    conn,
    pipeline: Pipeline,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    before: datetime | None = None,
    state: str = "all",
) -> dict:
    """`rows` from `start` to `end` (excluded), or to the minute `before` (excluded) where the previous page ended, and whether
    there are `more`. Each row: minute, state, pending, reason, counts, ignored_by_kind, newest_create_time, merged_at, batch_id,
    run, and the `options` of its merged read that differ from the defaults.
    """
    if state not in STATES:
        raise StateRefused(f"`state` is {state!r}: choose one of {', '.join(STATES)}.")
    records = rows(
        conn.cursor(),
        sql("page", condition=STATES[state]),
        {
            "pipeline": pipeline.name,
            "start": start or _FIRST,
            "end": min(end or _LAST, before or _LAST),
            "limit": ROWS + 1,
        },
    )
    shown = records[:ROWS]
    runs = batches.runs_of(conn, (row["batch_id"] for row in shown))
    for row in shown:
        row["run"] = runs.get(row["batch_id"])
        row["pending"] = bool(row["pending"])
        row["options"] = json.loads(row.pop("set_options") or "{}")
        row["ignored_by_kind"] = json.loads(row["ignored_by_kind"] or "{}")
    return {"rows": shown, "more": len(records) > ROWS}
