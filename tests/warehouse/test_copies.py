"""What waits for the lakehouse and BigQuery, as the Pipelines page shows it and the watch reports it."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from include.operations import copies
from include.operations.watch import watch
from include.page import overview
from include.warehouse.session import warehouse
from tests.warehouse.lab import RECRUITMENT, TEN, Lab, minute
from tests.warehouse.shop import Shop, operation

SHOP = Shop.pipeline
NOW = TEN + timedelta(hours=3)
LONG_AGO = NOW - copies.LIMIT - timedelta(seconds=1)


@pytest.fixture
def shop(lab: Lab, monkeypatch) -> Shop:
    monkeypatch.setenv("MINUTEMARK_LAKEHOUSE", "file:///lakehouse")
    monkeypatch.setenv("MINUTEMARK_BIGQUERY", "project.lakehouse")
    return Shop(lab.conn)


def merge_minutes(shop: Shop, *minutes) -> None:
    shop.see(*minutes)
    shop.publish({at: [operation()] for at in minutes})
    shop.query("UPDATE etl.minute_ledger SET merged_at = %s", LONG_AGO)


def kinds(shop: Shop) -> list[str]:
    return [problem.problem for problem in copies.problems(SHOP, copies.backlog_of(shop.conn, SHOP), NOW)]


def add_hour(shop: Shop, **values) -> None:
    row = {"pipeline": SHOP.name, "hour": TEN, "counted_change": 1, "counted_at": LONG_AGO, "loaded_change": 1} | values
    shop.query(
        f"INSERT INTO etl.lakehouse_hours ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})", *row.values()
    )


def set_table(shop: Shop, *, created_at: datetime, written_at: datetime | None = None) -> None:
    shop.query(
        "REPLACE INTO etl.lakehouse_tables (pipeline, table_uuid, created_at, written_at) VALUES (%s, 'uuid', %s, %s)",
        *(SHOP.name, created_at, written_at),
    )


def test_nothing_is_shown_if_the_copies_are_off_or_not_declared(shop: Shop, monkeypatch) -> None:
    assert copies.backlog_of(shop.conn, RECRUITMENT) is None
    monkeypatch.delenv("MINUTEMARK_BIGQUERY")
    assert copies.backlog_of(shop.conn, SHOP)["to_load"] is None
    monkeypatch.delenv("MINUTEMARK_LAKEHOUSE")
    assert copies.backlog_of(shop.conn, SHOP) is None


def test_minutes_and_hours_that_wait_are_counted_by_the_account_of_the_page(shop: Shop) -> None:
    merge_minutes(shop, TEN, minute(1))
    add_hour(shop, changes=2, loaded_change=None)
    add_hour(shop, hour=minute(60), changes=2, waited_at=NOW)
    with warehouse("warehouse_bi") as conn:
        [shown] = overview.overview(conn, [SHOP])["pipelines"]
    waits = {
        name: shown["copies"][name] for name in ("minutes", "oldest_minute", "merged_at", "hours", "waiting", "to_load")
    }
    assert waits == {
        **{"minutes": 2, "oldest_minute": TEN, "merged_at": LONG_AGO},
        **{"hours": 1, "waiting": 1, "to_load": 1},
    }


def test_minutes_that_wait_without_progress_are_a_problem(shop: Shop) -> None:
    merge_minutes(shop, TEN)
    assert kinds(shop) == [], "The lakehouse was turned on recently, and its first run has not started."
    set_table(shop, created_at=LONG_AGO)
    assert kinds(shop) == ["lakehouse_behind"]
    set_table(shop, created_at=NOW - timedelta(minutes=1))
    assert kinds(shop) == [], "Its first run has created the table and is writing."
    set_table(shop, created_at=LONG_AGO, written_at=NOW - timedelta(minutes=1))
    assert kinds(shop) == [], "A backlog is being written."
    set_table(shop, created_at=LONG_AGO, written_at=LONG_AGO)
    assert kinds(shop) == ["lakehouse_behind"]


def test_a_backlog_that_is_not_counted_to_its_end_is_shown_as_a_minimum(shop: Shop, monkeypatch) -> None:
    merge_minutes(shop, TEN, minute(1))
    set_table(shop, created_at=LONG_AGO)

    def shown() -> tuple[int, bool, str]:
        backlog = copies.backlog_of(shop.conn, SHOP)
        [problem] = copies.problems(SHOP, backlog, NOW)
        return backlog["minutes"], backlog["capped"], problem.found.partition(". ")[0].rpartition(": ")[2]

    monkeypatch.setattr(copies, "COUNT_LIMIT", 2)
    assert shown() == (2, False, "2")
    monkeypatch.setattr(copies, "COUNT_LIMIT", 1)
    assert shown() == (1, True, "1 or more")


def test_hours_that_differ_for_a_long_time_are_a_problem(shop: Shop) -> None:
    add_hour(shop, differs_since=NOW - timedelta(minutes=1))
    assert kinds(shop) == []
    shop.query("UPDATE etl.lakehouse_hours SET differs_since = %s", LONG_AGO)
    assert kinds(shop) == ["hours_differ"]


def test_hours_that_are_not_loaded_are_a_problem(shop: Shop) -> None:
    add_hour(shop, loaded_change=None)
    assert kinds(shop) == [], "BigQuery was turned on recently, and nothing has been loaded."
    shop.query("UPDATE etl.lakehouse_hours SET loaded_at = %s", NOW - timedelta(minutes=1))
    assert kinds(shop) == [], "A backlog is being loaded."
    shop.query("UPDATE etl.lakehouse_hours SET loaded_at = %s", LONG_AGO)
    assert kinds(shop) == ["bigquery_behind"]


def test_the_watch_reports_problems_of_the_copies(shop: Shop) -> None:
    merge_minutes(shop, TEN)
    set_table(shop, created_at=LONG_AGO)
    add_hour(shop, differs_since=LONG_AGO, loaded_change=None, loaded_at=LONG_AGO)
    titles = []
    watch(lambda notice: bool(titles.append(notice.title)) or True)
    assert [title for title in titles if "lakehouse" in title or "BigQuery" in title] == [
        "Minutemark · Problem: ecommerce is not loading into BigQuery",
        "Minutemark · Problem: ecommerce has hours that differ in the lakehouse",
        "Minutemark · Problem: ecommerce is not writing to the lakehouse",
    ]
