"""The backlog of a pipeline's copies (the lakehouse, and the hours in BigQuery), for the Pipelines page and the watch.

It reads only the warehouse, as etl or as bi, and needs none of the copies' packages.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timedelta

from include.bigquery.settings import SETTING as BIGQUERY
from include.lakehouse import settings as lakehouse
from include.pipelines import Pipeline
from include.warehouse.alerts import Problem
from include.warehouse.session import rows
from include.warehouse.statements import Statements

sql = Statements(__file__)

LIMIT = timedelta(minutes=15)  # for a copy without progress, and for hours that differ
COUNT_LIMIT = 10_000  # minutes: a longer backlog is not counted further


def backlog_of(conn, pipeline: Pipeline) -> dict | None:
    """The backlog of the copies; None if the pipeline declares no lakehouse, or the lakehouse is off.

    minutes, oldest_minute    due to be written; merged_at: the earliest of their last merges; written_at: the last
                              write, or the creation of the table; None before the first export
    capped                    whether `minutes` is COUNT_LIMIT because counting stopped there
    hours                     to be counted
    waiting                   hours that keep their last count, because a minute is not in the table as it was merged
    differing, differs_since  hours whose counts differ from the fact
    to_load                   hours to be loaded into BigQuery; None if BigQuery is off. counted_at: the earliest of their
                              counts; loaded_at: the last load
    """
    if not (pipeline.lakehouse and lakehouse.is_on()):
        return None
    cursor = conn.cursor()
    [minutes] = rows(cursor, sql("backlog"), {"pipeline": pipeline.name, "limit": COUNT_LIMIT + 1})
    [hours] = rows(cursor, sql("hours"), {"pipeline": pipeline.name})
    capped = minutes["minutes"] > COUNT_LIMIT
    backlog = minutes | {"minutes": min(minutes["minutes"], COUNT_LIMIT), "capped": capped}
    backlog |= {
        name: int(value) if name in ("hours", "waiting", "differing", "to_load") else value
        for name, value in hours.items()
    }
    return backlog if os.environ.get(BIGQUERY) else backlog | {"to_load": None}


def problems(pipeline: Pipeline, backlog: dict, now: datetime) -> Iterator[Problem]:
    """The problems of a pipeline with this backlog. A backlog that is being written is not a problem.

    Nor is the backlog of a copy that was just turned on: before the first export or load, everything has been due for a long
    time. A failed run sends its own notice.
    """
    dag = f"{pipeline.name}_lakehouse"
    if backlog["minutes"] and backlog["written_at"] and _is_stuck(backlog["merged_at"], backlog["written_at"], now):
        yield Problem(
            pipeline.name,
            "lakehouse_behind",
            max(backlog["merged_at"], backlog["written_at"]),
            f"Minutes due to be written into {pipeline.lakehouse.table}: {backlog['minutes']:,}"
            f"{' or more' if backlog['capped'] else ''}. None has been written in "
            f"the last {LIMIT.total_seconds() / 60:.0f} minutes. The oldest is {backlog['oldest_minute']:%Y-%m-%d %H:%M}.",
            f"Check whether {dag} is paused, and read the log of write_events in its newest run.",
        )
    if backlog["differing"] and now - backlog["differs_since"] > LIMIT:
        yield Problem(
            pipeline.name,
            "hours_differ",
            backlog["differs_since"],
            f"Hours of {pipeline.lakehouse.table} that lakehouse and warehouse count differently: {backlog['differing']}.",
            f"Run `./minutemark verify {pipeline.name}` or the DAG minutemark_verify. Both list each difference with its remedy.",
        )
    if backlog["to_load"] and backlog["loaded_at"] and _is_stuck(backlog["counted_at"], backlog["loaded_at"], now):
        yield Problem(
            pipeline.name,
            "bigquery_behind",
            max(backlog["counted_at"], backlog["loaded_at"]),
            f"Hours due to be loaded into BigQuery: {backlog['to_load']}. None has been loaded in the last "
            f"{LIMIT.total_seconds() / 60:.0f} minutes.",
            f"Check whether {dag} is paused, and read the log of load_into_bigquery in its newest run.",
        )


def _is_stuck(waiting_since: datetime, progressed_at: datetime, now: datetime) -> bool:
    return now - max(waiting_since, progressed_at) > LIMIT
