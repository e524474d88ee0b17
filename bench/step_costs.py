"""CPU seconds of each step by process: `python -m bench.step_costs [--pipeline ecommerce] [--rows 100000]`.

On throw-away stores, events like those of the demo go from the topic to the facts. Each step is measured with few and with
many rows: the difference gives the cost of a thousand rows; the rest is the cost of a run without rows. CPU seconds
hardly depend on other load. A table extrapolates to 1,000, 100,000 and 10 million events a minute, for docs/sizing.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from bench.rigs import MASTER, Rig, session
from include import pipelines, planner
from include.demo.traffic import demo_of, import_demo_dimensions
from include.kafka import clients
from include.kafka.ingest import ingest
from include.kafka.producer import producer
from include.lake.keys import time_uuid
from include.lake.session import lake
from include.lake.writer import Event
from include.operations.setup import set_up
from include.pipelines import Pipeline
from include.spark import run
from include.warehouse.batches import RunInfo
from include.warehouse.gates import run_gate
from include.warehouse.merge import merge
from include.warehouse.session import warehouse
from local import connections, throwaway

WARM_UPS = 6  # batches, until Spark and Cassandra have compiled their code
WARM_UP_ROWS = 5_000
FEW_ROWS = 1_000
REPETITIONS = 3  # runs of the small batch; the lowest cost counts, because noise only adds to it
MINUTES = 10  # over which the events of a batch are spread
SIZES = (1, 100, 10_000)  # thousand events a minute
# The main class or program of each process, as in its command line.
_PROGRAMS = {
    "CassandraDaemon": "Cassandra",
    "kafka.Kafka": "Kafka",
    "mariadbd": "MySQL",
    "mysqld": "MySQL",
    "SparkSubmit": "Spark",
}
PYTHON = "Python"
PROCESSES = (PYTHON, "Kafka", "Cassandra", "Spark", "MySQL")
STEPS = ("ingest", "poll and open", "transform", "check staging", "merge", "check warehouse")

Cost = dict[str, dict[str, float]]  # step to process to CPU seconds


class Meter:
    """CPU seconds of this process and of those that it started, by step and program."""

    def __init__(self) -> None:
        self.costs: Cost = defaultdict(dict)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        before = cpu_seconds()
        yield
        after = cpu_seconds()
        self.costs[name] = {program: after[program] - before[program] for program in PROCESSES}


def cpu_seconds() -> Counter[str]:
    """The CPU seconds of this process and its children since their start, by program."""
    own = psutil.Process()
    seconds: Counter[str] = Counter()
    for process in (own, *own.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            seconds[_program(process) if process != own else PYTHON] += times.user + times.system
    return seconds


def _program(process: psutil.Process) -> str:
    line = " ".join(process.cmdline())
    return next((name for part, name in _PROGRAMS.items() if part in line), PYTHON)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.step_costs", description=__doc__.splitlines()[0])
    parser.add_argument("--pipeline", default="ecommerce", choices=sorted(pipelines.all_pipelines()))
    parser.add_argument("--rows", type=int, default=100_000, help="rows of the large batch")
    args = parser.parse_args()
    pipeline = pipelines.get(args.pipeline)
    os.environ["TZ"] = "UTC"
    time.tzset()
    passwords = connections.new_passwords()
    with tempfile.TemporaryDirectory(prefix="mm-bench-") as name, contextlib.ExitStack() as stores:
        folder = Path(name)
        server = stores.enter_context(throwaway.warehouse_server(folder, passwords))
        broker = stores.enter_context(throwaway.kafka_broker(folder))
        node = stores.enter_context(throwaway.cassandra_node(folder, heap_mb=1_024, throw_away=False))
        os.environ |= {**server, **broker, **node, **connections.spark(MASTER), "MINUTEMARK_INGEST": "dag"}
        set_up()
        import_demo_dimensions(pipeline)
        spark = session(passwords)
        os.environ |= server
        rig, rng = Rig("costs", pipeline, server), random.Random(1)

        def measure(rows: int) -> Cost:
            return _costs(rig, spark, pipeline, rows, rng)

        try:
            for number in range(WARM_UPS):
                measure(WARM_UP_ROWS)
                print(f"  warm-up {number + 1} of {WARM_UPS}", flush=True)
            few = _lowest([measure(FEW_ROWS) for _ in range(REPETITIONS)])
            many = measure(args.rows)
        finally:
            spark.stop()
        rows = WARM_UPS * WARM_UP_ROWS + REPETITIONS * FEW_ROWS + args.rows
        per_thousand, fixed = split(few, FEW_ROWS, many, args.rows)
        print(f"\n{pipeline.name}: CPU time of {FEW_ROWS:,} and {args.rows:,} rows, spread over {MINUTES} minutes\n")
        print(table("milliseconds of CPU per thousand rows", per_thousand, 1_000))
        print(table("milliseconds of CPU per run, regardless of its rows", fixed, 1_000))
        print(_sizes(per_thousand, fixed))
        print(_bytes(pipeline, folder, rows))
    return 0


def _costs(rig: Rig, spark, pipeline: Pipeline, rows: int, rng: random.Random) -> Cost:
    """Send events, then measure a follower and a run that process exactly these events."""
    with producer(pipeline) as target:
        target.write(_events(pipeline, rows, rng))
    meter = Meter()
    with meter.step("ingest"):
        summary = ingest(pipeline, lambda: clients.follower(pipeline), seconds=float("inf"), to_the_end=True)
    if summary.written != rows:
        raise RuntimeError(f"The follower wrote {summary.written} of {rows} events.")
    with meter.step("poll and open"), lake("lake_reader") as cluster, warehouse() as conn:
        polled = planner.poll(pipeline, cluster, conn)
        batch_id = planner.open_delta(pipeline, cluster, conn, RunInfo("bench", f"{time.time()}", None), polled=polled)
    with meter.step("transform"):
        _, submitted = rig.submission(batch_id)
        status = run.attempt(spark, run.Job.read(submitted.job_file))
        shutil.rmtree(submitted.dir)
    if status:
        raise RuntimeError(f"The Spark job of batch {batch_id} ended with status {status}.")
    for name in ("staging", "warehouse"):
        with meter.step(f"check {name}"), warehouse() as conn:
            if not (result := run_gate(conn, batch_id, name)).passed:
                raise RuntimeError(f"Batch {batch_id}: {result}")
        if name == "staging":
            with meter.step("merge"):
                merge(batch_id)
    rig.settle()
    return dict(meter.costs)


def _events(pipeline: Pipeline, rows: int, rng: random.Random) -> Iterator[Event]:
    """Events of the demo, with times in the last MINUTES minutes."""
    demo = demo_of(pipeline)
    first = datetime.now(UTC).replace(tzinfo=None) - timedelta(minutes=MINUTES)
    for number in range(rows):
        happened = first + timedelta(minutes=MINUTES) * number / rows
        fields = demo.event(rng, happened)
        identity = fields.get("id") or f"{rng.getrandbits(64):016x}"
        yield Event(time_uuid(happened, f"{identity}-{number}"), fields)


def _lowest(costs: list[Cost]) -> Cost:
    return {step: {name: min(cost[step][name] for cost in costs) for name in PROCESSES} for step in STEPS}


def split(few: Cost, few_rows: int, many: Cost, many_rows: int) -> tuple[Cost, Cost]:
    """(cost of a thousand rows, cost of a run with none), both at least 0."""
    per_thousand: Cost = defaultdict(dict)
    fixed: Cost = defaultdict(dict)
    for step in STEPS:
        for name in PROCESSES:
            slope = max((many[step][name] - few[step][name]) / (many_rows - few_rows) * 1_000, 0.0)
            per_thousand[step][name] = slope
            fixed[step][name] = max(few[step][name] - slope * few_rows / 1_000, 0.0)
    return dict(per_thousand), dict(fixed)


def table(title: str, costs: Cost, factor: float) -> str:
    """A Markdown table: steps by process, with sums."""
    lines = [f"| {title} | {' | '.join(PROCESSES)} | total |", f"|---|{'---:|' * (len(PROCESSES) + 1)}"]
    for step in STEPS:
        values = [costs[step][name] * factor for name in PROCESSES]
        lines.append(_line(step, [*values, sum(values)]))
    sums = [sum(costs[step][name] for step in STEPS) * factor for name in PROCESSES]
    lines.append(_line("total", [*sums, sum(sums)]))
    return "\n".join(lines) + "\n"


def _line(name: str, values: list[float], form: Callable[[float], str] = "{:,.1f}".format) -> str:
    return f"| {name} | {' | '.join(map(form, values))} |"


def cores(per_thousand: Cost, fixed: Cost, thousands: float) -> dict[str, float]:
    """Busy cores of each process at `thousands` thousand events a minute, with a run each minute.

    Under steady traffic, such runs read each minute twice: when it ends, and after it has settled. It is ingested once.
    """
    reads = {step: 1 if step == "ingest" else 2 for step in STEPS}
    return {
        name: sum(per_thousand[step][name] * thousands * reads[step] + fixed[step][name] for step in STEPS) / 60
        for name in PROCESSES
    }


def _sizes(per_thousand: Cost, fixed: Cost) -> str:
    lines = [
        f"| busy cores, extrapolated | {' | '.join(PROCESSES)} | total |",
        f"|---|{'---:|' * (len(PROCESSES) + 1)}",
    ]
    for thousands in SIZES:
        busy = cores(per_thousand, fixed, thousands)
        lines.append(_line(f"{thousands:,},000 a minute", [*busy.values(), sum(busy.values())], "{:,.2f}".format))
    return "\n".join(lines) + "\n"


def _bytes(pipeline: Pipeline, folder: Path, rows: int) -> str:
    """Bytes of lake and warehouse for each event of this run."""
    _flush(pipeline.lake_table)
    lake_bytes = _size_of(folder, pipeline)
    with warehouse("warehouse_admin") as conn:
        cursor = conn.cursor()
        cursor.execute(
            "SELECT table_schema, table_name FROM information_schema.tables "
            f"WHERE table_type = 'BASE TABLE' AND table_schema IN ('etl', '{pipeline.database}')"
        )
        tables = [f"{schema}.{name}" for schema, name in cursor.fetchall()]
        sizes: Mapping[str, int] = {name: _data_length(cursor, name) for name in tables}
    large = sorted(sizes.items(), key=lambda item: -item[1])[:5]
    named = ", ".join(f"{name} {size / rows:,.0f}" for name, size in large)
    return (
        f"{rows:,} events: {lake_bytes / rows:,.0f} bytes each in the lake (one replica, compressed), "
        f"{sum(sizes.values()) / rows:,.0f} in the warehouse ({named})"
    )


def _data_length(cursor, table_name: str) -> int:
    cursor.execute(f"ANALYZE TABLE {table_name}")
    cursor.fetchall()
    schema, name = table_name.split(".")
    cursor.execute(
        "SELECT COALESCE(data_length, 0) + COALESCE(index_length, 0) FROM information_schema.tables "
        "WHERE table_schema = %s AND table_name = %s",
        (schema, name),
    )
    return int(cursor.fetchone()[0])


def _flush(lake_table: str) -> None:
    """Make Cassandra flush its memtables, by setting a flush period of one second."""
    with lake("lake_admin") as cluster:
        cluster.execute(f"ALTER TABLE {lake_table} WITH memtable_flush_period_in_ms = 1000", timeout=60)


def _size_of(folder: Path, pipeline: Pipeline) -> int:
    """The bytes of the lake table's files, once they no longer change."""
    size, deadline = -1, time.monotonic() + 120
    while time.monotonic() < deadline:
        time.sleep(5)
        files = [path for path in folder.rglob(f"{pipeline.table}-*/*-Data.db") if path.parts[-3] == pipeline.keyspace]
        now = sum(path.stat().st_size for path in files)
        if now and now == size:
            return now
        size = now
    raise RuntimeError(f"The files of {pipeline.lake_table} still change, or there are none.")


if __name__ == "__main__":
    sys.exit(main())
