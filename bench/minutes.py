"""How fast the last scheduled runs were: `python -m bench.minutes [--runs 30] [--dag recruitment_minute]`.

It reads the runs from Airflow's REST API and the batches as the bi account, and changes nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import urllib.error
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from local import ports, warehouse
from local.airflow_api import Airflow, explain
from local.problems import Problem

_BATCHES = """
    SELECT run_id, opened_at, merged_at, minutes, raw_rows, tick
    FROM etl.batches
    WHERE dag_id = %s AND kind = 'minute'
    ORDER BY batch_id DESC
    LIMIT %s
"""
_FINISHED = ("success", "failed")


@dataclass(frozen=True)
class Figures:
    """Figures of the last runs. Seconds are counted from a run's tick, when it was due, until its merge."""

    runs: int
    failed_runs: int
    runs_without_batch: int  # nothing had changed, or the run failed before it opened a batch
    merged_runs: int
    first_tick: str | None
    last_tick: str | None
    median_seconds: float | None
    p95_seconds: float | None
    slowest_seconds: float | None
    median_rows: float | None  # read by a run, including what the settle rule reads again
    most_rows: int | None
    median_minutes: float | None  # of the lake, in a batch


def figures(runs: Sequence[Mapping], batches: Iterable[Mapping]) -> Figures:
    """The figures of these finished runs; `batches` are matched to them by run_id, the newest batch first."""
    by_run: dict[str, Mapping] = {}
    for batch in batches:
        by_run.setdefault(batch["run_id"], batch)
    measured = [by_run[run["dag_run_id"]] for run in runs if run["dag_run_id"] in by_run]
    merged = [batch for batch in measured if batch["merged_at"] and batch["tick"]]
    seconds = sorted((batch["merged_at"] - batch["tick"]).total_seconds() for batch in merged)
    rows = [int(batch["raw_rows"]) for batch in merged]
    ticks = sorted(batch["tick"] for batch in merged)
    return Figures(
        runs=len(runs),
        failed_runs=sum(run["state"] == "failed" for run in runs),
        runs_without_batch=len(runs) - len(measured),
        merged_runs=len(merged),
        first_tick=_tick_text(ticks[:1]),
        last_tick=_tick_text(ticks[-1:]),
        median_seconds=round(statistics.median(seconds), 2) if seconds else None,
        p95_seconds=round(percentile(seconds, 0.95), 2) if seconds else None,
        slowest_seconds=round(seconds[-1], 2) if seconds else None,
        median_rows=statistics.median(rows) if rows else None,
        most_rows=max(rows, default=None),
        median_minutes=statistics.median(batch["minutes"] for batch in merged) if merged else None,
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """Nearest rank: the smallest value that at least `share` of all values do not exceed."""
    return ordered[max(0, -(-len(ordered) * round(share * 100) // 100) - 1)]


def _tick_text(ticks: list[datetime]) -> str | None:
    return ticks[0].isoformat(timespec="seconds") + "Z" if ticks else None


def measure(dag_id: str, count: int) -> Figures:
    """The figures of the newest `count` finished scheduled runs among the DAG's newest `2 * count + 10`, at most 100.

    Raises Problem if the stack does not answer, or if it has no such DAG.
    """
    airflow = Airflow(ports.chosen()["AIRFLOW_PORT"])
    try:
        newest = airflow.runs(dag_id, min(100, 2 * count + 10))  # the API returns at most 100
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise explain(error) from error
        raise Problem(
            f"Airflow at {airflow.url}",
            f"it has no DAG {dag_id}",
            "Name a pipeline (make: PIPELINE=recruitment) or its minute DAG (--dag recruitment_minute).",
        ) from error
    except OSError as error:
        raise Problem(
            f"Airflow at {airflow.url}", f"it does not answer: {error}", "Start it: make run DETACH=1."
        ) from error
    runs = [run for run in newest if run["run_type"] == "scheduled" and run["state"] in _FINISHED][:count]
    with warehouse.reader() as connection:
        cursor = connection.cursor()
        cursor.execute(_BATCHES, (dag_id, 4 * count + 20))
        names = [column[0] for column in cursor.description]
        return figures(runs, [dict(zip(names, row, strict=True)) for row in cursor.fetchall()])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--dag", default="recruitment_minute")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    try:
        measures = asdict(measure(args.dag, args.runs))
    except Problem as problem:
        print(problem, file=sys.stderr)
        return problem.exit_status
    if args.json:
        print(json.dumps(measures, indent=1))
    else:
        print(
            "\n".join(
                f"{name.replace('_', ' '):<20}{'–' if value is None else value}" for name, value in measures.items()
            )
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
