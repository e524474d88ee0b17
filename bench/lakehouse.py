"""Runs the lakehouse for an hour with kills, or measures its cost by size.

`python -m bench.lakehouse --minutes 60 --kills SEED [--bigquery]` starts a throw-away stack with demo traffic of all
pipelines, 5,000 events a minute for each, some of them late, and a past day of the shop. It kills the lakehouse's tasks
in a random order: while they write events, count, load into BigQuery (with `--bigquery`), and compact, expire and
delete. It backfills a day, and deletes parts of an hour, as if by hand: rows of the table, a data file, the files of its
counts, and its row of the fact. At the end the traffic stops. Then the hourly counts of DuckDB, Spark SQL, MySQL and the
BigQuery view must be equal row for row, and `verify` must report no difference; otherwise the exit status is 1.

`python -m bench.lakehouse --events 10000000` fills a table minute by minute on real stores, and prints seconds a minute, bytes,
files and memory; see bench/lakehouse_size.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

from bench import continuous, packages
from local.isolation import isolate, work_in_copy

PIPELINE, DAG = "ecommerce", "ecommerce_lakehouse"
HOUR = timedelta(hours=1)
WARM_UP = 60.0  # seconds
PAUSE_BETWEEN_KILLS = 20, 90  # seconds between two kills, at least and at most
BACKFILL_AT, DELETE_AT = 0.3, 0.6  # shares of the measured time
LATE_PERIOD = timedelta(minutes=40)  # in which late demo events arrive and their minutes are merged again
PATIENCE = 900.0  # seconds to wait for the backfill to end, and for everything to be written, counted and loaded
TASKS = ("write_events", "count_hours", "load_into_bigquery")
# Compacts all hours except future ones, and expires what is older than five minutes.
UPKEEP = (
    "from datetime import UTC, datetime, timedelta; from include import pipelines; from include.lakehouse.upkeep import upkeep; "
    "print(upkeep(pipelines.get('ecommerce'), now=datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=2), "
    "kept=timedelta(hours=2, minutes=5)))"
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.lakehouse", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="minutes of traffic with kills")
    parser.add_argument("--kills", type=int, metavar="SEED", default=17, help="seed of the random order of the kills")
    parser.add_argument("--backfill-hours", type=int, default=24, help="hours to backfill during the measurement")
    parser.add_argument("--traffic", type=int, default=5_000, help="events a minute of each pipeline")
    parser.add_argument("--bigquery", action="store_true", help="with the emulator of BigQuery")
    parser.add_argument("--events", type=int, help="measure a table of that size instead")
    args = parser.parse_args()
    packages.require(packages.LAKEHOUSE, packages.INSTALL_LAKEHOUSE)
    if args.bigquery:
        packages.require(packages.BIGQUERY, f"{packages.INSTALL_LAKEHOUSE} MINUTEMARK_BIGQUERY=local")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the stack is stopped on the way out
    with tempfile.TemporaryDirectory(prefix="mm-bench-") as folder:
        if args.events is not None:
            from bench.lakehouse_size import FEWEST, measure

            if args.events < FEWEST:
                parser.error(f"--events must be at least {FEWEST:,}, for the minutes that late events change")
            return measure(Path(folder), args.events)
        work_in_copy(Path(folder) / "project")
        isolate(Path(folder))
        os.environ |= {
            "MINUTEMARK_DEMO": "1",
            "MINUTEMARK_DEMO_EVENTS": str(args.traffic),
            "MINUTEMARK_LAKEHOUSE": "local",
            **({"MINUTEMARK_BIGQUERY": "local"} if args.bigquery else {}),
        }
        return _run_with_kills(args)


def _run_with_kills(args: argparse.Namespace) -> int:
    from include import pipelines
    from include.verify.verify import run_verify
    from include.warehouse.session import warehouse
    from local import supervisor

    pipeline = pipelines.get(PIPELINE)
    try:
        airflow = _start_stack().airflow
        for name in ("lakehouse", "reconcile", "demo_past"):
            _retry(airflow.unpause, f"{PIPELINE}_{name}")
        time.sleep(WARM_UP)
        with warehouse() as conn:
            begin = continuous.now(conn)
            kills, backfill_id, deleted = Counter(), None, False
            rng, killer = random.Random(args.kills), _kills(args.kills, airflow, args.bigquery)
            started_at, length = time.monotonic(), args.minutes * 60
            next_kill, lags = started_at + rng.uniform(*PAUSE_BETWEEN_KILLS), []
            while (spent := time.monotonic() - started_at) < length:
                if backfill_id is None and spent >= BACKFILL_AT * length:
                    last = _hour_of(continuous.now(conn))
                    first = last - (args.backfill_hours - 1) * HOUR
                    backfill_id = _retry(_backfill, airflow, first, last)
                if not deleted and spent >= DELETE_AT * length:
                    _delete_an_hour(airflow, pipeline, conn)
                    deleted = True
                if time.monotonic() >= next_kill:
                    kills[next(killer)] += 1
                    next_kill = time.monotonic() + rng.uniform(*PAUSE_BETWEEN_KILLS)
                lags.append(_lag_of_lakehouse(conn, pipeline))
                time.sleep(1)
            end = continuous.now(conn)
            chain = continuous.figures_of(conn, pipeline, begin, end)
        _await(lambda: airflow.backfill_is_over(backfill_id))
        for part in pipelines.all_pipelines().values():
            _retry(continuous.end_traffic, airflow, part)
        with warehouse() as conn:
            _await_copies(conn, pipeline, bigquery=args.bigquery)
        counts = _counts_by_engine(pipeline, bigquery=args.bigquery)
        report = run_verify(None, None, None, patience=240)
        equal = all(rows == counts["mysql"] for rows in counts.values())
        left = sum(part.totals[name] for part in report.pipelines for name in ("pending", "open"))
        clean = report.clean and not left
        figures = {
            "minutes": args.minutes,
            "seed": args.kills,
            "kills": dict(kills),
            "runs": _runs(airflow),
            "lag_p50": _quantile(lags, 0.5),
            "lag_p95": _quantile(lags, 0.95),
            "lag_worst": max(lags),
            "chain_seconds_from_batch_to_merge": chain["seconds_from_batch_to_merge"],
            "hours": {name: len(rows) for name, rows in counts.items()},
            "counts": {name: [sum(row[i] for row in rows.values()) for i in (0, 1)] for name, rows in counts.items()},
            "equal": equal,
            "clean": clean,
        }
        print(json.dumps(figures, indent=1))
        print(report)
        return 0 if equal and clean else 1
    finally:
        supervisor.shut_down()


def _start_stack():
    """Start the stack. On a busy machine, a start may time out; the next one continues from there."""
    from local import start
    from local.problems import Problem

    for _ in range(4):
        try:
            return start.run()
        except Problem as problem:
            print(f"{problem}\nStarting again …", flush=True)
    return start.run()


def _delete_an_hour(airflow, pipeline, conn) -> None:
    """Delete parts of the newest hour that late rows no longer reach.

    Verify must report the loss, and reprocessing must repair it.
    """
    from include.lakehouse import repair, table
    from include.verify.verify import run_verify
    from include.warehouse.session import in_transaction

    events = table.table(pipeline)
    settled = continuous.now(conn) - LATE_PERIOD
    hour = max(hour for task in events.scan().plan_files() if (hour := repair.hour_of(task.file)) + HOUR <= settled)
    waiting = (
        "SELECT COUNT(*) FROM etl.minute_ledger WHERE pipeline = %s AND minute >= %s AND minute < %s "
        "AND (pending = 1 OR to_lakehouse = 1)"
    )
    _await(lambda: not continuous.one_value(conn, waiting, pipeline.name, hour, hour + HOUR))
    files = list(
        Path(events.location().removeprefix("file://")).parents[1].glob(f"hourly/*/{hour:%Y-%m-%dT%H}/*.parquet")
    )
    for file in files:
        file.unlink()
    for _ in range(5):  # an export may commit at the same time
        with contextlib.suppress(Exception):
            table.table(pipeline).delete(table.between("minute", hour, hour + HOUR / 2))
            break
    rest = table.between("minute", hour + HOUR / 2, hour + HOUR)
    for task in table.table(pipeline).scan(row_filter=rest).plan_files():
        Path(task.file.file_path.removeprefix("file://")).unlink()
        break
    in_transaction(conn, lambda cursor: cursor.execute("DELETE FROM ecommerce.visits_hourly WHERE hour = %s", (hour,)))
    report = run_verify(PIPELINE, None, None, patience=0)
    counts = report.pipelines[0].differences.counts
    print(
        f"Hour {hour} deleted: {len(files)} files of counts, rows, a data file, the fact. verify found {counts}",
        flush=True,
    )
    if not any(kind.startswith("lakehouse_") for kind in counts):
        raise SystemExit(f"verify missed what was deleted: {counts}")
    range_ = {"from": f"{hour:%Y-%m-%dT%H:%M}Z", "to": f"{hour + HOUR:%Y-%m-%dT%H:%M}Z"}
    _retry(airflow.trigger, f"{PIPELINE}_minute", "The hour of the fact that was deleted", range_)
    _retry(airflow.trigger, DAG, "The hour of the lakehouse that was deleted", range_)


def _kills(seed: int, airflow, bigquery: bool) -> Iterator[str]:
    """At each step, kill a random task or the upkeep, and yield what was killed."""
    rng = random.Random(seed)
    tasks = TASKS if bigquery else TASKS[:2]
    while True:
        name = rng.choice((*tasks, "write_events", "upkeep", "upkeep"))
        yield _kill_upkeep(rng) if name == "upkeep" else _kill_task(airflow, name, rng.uniform(0, 1.5))


def _kill_task(airflow, task_id: str, delay: float) -> str:
    deadline = time.monotonic() + 75
    while time.monotonic() < deadline:
        with _ignore_api_errors():
            if continuous.tasks_of(airflow, DAG, task_id):
                time.sleep(delay)
                if continuous.kill(continuous.tasks_of(airflow, DAG, task_id)):
                    return task_id
        time.sleep(0.3)
    return f"{task_id} not found"


def _kill_upkeep(rng: random.Random) -> str:
    """Start an upkeep process, and kill it after a few seconds; about one in three may end by itself."""
    process = subprocess.Popen([sys.executable, "-c", UPKEEP])
    try:
        process.wait(60 if rng.random() < 1 / 3 else rng.uniform(2, 6))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return "upkeep"
    return "upkeep ended" if process.returncode == 0 else "upkeep failed"


def _lag_of_lakehouse(conn, pipeline) -> float:
    """The seconds since the earliest merge of a minute that is not yet in the lakehouse; 0 if all are."""
    seconds = continuous.one_value(
        conn,
        "SELECT TIMESTAMPDIFF(SECOND, MIN(merged_at), CURRENT_TIMESTAMP(6)) FROM etl.minute_ledger "
        "WHERE pipeline = %s AND to_lakehouse = 1",
        pipeline.name,
    )
    return float(seconds or 0)


def _ignore_api_errors():
    """Ignores errors of a busy API. `local` must not be imported before the copy of the project is in place."""
    from local.problems import Problem

    return contextlib.suppress(OSError, Problem)


def _retry(call: Callable, *args):
    """The API's answer, after at most five attempts."""
    for _ in range(4):
        with _ignore_api_errors():
            return call(*args)
    return call(*args)


