"""Measures whether a minute costs more in a larger lake: `make bench` (ROWS="10000 1000000" ROUNDS=10 PARTS="minute poll").

Starts throw-away stores: one Cassandra node, and for each lake a warehouse into which the whole lake has been merged. Measures

- minute: the Spark job and the whole run over the same 5,000 events, on each lake
- classic: the job that pipelines of this kind usually run (bench/classic.py), on each lake
- poll: the sensor's poll of a change log with every minute of one year, and of three years
- catch-up: rows per second, from the difference between a larger and a smaller backlog

The lakes take turns, so that other load on the machine affects all of them alike. The benchmark prints tables of medians
and ratios, and writes each round's seconds to bench/results and the plot to docs/pictures.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from bench import classic, lakes, packages, plot
from bench.rigs import MASTER, Rig, minutes_up_to, rig, session
from include import planner
from include.connections import LAKE_READER, WAREHOUSE_ETL, endpoint
from include.lake import schema as lake_schema
from include.lake.session import lake
from include.pipelines import Pipeline
from include.spark import stores
from include.warehouse.session import warehouse
from local import connections, throwaway

RESULTS = Path(__file__).parent / "results"
LIVE_MINUTE = datetime(2026, 6, 1, 12)  # the minute that every lake has, newer than all others
LIVE_ROWS = 5_000
NEWEST = LIVE_MINUTE - timedelta(minutes=1)  # the newest of the other minutes
YEARS = (1, 3)
PARTS = ("minute", "classic", "poll", "catch-up")
BACKLOGS = (1_000_000, 3_000_000)
HEAP_MB = 1_024

Seconds = dict[str, list[float]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000, 10_000_000])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--backlogs", type=int, nargs=2, default=BACKLOGS, metavar=("SMALLER", "LARGER"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    args = parser.parse_args()
    if "catch-up" in args.parts and max(args.rows) < max(args.backlogs):
        parser.error(
            f"The part catch-up needs a lake of at least {max(args.backlogs)} rows. Add it to --rows (make: ROWS=), or leave out "
            "the part (make: PARTS=)."
        )
    packages.require(packages.PLOT, packages.INSTALL_PLOT)
    os.environ["TZ"] = "UTC"
    time.tzset()
    with tempfile.TemporaryDirectory(prefix="mm-bench-") as name, contextlib.ExitStack() as opened:
        node = opened.enter_context(throwaway.cassandra_node(Path(name), heap_mb=HEAP_MB, throw_away=False))
        os.environ.update({**node, **connections.spark(MASTER)})
        lake_schema.apply_schema()
        bench = Bench(Path(name), args.rounds)
        opened.callback(bench.spark.stop)
        # All tables first: for a while the connector does not see tables that are created after its first read.
        tables = {rows: lakes.make_table(f"lake_{rows}") for rows in sorted(args.rows)}
        unique = lakes.make_table("lake_unique")
        filled = [bench.lake(rows, tables[rows]) for rows in tables] if set(args.parts) - {"poll"} else []
        backlog = bench.backlog(max(args.backlogs), unique) if "catch-up" in args.parts else None
        lakes.await_compaction()
        if backlog:
            bench.catch_ups("repeating", filled[-1], args.backlogs)
            bench.catch_ups("unique", backlog, args.backlogs)
        if {"minute", "classic"} & set(args.parts):
            rigs = [opened.enter_context(bench.merged_rig(lake)) for lake in filled]
            if "minute" in args.parts:
                bench.minutes(rigs)
            if "classic" in args.parts:
                bench.classics(rigs)
        if "poll" in args.parts:  # last: it adds years of minutes to the change log
            bench.polls()
    return 0


@dataclasses.dataclass(frozen=True)
class Lake:
    """The pipeline that reads a filled lake, and the lake's minutes, newest first, without LIVE_MINUTE."""

    name: str
    pipeline: Pipeline
    minutes: tuple[datetime, ...]


