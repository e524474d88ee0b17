"""What a backfill of a range would do: which DAG, in which chunks, and what the ledger knows of these minutes.

Airflow creates, runs and cancels it. A run of `<pipeline>_reconcile` processes an hour, one of `<pipeline>_minute` a minute.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from include.durations import EPOCH, HOUR, MICROSECOND, MINUTE
from include.pipelines import Pipeline
from include.planner import refuse_closed
from include.warehouse.session import rows, server_time
from include.warehouse.statements import Statements
from include.window import WindowRefused

sql = Statements(__file__)

CHUNKS = {"hour": ("reconcile", HOUR), "minute": ("minute", MINUTE)}
MAX_RUNS = 744  # in one backfill, a month of hours: Airflow creates all of them in one request
_ESTIMATE_BATCHES = 20  # newest merged batches, for the estimate of a run's duration


def plan(conn, pipeline: Pipeline, start: datetime, end: datetime, chunk: str) -> dict:
    """dag_id; `from` and `to` as Airflow's API takes them (`to` is the start of the last run's interval); first_minute and
    end_minute, rounded outwards to whole chunks that have ended; runs, minutes; what the ledger has of them: known, raw_rows,
    pending, held, closed; and the estimated seconds of a run, or None. Raises WindowRefused or planner.RangeRefused.
    """
    if chunk not in CHUNKS:
        raise WindowRefused(f"`chunk` is {chunk!r}. Choose one of {', '.join(CHUNKS)}.")
    kind, step = CHUNKS[chunk]
    clock = server_time(conn.cursor())
    first, last = _floor(start, step), min(_floor(end + step - MICROSECOND, step), _floor(clock, step))
    if first >= last:
        raise WindowRefused(
            f"No whole {chunk} of this range has ended yet. Choose a range before {_floor(clock, step):%Y-%m-%d %H:%M}."
        )
    refuse_closed(pipeline, clock, first, step)
    runs = (last - first) // step
    if runs > MAX_RUNS:
        instead = "" if chunk == "hour" else " With an hour per run, the range can be longer."
        raise WindowRefused(
            f"This range has {runs:,} runs; one backfill takes at most {MAX_RUNS}. Start with {first:%Y-%m-%d %H:%M} to "
            f"{first + MAX_RUNS * step:%Y-%m-%d %H:%M}, and backfill the rest afterwards.{instead}"
        )
    binds = {"pipeline": pipeline.name, "start": first, "end": last, "limit": _ESTIMATE_BATCHES}
    return {
        "dag_id": f"{pipeline.name}_{kind}",
        "from": first,
        "to": last - step,
        "first_minute": first,
        "end_minute": last,
        "runs": runs,
        "minutes": (last - first) // MINUTE,
        **rows(conn.cursor(), sql("known"), binds)[0],
        **rows(conn.cursor(), sql("seconds"), binds)[0],
    }


def _floor(time: datetime, step: timedelta) -> datetime:
    return EPOCH + (time - EPOCH) // step * step
