"""Processes are killed, or meet another process, between two steps: after the next run, table and counts are exact."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import pytest

from include.connections import endpoint
from include.lakehouse import table, upkeep
from include.lakehouse.export import export
from include.warehouse.session import warehouse
from tests.lakehouse.events import SHOP, add_to_lake, count_hours, merge_minutes, shop_event, table_rows
from tests.warehouse.lab import TEN, minute
from tests.warehouse.shop import Shop, operation

ELSEWHERE = TEN + timedelta(hours=3)
EXPORT = "from include.lakehouse.export import export; export(pipeline)"
COUNT = "from include.lakehouse import hourly; hourly.count(pipeline)"
UPKEEP = (
    "from datetime import datetime, timedelta; from include.lakehouse import upkeep; "
    "upkeep.upkeep(pipeline, now=datetime.now() + timedelta(days=2))"
)


@contextmanager
def running(program: str) -> Iterator[subprocess.Popen]:
    """Run the program in a separate process, which gets a SIGKILL at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"from include import pipelines; pipeline = pipelines.get('{SHOP.name}'); {program}"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
        assert process.poll() is None, f"The process ended before it was killed: {process.stderr.read()}"
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()


def wait_until(reached: Callable[[], object], process: subprocess.Popen | None = None) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert process is None or process.poll() is None, (
            f"The process ended before it reached this step: {process.stderr.read()}"
        )
        assert time.monotonic() < deadline, "The process never reached this step."
        time.sleep(0.02)


@contextmanager
def counts_blocked() -> Iterator[None]:
    """Block the recording of hourly counts in the warehouse. A row lock would block a count earlier, when it reads these rows."""
    with warehouse("warehouse_admin") as admin:
        cursor = admin.cursor()
        cursor.execute("SELECT GET_LOCK('counts', 0)")
        cursor.fetchall()
        cursor.execute(
            "CREATE TRIGGER etl.counts_wait BEFORE UPDATE ON etl.lakehouse_hours FOR EACH ROW "
            "IF NOT NEW.counted_change <=> OLD.counted_change THEN DO GET_LOCK('counts', 60); END IF"
        )
        try:
            yield
        finally:
            cursor.execute("SELECT RELEASE_LOCK('counts')")
            cursor.fetchall()
            cursor.execute("DROP TRIGGER etl.counts_wait")


@contextmanager
def rows_locked(query: str, *values) -> Iterator[None]:
    """Lock rows of the warehouse during the block."""
    with warehouse() as conn:
        cursor = conn.cursor()
        cursor.execute(f"{query} FOR UPDATE", values)
        cursor.fetchall()
        yield


@contextmanager
def commits_locked() -> Iterator[None]:
    """Lock the rows of the catalog during the block, so that commits wait."""
    import psycopg2

    target = endpoint("lakehouse_catalog")
    conn = psycopg2.connect(
        host=target.host, port=target.port, user=target.login, password=target.password, dbname=target.schema
    )
    try:
        conn.cursor().execute("SELECT * FROM iceberg_tables FOR UPDATE")
        yield
    finally:
        conn.close()


def snapshot() -> int | None:
    result = table.table(SHOP).current_snapshot()
    return result and result.snapshot_id


@pytest.fixture
def shop_with_moved_event(shop: Shop) -> Shop:
    """One of two counted events of ten o'clock moves to another hour and is merged there."""
    add_to_lake(shop_event(TEN, 1), shop_event(minute(1), 1))
    merge_minutes(shop, {TEN: [operation()], minute(1): [operation()]})
    export(SHOP)
    assert count_hours() == {TEN: (2, 0)}
    add_to_lake(shop_event(TEN, 1, event_time=f"{ELSEWHERE:%Y-%m-%d %H:%M:%S} UTC"))
    merge_minutes(shop, {TEN: [operation(event_time=ELSEWHERE)]}, run_id="again")
    return shop


def assert_exact() -> None:
    assert export(SHOP).minutes <= 1
    assert count_hours() == {TEN: (1, 0), ELSEWHERE: (1, 0)}
    assert table_rows() == [(TEN, "view", 7), (minute(1), "view", 7)]
    assert export(SHOP).minutes == 0