class Bench:
    """One Spark session, like that of the pipeline's warm driver, and the parts of the benchmark."""

    def __init__(self, folder: Path, rounds: int) -> None:
        self.folder = folder
        self.rounds = rounds
        self.passwords = connections.new_passwords()  # the same for all warehouses: a session has one account
        self.spark = session(self.passwords)

    def rig(self, name: str, pipeline) -> contextlib.AbstractContextManager[Rig]:
        return rig(self.folder, name, pipeline, self.passwords)

    def lake(self, rows: int, pipeline: Pipeline) -> Lake:
        """A lake of `rows` rows, besides those of LIVE_MINUTE."""
        with _log_progress(f"lake of {rows:,} rows"):
            minutes = lakes.fill(self.spark, pipeline, NEWEST, rows)
            lakes.fill(self.spark, pipeline, LIVE_MINUTE, LIVE_ROWS, rows_per_minute=LIVE_ROWS)
        return Lake(pipeline.keyspace, pipeline, tuple(minutes_up_to(NEWEST, minutes)))

    def backlog(self, rows: int, pipeline: Pipeline) -> Lake:
        """A lake of `rows` rows, no two of which belong to one fact."""
        with _log_progress(f"lake of {rows:,} rows with unique keys"):
            minutes = lakes.fill(self.spark, pipeline, NEWEST, rows, unique=True)
        return Lake(pipeline.keyspace, pipeline, tuple(minutes_up_to(NEWEST, minutes)))

    @contextlib.contextmanager
    def merged_rig(self, lake: Lake) -> Iterator[Rig]:
        """A rig that has merged the whole lake."""
        with self.rig(lake.name, lake.pipeline) as result:
            with _log_progress(f"{len(lake.minutes) + 1:,} minutes of {lake.name} merged"):
                result.catch_up(self.spark, [LIVE_MINUTE, *lake.minutes])
            yield result

    def minutes(self, rigs: Sequence[Rig]) -> None:
        """Touch and run the same minute again and again, in each rig in turn."""
        job_seconds, run_seconds = ({current.name: [] for current in rigs} for _ in range(2))
        for is_measured in (False, False, *[True] * self.rounds):
            for current in rigs:
                current.touch([LIVE_MINUTE])
                timing = current.run(self.spark)
                current.settle()
                if is_measured:
                    job_seconds[current.name].append(timing.job)
                    run_seconds[current.name].append(timing.run)
        _report("minute-job", f"Spark job of {LIVE_ROWS:,} events, by rows in the lake", job_seconds)
        _report("minute-run", f"whole run of {LIVE_ROWS:,} events, by rows in the lake", run_seconds)

    def classics(self, rigs: Sequence[Rig]) -> None:
        """The classic job on the same lakes; it appends to its own table."""
        seconds: Seconds = {current.name: [] for current in rigs}
        for is_measured in (False, *[True] * self.rounds):
            for current in rigs:
                with current.activate():
                    target = endpoint(WAREHOUSE_ETL)
                    properties = stores.jdbc_properties(target)
                    with warehouse("warehouse_admin") as conn:
                        conn.cursor().execute(classic.CREATE_FACTS)
                    started = time.perf_counter()
                    classic.run(
                        self.spark,
                        current.pipeline,
                        f"{NEWEST:%Y-%m-%d %H:%M:59.999}",
                        stores.jdbc_url(target),
                        properties,
                    )
                if is_measured:
                    seconds[current.name].append(time.perf_counter() - started)
        _report("classic", f"the classic job for the same {LIVE_ROWS:,} events, by rows in the lake", seconds)

    def polls(self) -> None:
        """A poll that finds nothing new, because the ledger records every minute of the change log as merged."""
        seconds: Seconds = {}
        pipeline = lakes.make_table("polled")
        with self.rig("polled", pipeline) as polled:
            days = 0
            for years in YEARS:
                with _log_progress(f"{years} years of minutes in change log and ledger"):
                    for day in range(days, days := 365 * years):
                        polled.touch(minutes_up_to(datetime(2026, 5, 31, 23, 59) - timedelta(days=day), 1_440))
                    with polled.activate(), lake(LAKE_READER) as session, warehouse(WAREHOUSE_ETL) as conn:
                        planner.poll(pipeline, session, conn)
                        _mark_merged(conn)
                    polled.settle()
                    lakes.await_compaction()
                with polled.activate(), lake(LAKE_READER) as session, warehouse(WAREHOUSE_ETL) as conn:
                    polls = {f"{years} years": lambda s=session, c=conn: planner.poll(pipeline, s, c)}
                    seconds |= _measure_seconds(polls, 5 * self.rounds)
        _report("poll", "the sensor's poll, by years of minutes", seconds)

    def catch_ups(self, keys: str, lake: Lake, backlogs: Sequence[int]) -> None:
        """Process the smaller and the larger backlog, each into an empty warehouse; their fixed costs cancel out."""
        seconds: Seconds = {}
        with self.rig(f"warm_{keys}", lake.pipeline) as warm:
            warm.catch_up(self.spark, lake.minutes[: len(lake.minutes) // 10])
        for rows in sorted(backlogs):
            with (
                self.rig(f"{keys}_{rows}", lake.pipeline) as fresh,
                _log_progress(f"catch-up of {rows:,} rows, {keys} keys"),
            ):
                seconds[f"{rows}"] = [fresh.catch_up(self.spark, lake.minutes[: rows // lakes.ROWS_PER_MINUTE])]
        _report(f"catch-up-{keys}", f"catch-up by rows in the backlog, {keys} keys", seconds)
        (few_rows, less_time), (many_rows, more_time) = ((rows, seconds[f"{rows}"][0]) for rows in sorted(backlogs))
        print(f"  marginal: {(many_rows - few_rows) / (more_time - less_time):,.0f} rows/s", flush=True)


def _mark_merged(conn) -> None:
    """Mark all that was seen as read, as in the ledger of a pipeline that is up to date."""
    conn.cursor().execute(
        "UPDATE etl.minute_ledger SET read_changed_at = seen_changed_at, read_at = seen_changed_time, "
        "settled_before = seen_changed_time, raw_rows = 0, state = 'merged' WHERE state = 'seen'"
    )
    conn.commit()


def _measure_seconds(functions: Mapping[str, Callable[[], object]], rounds: int) -> Seconds:
    """Call each function twice to warm up, then all of them in turn, `rounds` times."""
    seconds: Seconds = {name: [] for name in functions}
    for is_measured in (False, False, *[True] * rounds):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            if is_measured:
                seconds[name].append(time.perf_counter() - started)
    return seconds


@contextlib.contextmanager
def _log_progress(what: str) -> Iterator[None]:
    print(f"   … {what}", file=sys.stderr, flush=True)
    started = time.monotonic()
    yield
    print(f"   ✓ {what}  {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def _report(name: str, title: str, seconds: Seconds) -> None:
    """Print medians and their ratios to the first, write every round to a file, and plot all results so far."""
    print(f"\n{title}\n\n| | median | fastest to slowest | ratio |\n|---|---:|---:|---:|")
    medians = {key: statistics.median(rounds) for key, rounds in seconds.items()}
    first = next(iter(medians.values()))
    for key, rounds in seconds.items():
        spread = f"{min(rounds):.3f} to {max(rounds):.3f}"
        print(
            f"| {key.replace('lake_', '')} | {medians[key]:.3f} s | {spread} | {medians[key] / first:.2f} |", flush=True
        )
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{name}.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("what", "round", "seconds"))
        writer.writerows(
            (key, number, f"{taken:.4f}") for key, rounds in seconds.items() for number, taken in enumerate(rounds, 1)
        )
    plot.draw(RESULTS)


if __name__ == "__main__":
    sys.exit(main())