def _backfill(airflow, first, last) -> int:
    """Create the backfill, unless an earlier request created it without an answer: a second would conflict. Returns its id."""
    existing = airflow.get(f"/api/v2/backfills?dag_id={PIPELINE}_reconcile")["backfills"]
    return existing[0]["id"] if existing else airflow.backfill(f"{PIPELINE}_reconcile", first, last)


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with _ignore_api_errors():
            if condition():
                return
        time.sleep(2)


def _await_copies(conn, pipeline, *, bigquery: bool) -> None:
    """Return when everything is written, counted and loaded, or when PATIENCE is exceeded; verify names what is left."""
    due = [
        "SELECT COUNT(*) FROM etl.minute_ledger WHERE pipeline = %s AND to_lakehouse = 1",
        "SELECT COUNT(*) FROM etl.lakehouse_hours WHERE pipeline = %s AND to_count = 1",
        *(["SELECT COUNT(*) FROM etl.lakehouse_hours WHERE pipeline = %s AND to_load = 1"] if bigquery else []),
    ]
    time.sleep(40)  # the last minutes settle
    _await(lambda: not any(continuous.one_value(conn, query, pipeline.name) for query in due))


def _counts_by_engine(pipeline, *, bigquery: bool) -> dict[str, dict[datetime, tuple[int, int]]]:
    """Visits and cart additions of all hours, by engine."""
    from include.lakehouse import hourly, table
    from include.lakehouse.spark_view import create_events_view
    from include.spark import settings
    from include.warehouse.session import warehouse
    from include.warehouse.sql import FOLDER

    query = (FOLDER / pipeline.name / "lakehouse" / f"{pipeline.lakehouse.fact}.sql").read_text(encoding="utf-8")
    with warehouse() as conn:
        cursor = conn.cursor()
        cursor.execute("SELECT hour, visits, cart_additions FROM ecommerce.visits_hourly")
        results = {"mysql": {hour: (int(visits), int(carts)) for hour, visits, carts in cursor.fetchall()}}
    with hourly.duckdb_over(pipeline, table.table(pipeline), sorted(results["mysql"])) as connection:
        results["duckdb"] = {hour: tuple(counts) for hour, *counts in connection.execute(query).fetchall()}
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2]").appName("bench")
    spark = builder.config(map=settings.session_settings("local[2]")).getOrCreate()
    try:
        create_events_view(spark, pipeline)
        rows = spark.sql(query).selectExpr("CAST(hour AS timestamp_ntz) AS hour", "visits", "cart_additions").collect()
        results["spark"] = {row.hour: (row.visits, row.cart_additions) for row in rows}
    finally:
        spark.stop()
    if bigquery:
        from include.bigquery import tables

        view = tables.view(pipeline)
        rows = tables.query(tables.client(), f"SELECT DATETIME(hour) AS hour, visits, cart_additions FROM `{view}`")
        results["bigquery"] = {row["hour"]: (row["visits"], row["cart_additions"]) for row in rows}
    # An hour may have only removals, or have lost all its events. Only some engines then have a row, of zeros.
    return {name: {hour: row for hour, row in rows.items() if any(row)} for name, rows in results.items()}


def _runs(airflow) -> dict[str, int]:
    """How many of the lakehouse DAG's newest runs are in each state."""
    return dict(Counter(run["state"] for run in airflow.runs(DAG, 100)))


def _hour_of(time_: datetime) -> datetime:
    return time_.replace(minute=0, second=0, microsecond=0)


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


if __name__ == "__main__":
    sys.exit(main())
