"""Measures whether the Pipelines page responds at once with a year of minutes in the ledger: `make page-bench`.

Starts a throw-away warehouse and fills it as if a pipeline had run for a year without a pause: 525,600 rows of the
ledger, 90 days of batches, 30 days of checks, a week of freshness, and 200,000 rejected events. Some minutes are held. Then it
requests each view from a real API server.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from include.durations import MINUTE
from include.warehouse import schema
from include.warehouse.session import server_time, warehouse
from local import throwaway
from local.api_server import ApiServer, site

YEAR = 525_600  # minutes
KEPT_BATCHES = 129_600  # one a minute for 90 days
CHECKS = 9  # check results in each batch of the last 30 days
REJECTED = 200_000
LIMIT = 300  # milliseconds
DATA = "/minutemark/api/pipelines"
USER = "ada"

# The numbers from 0 to 999,999, in SQL that MySQL and MariaDB both accept.
_DIGITS = "(SELECT 0 AS d" + "".join(f" UNION ALL SELECT {digit}" for digit in range(1, 10)) + ")"
_NUMBERS = (
    "(SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d + 100000 * g.d AS n FROM "
    + ", ".join(f"{_DIGITS} AS {name}" for name in "abcefg")
    + ")"
)
# Every 5,000th minute is held; the newest three are pending.
_LEDGER = (
    "INSERT INTO etl.minute_ledger (pipeline, minute, seen_changed_at, seen_changed_time, read_changed_at, read_at,"
    " settled_before, batch_id, attempt, raw_rows, counted_rows, ignored_rows, rejected_rows, ignored_by_kind, id_checksum,"
    " newest_create_time, state, reason, held_changed_at, merged_at) SELECT 'recruitment', m, 'u', m, IF(n < 3, 'v', 'u'),"
    " m + INTERVAL 9 MINUTE, m + INTERVAL 8 MINUTE, IF(n < %(batches)s, %(batches)s - n, NULL), 1, 5000, 2400, 2590, 10,"
    " '{\"alive\": 2000, \"no_job\": 590}', 1, m + INTERVAL 59 SECOND, IF(n %% 5000 = 4999, 'held', 'merged'),"
    " IF(n %% 5000 = 4999, 'staging_shrink found 1 row', NULL), IF(n %% 5000 = 4999, 'u', NULL), m + INTERVAL 1 MINUTE"
    " FROM (SELECT n, %(newest)s - INTERVAL n MINUTE AS m FROM {numbers} AS x WHERE n < %(year)s) AS y ORDER BY m"
)
_BATCHES = (
    "INSERT INTO etl.batches (batch_id, pipeline, kind, dag_id, run_id, tick, opened_at, lake_clock, options, is_delta, state,"
    " minutes, merged_minutes, raw_rows, merged_at) SELECT %(batches)s - n, 'recruitment', 'minute', 'recruitment_minute',"
    " CONCAT('scheduled__', m), m, m, m, '{}', 1, 'merged', 3, 3, 15000, m + INTERVAL 7 SECOND"
    " FROM (SELECT n, %(newest)s - INTERVAL n MINUTE AS m FROM {numbers} AS x WHERE n < %(batches)s) AS y ORDER BY n DESC"
)
_BATCH_MINUTES = (
    "INSERT INTO etl.batch_minutes (batch_id, minute, state) SELECT b.batch_id, b.opened_at - INTERVAL k.d MINUTE, 'merged'"
    " FROM etl.batches AS b, {digits} AS k WHERE k.d < 3"
)
_CHECKS = (
    "INSERT INTO etl.check_results (batch_id, attempt, gate, check_name, severity, outcome, offending_rows, sample, checked_at)"
    " SELECT b.batch_id, 1, 'staging', CONCAT('staging_check_', k.d), 'fail', IF(b.batch_id %% 50 = 0 AND k.d = 1, 'fail',"
    " 'pass'), IF(b.batch_id %% 50 = 0 AND k.d = 1, 1, 0), '[{\"bid\": -1}]', b.opened_at"
    " FROM etl.batches AS b, {digits} AS k WHERE k.d < %(checks)s AND b.batch_id > %(batches)s - 43200"
)
_FRESHNESS = (
    "INSERT INTO etl.freshness (pipeline, published_at, newest_create_time) SELECT 'recruitment', m + INTERVAL 7 SECOND, m"
    " FROM (SELECT %(newest)s - INTERVAL n + 1 MINUTE AS m FROM {numbers} AS x WHERE n < 10080) AS y"
)
_REJECTED = (
    "INSERT INTO etl.rejected_events (pipeline, origin, origin_key, minute, reason, payload) SELECT 'recruitment', 'lake',"
    " CONCAT('k', n), %(newest)s - INTERVAL n DIV 10 MINUTE, CONCAT(ELT(1 + n %% 3, 'bid is negative: -', 'job_id is ''x'': ',"
    " 'ts is unreadable: '), n), REPEAT('x', 400) FROM {numbers} AS x WHERE n < %(rejected)s"
)
_HOLDS = (
    "INSERT INTO etl.holds (pipeline, minute, held_since, held_at, batch_id, attempt, rows_now, failing_checks)"
    " SELECT pipeline, minute, merged_at, merged_at, batch_id, 1, 5000, '[\"staging_check_1\"]' FROM etl.minute_ledger"
    " WHERE state = 'held'"
)

_VIEWS = {
    "all pipelines": "",
    "minutes": "/recruitment/minutes",
    "ledger of the year": "/recruitment/ledger?from={from}&to={to}",
    "ledger, a page in the middle": "/recruitment/ledger?from={from}&to={to}&before={middle}",
    "ledger, held": "/recruitment/ledger?state=held",
    "ledger, pending": "/recruitment/ledger?state=pending",
    "ledger, merged": "/recruitment/ledger?state=merged&before={middle}",
    "held": "/recruitment/held",
    "rejected, of the last day": "/recruitment/rejected?from={day}",
    "rejected, of all time": "/recruitment/rejected",
    "gates": "/recruitment/gates",
    "plan of a month's backfill": "/recruitment/backfill?from={month}&to={to}&chunk=hour",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make page-bench", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    os.environ["TZ"] = "UTC"
    time.tzset()
    with tempfile.TemporaryDirectory(prefix="mm-bench-") as name, throwaway.warehouse_server(Path(name)) as connections:
        os.environ.update(connections)
        schema.apply_schema()
        values = _fill()
        with site(Path(name), connections, {USER: "admin"}) as api_server:
            print(f"| view | median of {rounds} | slowest |\n|---|---:|---:|")
            medians = [
                _measure_median(api_server, view, path.format(**values), rounds) for view, path in _VIEWS.items()
            ]
    return 0 if max(medians) <= LIMIT else 1


def _fill() -> Mapping[str, str]:
    """Insert a year of one pipeline; returns the times that the views are queried for."""
    with warehouse() as conn:
        newest = server_time(conn.cursor()).replace(second=0, microsecond=0)
        binds = {"newest": newest, "year": YEAR, "batches": KEPT_BATCHES, "checks": CHECKS, "rejected": REJECTED}
        cursor = conn.cursor()
        for statement in (_LEDGER, _BATCHES, _BATCH_MINUTES, _CHECKS, _FRESHNESS, _REJECTED, _HOLDS):
            cursor.execute(statement.replace("{numbers}", _NUMBERS).replace("{digits}", _DIGITS), binds)
            conn.commit()
        cursor.execute(
            "INSERT INTO etl.looks (pipeline, looked_at, lake_clock) VALUES ('recruitment', CURRENT_TIMESTAMP(6), %s)",
            (server_time(conn.cursor()),),
        )
        cursor.execute("ANALYZE TABLE etl.minute_ledger, etl.batches, etl.batch_minutes, etl.check_results")
        cursor.fetchall()
        conn.commit()
    hour = newest.replace(minute=0)
    times = {
        "from": newest - YEAR * MINUTE,
        "to": newest + MINUTE,
        "middle": newest - YEAR // 2 * MINUTE,
        "day": hour - timedelta(days=1),
        "month": hour - timedelta(days=30),
    }
    return {name: f"{time.isoformat()}Z" for name, time in times.items()}


def _measure_median(api_server: ApiServer, view: str, path: str, rounds: int) -> float:
    """Print and return the median in milliseconds of complete HTTP responses, after two rounds to warm up."""
    token, milliseconds = api_server.token(USER), []
    for _ in range(rounds + 2):
        started = time.perf_counter()
        api_server.send("GET", DATA + path, token=token)
        milliseconds.append(1_000 * (time.perf_counter() - started))
    median = statistics.median(milliseconds[2:])
    print(f"| {view} | {median:.0f} ms | {max(milliseconds[2:]):.0f} ms |", flush=True)
    return median


if __name__ == "__main__":
    sys.exit(main())