def test_a_kill_after_the_hours_are_marked_and_before_the_commit(shop_with_moved_event: Shop) -> None:
    before = shop_with_moved_event.query("SELECT changes FROM etl.lakehouse_hours")
    with commits_locked(), running(EXPORT) as process:
        wait_until(lambda: shop_with_moved_event.query("SELECT changes FROM etl.lakehouse_hours") != before, process)
    assert_exact()


def test_a_count_while_an_export_commits(shop_with_moved_event: Shop) -> None:
    """The hour that loses an event is counted again after the commit."""
    before = shop_with_moved_event.query("SELECT changes FROM etl.lakehouse_hours")
    with ThreadPoolExecutor(1) as pool, commits_locked():
        exported = pool.submit(export, SHOP)
        wait_until(lambda: shop_with_moved_event.query("SELECT changes FROM etl.lakehouse_hours") != before)
        assert count_hours() == {TEN: (2, 0)}
    assert exported.result().minutes == 1
    assert_exact()


def test_a_kill_between_the_commit_and_its_record(shop_with_moved_event: Shop) -> None:
    before = snapshot()
    with rows_locked("SELECT * FROM etl.minute_ledger"), running(EXPORT) as process:
        wait_until(lambda: snapshot() != before, process)
    assert_exact()


def test_a_count_after_a_kill_between_the_commit_and_its_record(shop_with_moved_event: Shop) -> None:
    """The count leaves the minute out on both sides."""
    before = snapshot()
    with rows_locked("SELECT * FROM etl.minute_ledger"), running(EXPORT) as process:
        wait_until(lambda: snapshot() != before, process)
    assert count_hours() == {TEN: (1, 0)}
    assert export(SHOP).minutes == 1
    assert count_hours() == {ELSEWHERE: (1, 0)}


def test_a_kill_between_the_file_of_an_hour_and_its_record(shop_with_moved_event: Shop, lakehouse) -> None:
    export(SHOP)
    with counts_blocked(), running(COUNT) as process:
        wait_until(lambda: any(lakehouse.glob(f"hourly/*/{ELSEWHERE:%Y-%m-%dT%H}/*.parquet")), process)
    assert count_hours() == {TEN: (1, 0), ELSEWHERE: (1, 0)}


def test_a_kill_before_a_compaction_is_committed(shop: Shop, lakehouse) -> None:
    minutes = [minute(number) for number in range(upkeep.MAX_FILES + 1)]
    for at in minutes:
        add_to_lake(shop_event(at, 1))
        merge_minutes(shop, {at: [operation()]}, run_id=str(at))
        export(SHOP)
    files = set(lakehouse.rglob("*.parquet"))
    with commits_locked(), running(UPKEEP) as process:
        wait_until(lambda: set(lakehouse.rglob("*.parquet")) - files, process)
    assert len(table_rows()) == len(minutes)
    assert count_hours() == {TEN: (len(minutes), 0)}
    upkeep.upkeep(SHOP, now=minute(600) + timedelta(days=3650))
    assert len(table_rows()) == len(minutes)
    assert len(list(lakehouse.rglob("hour=*/*.parquet"))) == 1, "The file of the killed compaction is deleted, too."


def test_a_kill_while_files_are_deleted(shop: Shop, lakehouse) -> None:
    add_to_lake(shop_event(TEN, 1))
    merge_minutes(shop, {TEN: [operation()]})
    export(SHOP)
    [file] = lakehouse.rglob("*.parquet")
    orphans = [file.with_name(f"{number}.parquet") for number in range(20_000)]
    for orphan in orphans:
        orphan.touch()
    with running(UPKEEP) as process:
        wait_until(lambda: not all(orphan.exists() for orphan in orphans[::100]), process)
    assert any(orphan.exists() for orphan in orphans), "The process was killed before it had deleted all files."
    assert table_rows() == [(TEN, "view", 7)]
    upkeep.upkeep(SHOP, now=minute(600) + timedelta(days=3650))
    assert not any(orphan.exists() for orphan in orphans)
    assert table_rows() == [(TEN, "view", 7)]
