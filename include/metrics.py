"""The metrics that Minutemark adds to Airflow's: the state of each pipeline at each check of the watch, and the
rows and batch duration of each merge.

Tasks send them with Airflow's own API, as its section [metrics] configures; without that section nothing is sent.
docs/monitoring.md describes each metric, and how to switch them on.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from include.warehouse.merge import MergeResult

# Gauges: each metric and its key in an entry of status.freshness.
GAUGES = {
    "freshness_seconds": "lag",
    "delay_seconds": "delay",
    "look_age_seconds": "look_age",
    "merge_age_seconds": "merge_age",
    "pending_minutes": "pending",
    "held_minutes": "held",
}
# Counters: each fate and its field of a MergeResult.
ROWS = {"counted": "counted_rows", "ignored": "ignored_rows", "rejected": "rejected_rows"}
ROWS_METRIC = "rows"
BATCH_METRIC = "batch_duration"  # a timer, like Airflow's task.duration: milliseconds on the wire


def name_of(metric: str, *parts: str) -> str:
    """The name after Airflow's prefix. It repeats the tags, because plain StatsD has none."""
    return ".".join(("minutemark", metric, *parts))


def send_gauges(entries: Iterable[dict]) -> None:
    """Send the gauges of each entry of status.freshness, except unknown values."""
    from airflow.sdk.observability import stats

    for entry in entries:
        for metric, figure in GAUGES.items():
            if entry[figure] is not None:
                stats.gauge(name_of(metric, entry["pipeline"]), entry[figure], tags={"pipeline": entry["pipeline"]})


def send_merge_counters(result: MergeResult) -> None:
    """Send rows by fate and the duration of a batch that this merge committed. Sends nothing if it was already merged."""
    from airflow.sdk.observability import stats

    if result.state != "merged" or not result.changed:
        return
    for fate, rows in ROWS.items():
        name = name_of(ROWS_METRIC, fate, result.pipeline)
        stats.incr(name, getattr(result, rows), tags={"pipeline": result.pipeline, "fate": fate})
    stats.timing(
        name_of(BATCH_METRIC, result.pipeline),
        timedelta(seconds=result.seconds or 0),
        tags={"pipeline": result.pipeline},
    )
