"""What the lakehouse costs as it grows: `python -m bench.lakehouse --events 10000000`.

Fills a table on real stores with minutes of 5,000 shop events, one commit for each, as `write_events` does, and runs the
upkeep after every hour. Then it exports and counts minutes of the lake as the DAG does, first without late events, then
with 1 %, for which fifty older minutes of the last day are replaced as well. Prints the seconds that each minute of
events takes, bytes, files, snapshots and memory.
"""

from __future__ import annotations

import functools
import json
import os
import random
import resource
import statistics
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from include import pipelines
from include.lake.keys import time_uuid
from include.lake.session import lake
from include.lake.writer import Event, EventWriter
from include.pipelines import Pipeline
from local import connections, throwaway

EVENTS_PER_MINUTE = 5_000
LATE = 50  # older minutes that are replaced with each measured minute, because of late events
FEWEST = (60 + LATE) * EVENTS_PER_MINUTE  # events: those of the last hour, and of as many older minutes as are replaced
MEASURED = 5
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
KINDS = ("view",) * 18 + ("cart", "purchase")
CODES = ("electronics.smartphone", "appliances.kitchen.washer", "apparel.shoes", "furniture.living_room.sofa", "")
BRANDS = ("samsung", "apple", "xiaomi", "huawei", "bosch", "lg", "")


def measure(folder: Path, events: int) -> int:
    pipeline = pipelines.get("ecommerce")
    passwords = connections.new_passwords()
    with ExitStack() as stack:
        os.environ |= stack.enter_context(throwaway.warehouse_server(folder, passwords))
        os.environ |= stack.enter_context(throwaway.cassandra_node(folder, throw_away=False))
        catalog = stack.enter_context(throwaway.postgres_server(folder, connections.postgres_passwords(passwords)))
        os.environ |= connections.lakehouse(passwords, catalog.port)
        os.environ |= {"MINUTEMARK_LAKEHOUSE": f"file://{folder}/lakehouse", "MINUTEMARK_INGEST": ""}
        from include.operations.setup import set_up

        set_up()
        print(json.dumps(_measure(folder / "lakehouse", pipeline, events), indent=1))
    return 0


