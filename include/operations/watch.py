"""The watch: checks every pipeline, and notifies when a problem starts, persists or ends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import datetime

from include.connections import WAREHOUSE_ETL, Endpoint
from include.kafka.ingest_mode import ingest_mode
from include.notice import Notice
from include.operations import copies
from include.pipelines import Pipeline, get
from include.warehouse import alerts, status
from include.warehouse.alerts import Problem
from include.warehouse.session import read, reading, rows, server_time, warehouse
from include.warehouse.statements import Statements

sql = Statements(__file__)

log = logging.getLogger(__name__)

FAILURES_IN_A_ROW = 2  # one failed run is reported by its own DAG, and the next run usually succeeds


def watch(notify: Callable[[Notice], bool], conn_id: str | Endpoint = WAREHOUSE_ETL) -> list[dict]:
    """Check every pipeline once; `notify` returns whether a channel accepted the notice. If not, the next check retries.

    Returns the entries of status.freshness. Raises WarehouseError when the warehouse cannot be queried: Airflow must report that.
    """
    with warehouse(conn_id) as conn:
        entries = status.freshness(conn)
        with reading(conn) as cursor:
            now = server_time(cursor)
        problems = [problem for entry in entries for problem in problems_of(get(entry["pipeline"]), entry, now)]
        problems = [_with_newest_held(conn, problem) for problem in problems]
        with reading(conn):
            for pipeline in (get(entry["pipeline"]) for entry in entries):
                if backlog := copies.backlog_of(conn, pipeline):
                    problems += copies.problems(pipeline, backlog, now)
        if ingest_mode():
            from include.kafka import topic_watch

            problems += topic_watch.problems(conn, [get(entry["pipeline"]) for entry in entries], now)
        for alert, notice in alerts.update(conn, problems, now):
            if notify(notice):
                alerts.mark_notified(conn, alert, now)
            else:
                log.warning("No channel accepted the notice %r; the next check retries.", notice.title)
    return entries


def problems_of(pipeline: Pipeline, entry: dict, now: datetime) -> Iterator[Problem]:
    """The problems of a pipeline with this entry of status.freshness. A pure decision, which reads no store."""
    name = pipeline.name
    minute_dag = f"{name}_minute"
    if entry["state"] == status.BLIND:
        yield Problem(
            name,
            "blind",
            entry["looked_at"],
            f"The change log of {pipeline.lake_table} was last polled {entry['look_age']:.0f} s ago; "
            f"the limit is {pipeline.look_limit.total_seconds():.0f} s. Pending minutes are unknown.",
            f"Check whether {minute_dag} is paused, whether one of its runs hangs or fails in wait_for_changes, and whether "
            "Airflow's scheduler and triggerer are running.",
        )
    if entry["waiting_since"] is not None:
        yield Problem(
            name,
            "stale",
            entry["waiting_since"],
            f"A change in the lake has not been merged for {(now - entry['waiting_since']).total_seconds():.0f} s; the limit is "
            f"{pipeline.delay_limit.total_seconds():.0f} s. Pending minutes: {entry['pending']}.",
            f"Open the newest runs of {minute_dag} and read the log of the task that fails or is slow. "
            "No data is lost; the next successful run catches up.",
        )
    if entry["held"]:
        yield Problem(
            name,
            "held",
            now,
            "1 minute is held and not published."
            if entry["held"] == 1
            else f"{entry['held']} minutes are held and not published.",
            "`./minutemark held` or the Pipelines page shows why. Fix the cause in the lake or the transform, and run "
            f"{minute_dag} with `from` and `to` (and allow_shrink, if rows were removed on purpose). Or accept the drift "
            "of a field (./minutemark accept), or publish the minutes as they are (./minutemark release).",
        )
    if entry["failures"] >= FAILURES_IN_A_ROW:
        reason = f" The last reason: {entry['failure']}" if entry["failure"] else ""
        yield Problem(
            name,
            "failing",
            entry["failing_since"],
            f"The last {entry['failures']} batches of {name} were not merged.{reason}",
            f"Open the newest failed run of {minute_dag}; the log of the failed task says what to do.",
        )


def line_of(entry: dict) -> str:
    """A pipeline's entry of status.freshness as a line for the log."""

    def seconds(name: str) -> str:
        return "–" if entry[name] is None else f"{entry[name]:.0f} s"

    return (
        f"{entry['pipeline']}: {entry['state']}; lag {seconds('lag')}, over the last hour median {seconds('lag_median')}, "
        f"p95 {seconds('lag_p95')}, worst {seconds('lag_worst')}; delay {seconds('delay')}, minutes pending: {entry['pending']}, "
        f"held: {entry['held']}; polled {seconds('look_age')} ago"
        + (f"; new undeclared fields: {status.named_fields(entry['new_fields'])}" if entry["new_fields"] else "")
    )


def _with_newest_held(conn, problem: Problem) -> Problem:
    """The problem; if minutes are held, with the newest one and its reason."""
    if problem.problem != "held":
        return problem
    records = read(conn, rows, sql("newest_held"), {"pipeline": problem.pipeline})
    newest = "".join(f" The newest is {row['minute']:%Y-%m-%d %H:%M}: {row['reason']}" for row in records)
    return Problem(problem.pipeline, problem.problem, problem.since, problem.found + newest, problem.remedy)
