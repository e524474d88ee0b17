"""How fresh pipelines are now and were over the last day, pending and held minutes, and open alerts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import timedelta

from include.durations import DAY
from include.operations import copies
from include.pipelines import Pipeline
from include.warehouse import freshness, status
from include.warehouse.session import server_time

STEP = timedelta(minutes=15)  # of the day's curve


def overview(conn, pipelines: Iterable[Pipeline]) -> dict:
    """`now`, and an entry per pipeline: the fields of status.freshness, `description`, `day` (the lag over it), `copies` and
    `alerts`. `copies` is what waits for the lakehouse and BigQuery; None if the lakehouse is off, or not declared.
    """
    alerts = status.open_alerts(conn)
    entries = []
    for pipeline in pipelines:
        published = freshness.history(conn, pipeline, server_time(conn.cursor()) - DAY)
        until = server_time(conn.cursor())
        day = freshness.lag_between(published, until - DAY, until)
        entries.append(
            status.freshness_of(conn, pipeline)
            | {
                "description": pipeline.description,
                "day": asdict(day) if day else None,
                "copies": copies.backlog_of(conn, pipeline),
                "alerts": [alert for alert in alerts if alert["pipeline"] == pipeline.name],
            }
        )
    return {"now": server_time(conn.cursor()), "pipelines": entries}


def day_of(conn, pipeline: Pipeline) -> list[dict]:
    """The last day in steps, oldest first: at, and median and worst lag in seconds, None if nothing was published."""
    until = server_time(conn.cursor())
    start = until - DAY
    published = freshness.history(conn, pipeline, start)
    return [
        {"at": at, "median": lag and lag.median, "worst": lag and lag.worst}
        for at, lag in freshness.lag_by_step(published, start, until, STEP)
    ]
