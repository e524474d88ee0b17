"""Measures whether a merge costs more with back-dated events: `python -m bench.back_dated_events`.

Options: --minutes 2880 --events 5000 --back-dated 0.01. Stages shop events minute by minute in a throw-away MariaDB, a share of
them back-dated by up to a day, and merges them: the first and the last hour minute by minute, the minutes between them in
batches. For both hours, it prints the median seconds of the merge and of its gate, the rows that the merge read
(Handler_read_%), and the contributions of the fact keys that it touched. Writes the figures of each merge to
bench/results/back-dated-events.csv, and the plot to docs/pictures.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from bench import packages, plot, shop_file
from include import pipelines
from include.warehouse import batches
from include.warehouse.delta import PlannedMinute
from include.warehouse.gates import run_gate
from include.warehouse.merge import merge
from include.warehouse.schema import apply_schema
from include.warehouse.session import in_transaction, warehouse
from local import throwaway

START = datetime(2026, 3, 1)
MINUTE = timedelta(minutes=1)
MINUTES_PER_HOUR = 60
BATCH = 50  # minutes in a batch between the measured hours
MAX_BACK_DATING = 86_400  # seconds: an event is back-dated by at most this
RESULTS = Path(__file__).parent / "results" / "back-dated-events.csv"
COLUMNS = ("minute", "minutes", "merge_seconds", "gate_seconds", "rows_read", "contributions_of_touched_keys")
SHOP = pipelines.get("ecommerce")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.back_dated_events", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=int, default=2_880)
    parser.add_argument("--events", type=int, default=5_000, help="events a minute")
    parser.add_argument(
        "--back-dated", type=float, default=0.01, help="share of the events that are back-dated, by up to a day"
    )
    args = parser.parse_args()
    packages.require(packages.PLOT, packages.INSTALL_PLOT)
    os.environ["TZ"] = "UTC"
    time.tzset()
    with tempfile.TemporaryDirectory(prefix="mm-bench-") as name, throwaway.mariadb_server(Path(name)) as server:
        os.environ.update(server)
        apply_schema()
        with warehouse() as conn, warehouse("warehouse_admin") as admin:
            events = Events(args.events, args.back_dated)
            measured = [run_batch(conn, admin, events, numbers) for numbers in _batches(args.minutes)]
    with RESULTS.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *measured])
    first, last = ([row for row in measured if row[0] in span] for span in _hours(args.minutes))
    for title, rows in (("first hour", first), ("last hour", last)):
        print(f"{title}: {_figures(rows)}")
    print(
        f"last / first: merge {_median(last, 2) / _median(first, 2):.2f}, gate {_median(last, 3) / _median(first, 3):.2f}"
    )
    plot.draw_back_dated_events(RESULTS)
    return 0


class Events:
    """Generates the operations of each minute in turn, the same in every run."""

    def __init__(self, events: int, back_dated_share: float) -> None:
        self._events, self._back_dated_share = events, back_dated_share
        self._rng = random.Random("late events")  # the seed of earlier results
        catalogue, self._weights = shop_file.product_catalogue(random.Random("shop 1"), shop_file.PRODUCTS)
        self._products = [_product_of(text) for text in catalogue]

    def rows_of(self, minute: datetime) -> list[tuple]:
        """event_time, event_type, department, product, brand and price of each event with create_time in this minute."""
        kinds = self._rng.choices(
            ("view", "cart", "purchase"), cum_weights=(1 - shop_file.CARTS, 1 - shop_file.PURCHASES, 1), k=self._events
        )
        products = self._rng.choices(self._products, cum_weights=self._weights, k=self._events)
        return [(self._time(minute), kind, *product) for kind, product in zip(kinds, products, strict=True)]

    def _time(self, minute: datetime) -> datetime:
        is_back_dated = self._rng.random() < self._back_dated_share
        seconds = -self._rng.uniform(0, MAX_BACK_DATING) if is_back_dated else self._rng.uniform(0, 60)
        return minute + timedelta(seconds=seconds)


def _product_of(text: str) -> tuple[str, str, str, Decimal]:
    _, _, code, brand, price = text.rstrip(",").split(",")
    parts = code.split(".")
    return parts[0] or "other", parts[-1] or "other", brand or "other", Decimal(price)


def _hours(minutes: int) -> tuple[range, range]:
    """The numbers of the minutes that are merged one by one."""
    return range(min(MINUTES_PER_HOUR, minutes)), range(max(0, minutes - MINUTES_PER_HOUR), minutes)


def _batches(minutes: int) -> Iterator[Sequence[int]]:
    first, last = _hours(minutes)
    yield from ([number] for number in first)
    for start in range(first.stop, last.start, BATCH):
        yield range(start, min(start + BATCH, last.start))
    yield from ([number] for number in last if number not in first)


def run_batch(conn, admin, events: Events, numbers: Sequence[int]) -> tuple:
    """Stage, merge and check these minutes; returns a row of COLUMNS."""
    minutes = [START + number * MINUTE for number in numbers]
    run = batches.RunInfo("bench", str(numbers[0]), minutes[-1])
    planned = [PlannedMinute(minute, None, 0) for minute in minutes]
    batch_id = batches.open_batch(conn, SHOP, run, lake_clock=minutes[-1] + 2 * MINUTE, minutes=planned)
    in_transaction(conn, lambda cursor: _stage(cursor, batches.new_attempt(conn, batch_id), minutes, events))
    if not run_gate(conn, batch_id, "staging").passed:
        raise RuntimeError(f"The staging gate refused batch {batch_id}.")
    before, began = _rows_read(admin), time.perf_counter()
    merge(batch_id)
    merged, after = time.perf_counter(), _rows_read(admin)
    if not run_gate(conn, batch_id, "warehouse").passed:
        raise RuntimeError(f"The warehouse gate refused batch {batch_id}.")
    gate = time.perf_counter() - merged
    return numbers[0], len(minutes), merged - began, gate, after - before, _contributions(conn, batch_id)


def _stage(cursor, attempt: int, minutes: Sequence[datetime], events: Events) -> None:
    for minute in minutes:
        rows = events.rows_of(minute)
        cursor.executemany(
            "INSERT INTO ecommerce.operations_staged (attempt, minute, event_number, event_time, event_type, department, "
            "product, brand, price) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [(attempt, minute, number, *row) for number, row in enumerate(rows)],
        )
        cursor.execute(
            "INSERT INTO etl.staged_counts (attempt, minute, raw_rows, counted_rows, ignored_rows, rejected_rows, id_checksum)"
            " VALUES (%s, %s, %s, %s, 0, 0, 1)",
            (attempt, minute, len(rows), len(rows)),
        )


def _rows_read(admin) -> int:
    """The rows that the server has read since its start. Nothing else uses this server."""
    cursor = admin.cursor()
    cursor.execute("SHOW GLOBAL STATUS LIKE 'Handler_read%'")
    return sum(int(value) for _, value in cursor.fetchall())


def _contributions(conn, batch_id: int) -> int:
    total = 0
    for fact in SHOP.facts:
        keys = " AND ".join(f"c.{column.name} = t.{column.name}" for column in fact.key)
        query = f"SELECT COUNT(*) FROM {fact.touched} AS t STRAIGHT_JOIN {fact.contributions} AS c ON {keys} "
        cursor = conn.cursor()
        cursor.execute(f"{query} WHERE t.batch_id = %s", (batch_id,))
        total += cursor.fetchone()[0]
        conn.rollback()
    return total


def _median(rows: Sequence[tuple], column: int) -> float:
    return statistics.median(row[column] for row in rows)


def _figures(rows: Sequence[tuple]) -> str:
    ratio = _median(rows, 4) / _median(rows, 5)
    return (
        f"merge {_median(rows, 2):.2f} s, gate {_median(rows, 3):.2f} s, {_median(rows, 4):,.0f} rows read, {ratio:.1f} times "
        f"the {_median(rows, 5):,.0f} contributions of the touched keys (medians of {len(rows)} merges)"
    )


if __name__ == "__main__":
    sys.exit(main())
