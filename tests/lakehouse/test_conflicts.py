"""Concurrent writers of one table: a commit that conflicts is planned again, and nothing is lost or duplicated."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import pytest

from include.lake.keys import shard_of
from include.lake.session import lake
from include.lakehouse import events, hourly, repair, table, upkeep
from include.lakehouse.export import export, rewrite
from include.warehouse.session import warehouse
from tests.lakehouse.events import SHOP, add_to_lake, merge_minutes, shop_event, table_rows
from tests.lakehouse.test_kills import rows_locked
from tests.unreadable import unreadable_partition
from tests.warehouse.lab import CLOCK, TEN, minute
from tests.warehouse.shop import Shop, operation

HOUR = timedelta(hours=1)


@contextmanager
def waiting(call: Callable, locked: str) -> Iterator[Future]:
    """Run `call` in a thread that waits for the locked rows during the block, and has ended after the block."""
    with ThreadPoolExecutor(1) as pool:
        with rows_locked(f"SELECT * FROM {locked}"):
            done = pool.submit(call)
            wait_for_lock_wait(done)
            yield done
        done.result()


def wait_for_lock_wait(done: Future) -> None:
    wait_until("SELECT trx_id FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'", done)


def wait_until(query: str, done: Future) -> None:
    """Wait until the query returns rows; fail if the call ends first."""
    deadline = time.monotonic() + 60
    with warehouse("warehouse_admin") as conn:
        cursor = conn.cursor()
        while not cursor.execute(query):
            assert not done.done(), f"The call did not wait: {done.result()}"
            assert time.monotonic() < deadline, "The call never waited."
            time.sleep(0.2)  # InnoDB refreshes innodb_trx only if nobody has read it for 0.1 s


def write_unrecorded(at) -> None:
    """Write this minute to the table as it is in the lake, without recording it in the ledger."""
    with lake() as session:
        table.replace(table.table(SHOP), [at], events.events_of(session, SHOP, [at])[0])


def add_by_hand(at) -> None:
    """Append, as if by hand, copies of ten o'clock's events to a minute that no merge has read."""
    events_table = table.table(SHOP)
    result = events_table.scan(row_filter=table.within([TEN])).to_arrow()
    events_table.append(result.set_column(0, result.schema.field("minute"), [[at] * len(result)]))


@pytest.fixture
def six_minutes(shop: Shop) -> Shop:
    """One event in each of six minutes, exported one by one; a second event of ten o'clock is merged, but not exported."""
    minutes = [minute(number) for number in range(6)]
    add_to_lake(*(shop_event(at, 1) for at in minutes))
    for at in minutes:
        merge_minutes(shop, {at: [operation()]}, run_id=str(at))
        export(SHOP)
    add_to_lake(shop_event(TEN, 2))
    merge_minutes(shop, {TEN: [operation(), operation()]}, run_id="late")
    return shop


def test_an_export_that_meets_a_compaction_is_repeated(six_minutes: Shop) -> None:
    with waiting(lambda: export(SHOP), "etl.lakehouse_hours") as done:
        assert upkeep.upkeep(SHOP, now=CLOCK + timedelta(days=1)).hours == 1
    assert done.result().minutes == 1
    assert len(table_rows()) == 7
    assert export(SHOP).minutes == 0


def test_exports_of_two_minutes_in_one_file_at_once(six_minutes: Shop) -> None:
    """Runs of a backfill do this."""
    upkeep.upkeep(SHOP, now=CLOCK + timedelta(days=1))
    with waiting(lambda: export(SHOP), "etl.lakehouse_hours") as done:
        write_unrecorded(minute(1))
    assert done.result().minutes == 1
    assert len(table_rows()) == 7


def test_a_minute_that_another_export_has_written_is_not_written_again(six_minutes: Shop) -> None:
    with waiting(lambda: export(SHOP), "etl.lakehouse_hours") as done:
        write_unrecorded(TEN)
        six_minutes.query("UPDATE etl.minute_ledger SET lakehouse_attempt = attempt WHERE minute = %s", TEN)
    assert done.result().minutes == 0
    assert len(table_rows()) == 7


