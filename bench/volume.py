"""How fast a file of any length is imported and processed: `make volume FILE=2019-Nov.csv.gz` (PIPELINE=ecommerce).

Starts throw-away stores, imports the file as `./minutemark import` does, processes the backlog as the minute DAG does, run after
run, and verifies all of it. Prints the rows per second of each million at import and of each batch, how long the steps of
a batch took, and the peak memory of all processes together.

The hours of the shop are then compared to the cent with plain sums over the file's columns.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path

import psutil

from bench.rigs import MASTER, Rig, session
from include import pipelines
from include.files.compressed_file import decompressed
from include.files.imports import import_events
from include.operations.setup import set_up
from include.pipelines import Pipeline
from include.verify.verify import verify
from include.warehouse.session import warehouse
from local import connections, throwaway

MILLION = 1_000_000
_PAUSE = 5.0  # seconds between two measurements of progress and memory


def main() -> int:
    parser = argparse.ArgumentParser(prog="make volume", description=__doc__.splitlines()[0])
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--pipeline", default="ecommerce", choices=sorted(pipelines.all_pipelines()))
    args = parser.parse_args()
    if not args.file.is_file():
        parser.error(f"{args.file} is not a file. Name one with --file (make: FILE=); `make shop-file` writes one.")
    pipeline = pipelines.get(args.pipeline)
    os.environ["TZ"] = "UTC"
    time.tzset()
    passwords = connections.new_passwords()
    with tempfile.TemporaryDirectory(prefix="mm-bench-") as name, Memory() as memory:
        folder = Path(name)
        cassandra = throwaway.cassandra_node(folder, heap_mb=1_024, throw_away=False)
        with throwaway.warehouse_server(folder, passwords) as server, cassandra as node:
            os.environ |= {**server, **node, **connections.spark(MASTER), "MINUTEMARK_INGEST": ""}
            set_up()
            rows = _import(pipeline, args.file)
            memory.report("import")
            _catch_up(Rig("volume", pipeline, server), passwords, rows)
            memory.report("catch-up")
            report = verify([pipeline], patience=0)
            print(report)
            hours_match = _hours_match(args.file) if pipeline.name == "ecommerce" else True
    return 0 if report.clean and hours_match else 1


def _import(pipeline: Pipeline, file: Path) -> int:
    with _progress() as millions:
        summary = import_events(pipeline, file)
    print(summary)
    for number, (start, end) in enumerate(zip(millions, millions[1:], strict=False), 1):
        print(f"  million {number:>3}: {(end[0] - start[0]) / (end[1] - start[1]):,.0f} rows/s")
    print(f"  import: {summary.written / summary.seconds:,.0f} rows/s", flush=True)
    return summary.written


@contextmanager
def _progress() -> Iterator[list[tuple[int, float]]]:
    """(rows, time) about every million rows of the running import."""
    marks, stop = [(0, time.monotonic())], threading.Event()

    def follow() -> None:
        with warehouse() as conn:
            while not stop.wait(_PAUSE):
                cursor = conn.cursor()
                cursor.execute("SELECT MAX(rows_written) FROM etl.imports")
                rows = cursor.fetchone()[0] or 0
                conn.rollback()
                if rows // MILLION > marks[-1][0] // MILLION:
                    marks.append((rows, time.monotonic()))

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    try:
        yield marks
    finally:
        stop.set()
        follower.join()


def _catch_up(rig: Rig, passwords: Mapping[str, str], rows: int) -> None:
    spark = session(passwords)
    try:
        seconds, done = 0.0, 0
        while timing := rig.run(spark):
            rig.settle()
            merged = _merged_rows() - done
            done, seconds = done + merged, seconds + timing.run
            steps = f"Spark {timing.job:.1f} s, the rest {timing.run - timing.job:.1f} s"
            print(f"  batch of {merged:,} rows: {merged / timing.run:,.0f} rows/s ({steps})", flush=True)
        print(f"  lake to merged: {done / seconds:,.0f} rows/s, {done:,} of {rows:,} rows", flush=True)
    finally:
        spark.stop()


def _merged_rows() -> int:
    with warehouse() as conn:
        cursor = conn.cursor()
        cursor.execute("SELECT COALESCE(SUM(raw_rows), 0) FROM etl.minute_ledger WHERE state = 'merged'")
        return int(cursor.fetchone()[0])


class Memory:
    """The peak memory of this process and its children, measured every few seconds."""

    def __enter__(self) -> Memory:
        self._peak, self._stop = 0, threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def report(self, step: str) -> None:
        print(f"  peak memory until the end of the {step}: {self._peak / 2**30:.2f} GiB", flush=True)

    def _follow(self) -> None:
        own = psutil.Process()
        while not self._stop.wait(_PAUSE):
            self._peak = max(self._peak, sum(map(_resident, [own, *own.children(recursive=True)])))


def _resident(process: psutil.Process) -> int:
    """A process's own pages, and its part of shared pages."""
    try:
        return process.memory_full_info().pss
    except psutil.Error:
        return 0


def _hours_match(file: Path) -> bool:
    """Whether views and revenue of every hour equal plain sums over the file's rows."""
    from_file: dict[str, list] = defaultdict(lambda: [0, Decimal(0)])
    with decompressed(file) as (content, *_):
        for row in csv.DictReader(io.TextIOWrapper(content, encoding="utf-8", newline="")):
            hour = from_file[row["event_time"][:13]]
            if row["event_type"] == "view":
                hour[0] += 1
            elif row["event_type"] == "purchase":
                hour[1] += _amount(row["price"])
    with warehouse("warehouse_bi") as conn:
        cursor = conn.cursor()
        cursor.execute("SELECT hour, SUM(views), SUM(revenue) FROM ecommerce.sales_hourly GROUP BY hour")
        from_warehouse = {f"{hour:%Y-%m-%d %H}": [int(views), revenue] for hour, views, revenue in cursor.fetchall()}
    differing = [
        hour for hour in from_file.keys() | from_warehouse.keys() if from_file.get(hour) != from_warehouse.get(hour)
    ]
    revenue = sum(hour[1] for hour in from_file.values())
    named = f": {', '.join(sorted(differing)[:5])}" if differing else ""
    print(f"  {len(from_file):,} hours, revenue {revenue:,}: {len(differing)} hours differ from the file's{named}")
    return not differing


def _amount(price: str) -> Decimal:
    try:
        return Decimal(price)
    except InvalidOperation:
        return Decimal(0)


if __name__ == "__main__":
    sys.exit(main())