def _measure(files: Path, pipeline: Pipeline, events: int) -> dict:
    from include.lakehouse import upkeep
    from include.lakehouse.table import replace, table

    minutes = events // EVENTS_PER_MINUTE
    first = datetime(2026, 11, 1) - minutes * MINUTE
    seconds: list[float] = []
    upkeep_seconds: list[float] = []
    committed_at: list[datetime] = []
    for number in range(minutes):
        minute = first + number * MINUTE
        rows = _rows(pipeline, minute)
        with _time_block(seconds):
            replace(table(pipeline), [minute], rows)
        committed_at.append(datetime.now(UTC).replace(tzinfo=None))
        _merge(pipeline, [minute], written=True)
        if number % 60 == 59:
            with _time_block(upkeep_seconds):
                # Commits follow each other faster than once a minute: keep the snapshots of as many commits as a stack keeps.
                oldest_kept = committed_at[max(0, number - upkeep.KEPT // MINUTE)]
                done = upkeep.upkeep(pipeline, now=minute, kept=minute - oldest_kept)
            print(
                f"{(number + 1) * EVENTS_PER_MINUTE:,} events: {statistics.median(seconds[-60:]):.2f} s a commit; {done}",
                flush=True,
            )
    _register_table(pipeline)
    now = first + minutes * MINUTE
    rng = random.Random(7)
    late = [now - number * MINUTE for number in rng.sample(range(60, min(minutes, 1_440)), LATE)]
    plain = [_one_minute(pipeline, now + number * MINUTE, []) for number in range(MEASURED)]
    _write(pipeline, late)
    with_late = [_one_minute(pipeline, now + (MEASURED + number) * MINUTE, late) for number in range(MEASURED)]
    kept = [file.stat().st_size for file in files.rglob("*") if file.is_file()]
    snapshot = list(table(pipeline).scan().plan_files())
    return {
        "events": events,
        "commit_first_hour": _median(seconds[:60]),
        "commit_last_hour": _median(seconds[-60:]),
        "upkeep": _median(upkeep_seconds),
        "upkeep_worst": round(max(upkeep_seconds), 1),
        "plain_minute": _medians(plain),
        "late_minute": _medians(with_late),
        "files_of_the_snapshot": len(snapshot),
        "bytes_of_the_snapshot": sum(task.file.file_size_in_bytes for task in snapshot),
        "files_kept": len(kept),
        "bytes_kept": sum(kept),
        "snapshots": len(table(pipeline).snapshots()),
        "memory_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def _register_table(pipeline: Pipeline) -> None:
    """Register the table: otherwise the export assumes that it is new, and writes everything again."""
    from include.lakehouse.table import table
    from include.warehouse.session import warehouse

    with warehouse() as conn:
        table_uuid = str(table(pipeline).metadata.table_uuid)
        conn.cursor().execute(
            "INSERT INTO etl.lakehouse_tables (pipeline, table_uuid) VALUES (%s, %s)", (pipeline.name, table_uuid)
        )
        conn.commit()


def _one_minute(pipeline: Pipeline, minute: datetime, late: list[datetime]) -> dict[str, float]:
    """Seconds of each step of a run for a new minute and for late ones, after their merges."""
    from include.lakehouse import hourly
    from include.lakehouse.export import export

    _write(pipeline, [minute])
    _merge(pipeline, [minute, *late])
    steps: dict[str, float] = {}
    for name, step in (("write_events", export), ("count_hours", hourly.count)):
        began = time.monotonic()
        step(pipeline)
        steps[name] = time.monotonic() - began
    return steps


@functools.lru_cache(maxsize=1)
def _events(minute: datetime) -> list[Event]:
    rng, events = random.Random(minute.timestamp()), []
    for number in range(EVENTS_PER_MINUTE):
        at = minute + timedelta(milliseconds=number * 12)
        fields = {
            "id": f"{minute:%Y%m%d%H%M}-{number}",
            "event_type": rng.choice(KINDS),
            "event_time": f"{at:%Y-%m-%d %H:%M:%S} UTC",
            "product_id": str(rng.randrange(1_000_000, 9_999_999)),
            "category_id": str(rng.randrange(10**18, 10**19)),
            "category_code": rng.choice(CODES),
            "brand": rng.choice(BRANDS),
            "price": f"{rng.random() * 900 + 1:.2f}",
            "user_id": str(rng.randrange(10**8, 10**9)),
            "user_session": f"{rng.getrandbits(128):032x}",
        }
        events.append(Event(time_uuid(at, fields["id"]), fields))
    return events


def _rows(pipeline: Pipeline, minute: datetime):
    """The minute as write_events would read it from the lake."""
    import pyarrow

    from include import readings
    from include.lakehouse.table import schema

    typed = dict.fromkeys(pipeline.numbers, readings.amount) | dict.fromkeys(pipeline.times, readings.instant)
    columns = schema(pipeline).as_arrow()
    values = {name: [] for name in columns.names}
    for event in _events(minute):
        row = {"minute": minute, "create_time": str(event.create_time), **event.values}
        for name, column in values.items():
            text = row.get(name) or None
            column.append(typed[name](text) if text and name in typed else text)
    return pyarrow.table(values, schema=columns)


def _write(pipeline: Pipeline, minutes: list[datetime]) -> None:
    with lake("lake_writer") as session:
        writer = EventWriter(session, pipeline)
        for minute in minutes:
            writer.write(_events(minute))


def _merge(pipeline: Pipeline, minutes: list[datetime], *, written: bool = False) -> None:
    """Write what a merge of these minutes leaves in the ledger, the contributions and the fact.

    `written`: the table already has these minutes.
    """
    from include.warehouse.session import warehouse

    fact = next(candidate for candidate in pipeline.facts if candidate.name == pipeline.lakehouse.fact)
    names = ", ".join(measure.name for measure in fact.measures)
    with warehouse() as conn:
        cursor = conn.cursor()
        for minute in minutes:
            events = _events(minute)
            kinds = Counter(event.values["event_type"] for event in events)
            checksum = sum(zlib.crc32(event.values["id"].encode()) for event in events)
            cursor.execute(
                "INSERT INTO etl.minute_ledger (pipeline, minute, state, attempt, lakehouse_attempt, raw_rows, counted_rows, "
                "ignored_rows, rejected_rows, id_checksum, read_at, settled_before, merged_at) "
                "VALUES (%s, %s, 'merged', 1, %s, %s, %s, 0, 0, %s, NOW(6), NOW(6), NOW(6)) "
                "ON DUPLICATE KEY UPDATE attempt = attempt + 1",
                (pipeline.name, minute, 1 if written else None, EVENTS_PER_MINUTE, EVENTS_PER_MINUTE, checksum),
            )
            cursor.execute(
                f"REPLACE INTO {fact.contributions} (minute, hour, event_count, visits, cart_additions, removals) "
                "VALUES (%s, %s, %s, %s, %s, 0)",
                (minute, minute.replace(minute=0), kinds["view"] + kinds["cart"], kinds["view"], kinds["cart"]),
            )
        hours = tuple({minute.replace(minute=0) for minute in minutes})
        sums = ", ".join(f"SUM({measure.name})" for measure in fact.measures)
        cursor.execute(
            f"REPLACE INTO {fact.table} (hour, {names}) SELECT hour, {sums} FROM {fact.contributions} "
            "WHERE hour IN %(hours)s GROUP BY hour",
            {"hours": hours},
        )
        conn.commit()


@contextmanager
def _time_block(into: list[float]) -> Iterator[None]:
    began = time.monotonic()
    yield
    into.append(time.monotonic() - began)


def _median(values: list[float]) -> float:
    return round(statistics.median(values), 2)


def _medians(steps: list[dict[str, float]]) -> dict[str, float]:
    return {name: _median([step[name] for step in steps]) for name in steps[0]}