def test_a_minute_that_a_later_try_can_read_is_written_without_a_failure(six_minutes: Shop) -> None:
    late = shop_event(minute(2), 2)
    add_to_lake(late)
    merge_minutes(six_minutes, {minute(2): [operation(), operation()]}, run_id="late too")
    upkeep.upkeep(SHOP, now=CLOCK + timedelta(days=1))  # all minutes in one file
    used = {shard_of(event.values["id"], SHOP.shards) for event in (shop_event(minute(2), 1), late)}
    [other_shard, *_] = set(range(SHOP.shards)) - used  # not one with events: unreadable_partition empties it
    with lake("lake_writer") as writer, ExitStack() as unreadable:
        unreadable.enter_context(unreadable_partition(writer, SHOP, minute(2), other_shard))
        with waiting(lambda: export(SHOP), "etl.lakehouse_hours") as done:
            unreadable.close()
            write_unrecorded(minute(1))
    assert done.result().minutes == 2


def test_a_repair_that_meets_an_export_removes_what_no_merge_has_read_and_nothing_else(six_minutes: Shop) -> None:
    add_by_hand(minute(30))
    upkeep.upkeep(SHOP, now=CLOCK + timedelta(days=1))
    with waiting(lambda: rewrite(SHOP, TEN, TEN + HOUR), "etl.lakehouse_hours"):
        write_unrecorded(TEN)
    assert [row[0] for row in table_rows()] == [TEN, *(minute(number) for number in range(6))]


def test_a_minute_that_is_merged_and_written_during_a_repair_stays(six_minutes: Shop) -> None:
    add_by_hand(minute(30))
    add_to_lake(shop_event(minute(30), 1))
    with waiting(lambda: rewrite(SHOP, TEN, TEN + HOUR), "etl.lakehouse_hours"):
        merge_minutes(six_minutes, {minute(30): [operation()]}, run_id="meanwhile")
        write_unrecorded(minute(30))
    assert [row[0] for row in table_rows()].count(minute(30)) == 1


@pytest.fixture
def one_try(monkeypatch) -> None:
    """A count is not repeated, however often the table changes in between."""
    monkeypatch.setattr(hourly, "ATTEMPTS", 1)


def test_a_count_that_meets_a_commit_in_each_try_reports_a_busy_table_and_no_difference(
    six_minutes: Shop, one_try
) -> None:
    with ThreadPoolExecutor(1) as pool, warehouse("warehouse_admin") as conn:
        conn.cursor().execute("LOCK TABLES ecommerce.visits_hourly WRITE")  # the count waits for the fact
        done = pool.submit(hourly.count, SHOP)
        wait_until("SELECT id FROM information_schema.processlist WHERE state LIKE '%metadata lock%'", done)
        write_unrecorded(TEN)
        conn.cursor().execute("UNLOCK TABLES")
        with pytest.raises(
            hourly.HoursNotCounted, match=r"was written in each of 1 attempts to count its hours\. The next run"
        ):
            done.result()
    assert six_minutes.query("SELECT to_count, differs_since FROM etl.lakehouse_hours") == [(1, None)]


def test_a_count_that_meets_lost_files_in_each_try_names_a_file(six_minutes: Shop, one_try, lakehouse) -> None:
    for file in lakehouse.rglob("hour=2026-03-01-10/*.parquet"):
        file.unlink()
    with pytest.raises(
        hourly.HoursNotCounted, match=r"data files, such as .*hour=2026-03-01-10.*, were missing in 1 of 1 attempts"
    ):
        hourly.count(SHOP)
    assert export(SHOP).minutes == 6
    assert list(hourly.count(SHOP)[0].values.values()) == [7, 0]


def test_two_repairs_of_one_lost_file_at_once(six_minutes: Shop, lakehouse) -> None:
    export(SHOP)
    for file in lakehouse.rglob("hour=2026-03-01-10/*.parquet"):
        file.unlink()
    events_table = table.table(SHOP)

    def repair_table() -> repair.Lost:
        with warehouse() as conn:
            return repair.drop_lost_files(conn, SHOP, table.table(SHOP))

    with waiting(repair_table, "etl.minute_ledger") as done:
        events_table.delete(table.between("minute", TEN, TEN + HOUR))
    assert done.result().files == 0
    export(SHOP)
    assert len(table_rows()) == 7
