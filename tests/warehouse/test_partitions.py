"""Partitions of ecommerce.operations are created in advance, and no reader, writer or open table delays a merge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest

from include import pipelines
from include.housekeeping import steps
from include.pipelines import Retention
from include.verify import rules
from include.warehouse import merge, partitions
from include.warehouse.schema import apply_schema
from include.warehouse.session import warehouse
from tests.warehouse.lab import CLOCK, Lab, contribution, minute
from tests.warehouse.shop import Shop, operation

TABLE = "ecommerce.operations"
DAY = timedelta(days=1)


@pytest.fixture
def shop(lab: Lab) -> Iterator[Shop]:
    """The shop; after each test, the partitions of set-up are restored."""
    yield Shop(lab.conn)
    lab.query(f"DELETE FROM {TABLE}")
    lab.query("UPDATE etl.pipelines SET rows_kept_from = NULL")
    run_as_admin(
        f"ALTER TABLE {TABLE} PARTITION BY RANGE (TO_DAYS(minute)) (PARTITION future VALUES LESS THAN MAXVALUE)"
    )
    apply_schema()


@pytest.fixture
def retention_of_400_days(shop: Shop, monkeypatch) -> Iterator[None]:
    """The pipeline declares this retention, and set-up has granted DROP to etl."""
    declared = replace(shop.pipeline, retention=Retention(rows_by_day=timedelta(days=400)))
    monkeypatch.setitem(pipelines.all_pipelines(), "ecommerce", declared)
    apply_schema()
    yield
    with warehouse("warehouse_admin") as conn:
        cursor = conn.cursor()
        cursor.execute("SELECT user, host FROM mysql.user WHERE user = 'etl'")
        for account in cursor.fetchall():
            cursor.execute(f"REVOKE DROP ON {TABLE} FROM %s@%s", account)


def run_as_admin(*statements: str) -> None:
    with warehouse("warehouse_admin") as conn:
        for statement in statements:
            conn.cursor().execute(statement)
        conn.commit()


def table_partitions(shop: Shop) -> list[partitions.Partition]:
    return partitions.partitions_of(shop.conn, TABLE)


def partition_at(shop: Shop, at: datetime) -> partitions.Partition:
    """The partition of that time."""
    day = at.date()
    return next(
        partition
        for partition in table_partitions(shop)
        if (partition.start is None or partition.start <= day) and (partition.end is None or day < partition.end)
    )


def today(shop: Shop) -> datetime:
    day = shop.one("SELECT UTC_DATE()")
    return datetime(day.year, day.month, day.day)


def broken_rules(shop: Shop) -> list[str]:
    """The names of the rules that verify reports as broken."""
    result = list(rules.broken_minutes(shop.conn, shop.pipeline, datetime(1970, 1, 1), datetime(2100, 1, 1)))
    result += list(rules.broken_facts(shop.conn, shop.pipeline, lambda: None))
    return sorted({rule.name for _, rule in result})


def merge_minute(shop: Shop, at: datetime) -> None:
    shop.publish({at: [operation(event_time=at)]}, run_id=str(at))


@pytest.mark.one_server
def test_boundaries_are_years_then_months_then_days_of_a_week() -> None:
    result = partitions.boundaries(date(2026, 12, 30))
    assert result[0] == date(2000, 1, 1) and result[-1] == date(2028, 1, 1)
    assert [day for day in result if day.day > 1] == [date(2026, 12, 30), date(2026, 12, 31)] + [
        date(2027, 1, day) for day in range(2, 8)
    ]
    assert date(2025, 12, 1) in result and date(2025, 11, 1) not in result


def test_set_up_makes_a_partition_for_each_day_of_the_next_week(shop: Shop) -> None:
    for ahead in range(partitions.DAYS_AHEAD + 1):
        day = today(shop).date() + ahead * DAY
        partition = partition_at(shop, today(shop) + ahead * DAY)
        assert (partition.start, partition.end) == (day, day + DAY)


def test_a_merge_of_any_day_makes_no_partition(shop: Shop) -> None:
    before = table_partitions(shop)
    for at in (datetime(1999, 5, 1), datetime(2019, 11, 1, 12), datetime(2040, 2, 29)):
        merge_minute(shop, at)
    assert table_partitions(shop) == before
    assert shop.one(f"SELECT COUNT(*) FROM {TABLE} PARTITION (past)") == 1
    assert shop.one(f"SELECT COUNT(*) FROM {TABLE} PARTITION (future)") == 1


def test_housekeeping_creates_missing_partitions_and_none_twice(shop: Shop) -> None:
    """All daily partitions are missing, as if set-up had last run a week ago."""
    run_as_admin(
        f"ALTER TABLE {TABLE} PARTITION BY RANGE (TO_DAYS(minute)) (PARTITION future VALUES LESS THAN MAXVALUE)"
    )
    (planned,) = steps.run_step("make_partitions", {}, dry=True)
    assert len(table_partitions(shop)) == 1
    (made,) = steps.run_step("make_partitions", {})
    assert made.count == planned.count == len(table_partitions(shop)) - 1
    (again,) = steps.run_step("make_partitions", {})
    assert again.count == 0


def test_a_partition_with_few_rows_is_split_and_one_with_many_rows_is_not(shop: Shop, monkeypatch, caplog) -> None:
    merge_minute(shop, datetime(2019, 11, 1, 12))
    merge_minute(shop, today(shop))
    run_as_admin(
        f"ALTER TABLE {TABLE} PARTITION BY RANGE (TO_DAYS(minute)) (PARTITION future VALUES LESS THAN MAXVALUE)"
    )
    monkeypatch.setattr(partitions, "_MAX_ROWS_TO_COPY", 1)
    with caplog.at_level("WARNING"):
        assert partitions.make_ahead(shop.conn, shop.pipeline) == 0
    assert "Partition future of ecommerce.operations has more than 1 rows and is not split" in caplog.text
    monkeypatch.undo()
    assert partitions.make_ahead(shop.conn, shop.pipeline) > 0
    assert shop.one(f"SELECT COUNT(*) FROM {TABLE} PARTITION (p{today(shop):%Y%m%d})") == 1
    assert shop.one(f"SELECT COUNT(*) FROM {TABLE} PARTITION (p20190101)") == 1


def test_set_up_rebuilds_the_list_partitions_of_an_earlier_version_with_their_rows(shop: Shop) -> None:
    days = [datetime(2024, 2, 29, 23, 59), datetime(2019, 11, 1), today(shop)]
    for at in days:
        merge_minute(shop, at)
    before = shop.query(f"SELECT * FROM {TABLE} ORDER BY minute, event_number")
    listed = ", ".join(f"PARTITION p{at:%Y%m%d} VALUES IN (TO_DAYS('{at.date()}'))" for at in days)
    run_as_admin(f"ALTER TABLE {TABLE} PARTITION BY LIST (TO_DAYS(minute)) (PARTITION p0 VALUES IN (0), {listed})")
    apply_schema()
    assert shop.query(f"SELECT * FROM {TABLE} ORDER BY minute, event_number") == before
    ranged = table_partitions(shop)
    assert shop.one(f"SELECT COUNT(*) FROM {TABLE} PARTITION (p{today(shop):%Y%m%d})") == 1
    apply_schema()
    assert table_partitions(shop) == ranged
    merge_minute(shop, datetime(2024, 3, 1))


def test_an_idle_reader_over_midnight_holds_up_no_merge(shop: Shop, lab: Lab) -> None:
    """The reader keeps the table open: a merge that waited for it would wait until the test ends."""
    merge_minute(shop, today(shop))
    with warehouse("warehouse_bi") as reader:
        reader.cursor().execute(f"SELECT * FROM {TABLE}")  # and no commit
        for ahead in (1, 2, 40):
            merge_minute(shop, today(shop) + ahead * DAY)
        lab.publish({minute(0): [contribution()]}, run_id="beside")


def test_housekeeping_gives_up_behind_a_reader_and_succeeds_after_it(shop: Shop) -> None:
    """The reader keeps its snapshot, as a backup does; a merge and a second reader come while it is open."""
    run_as_admin(
        f"ALTER TABLE {TABLE} PARTITION BY RANGE (TO_DAYS(minute)) (PARTITION future VALUES LESS THAN MAXVALUE)"
    )
    with warehouse("warehouse_bi") as backup, warehouse("warehouse_bi") as other:
        cursor = backup.cursor()
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        cursor.execute(f"SELECT COUNT(*) FROM {TABLE}")
        (made,) = steps.run_step("make_partitions", {})
        assert made.count == 0
        merge_minute(shop, today(shop))
        other.cursor().execute(f"SELECT COUNT(*) FROM {TABLE}")
    (made,) = steps.run_step("make_partitions", {})
    assert made.count > 0


@pytest.mark.one_server
def test_9_000_days_of_a_broken_clock_hold_nothing_and_make_no_partition(shop: Shop, lab: Lab) -> None:
    """Their events are rejected, even if they fill whole minutes next to good minutes of the same hour and batch."""
    before = table_partitions(shop)
    limit = CLOCK.replace(second=0) + shop.pipeline.most_ahead
    junk = [limit + number * DAY for number in range(1, 9_000)] + [limit + timedelta(minutes=1)]
    good = [limit - timedelta(minutes=number) for number in range(3)]
    batch_id = shop.open(*good, *junk)
    shop.stage(
        batch_id,
        {at: [operation(event_time=at)] for at in good},
        rejects=[(at, shop.pipeline.too_far_ahead_reason) for at in junk for _ in range(150 if at == junk[-1] else 1)],
    )
    checked = shop.check(batch_id)
    assert checked.passed and not checked.held and not checked.waiting
    merge.merge(batch_id)
    assert shop.check(batch_id, "warehouse").passed
    assert table_partitions(shop) == before
    assert shop.query("SELECT state, COUNT(*) FROM etl.minute_ledger GROUP BY state") == [("merged", 9_003)]
    assert shop.one(f"SELECT COUNT(*) FROM {TABLE}") == 3


def test_days_past_their_retention_are_dropped_and_no_fact_changes(shop: Shop, retention_of_400_days: None) -> None:
    """A late event of such a day still counts, and its row is not kept."""
    old, recent = datetime(2019, 11, 1, 12), today(shop) - 2 * DAY
    merge_minute(shop, old)
    merge_minute(shop, recent)
    before = shop.query("SELECT * FROM ecommerce.sales_hourly")
    (planned,) = steps.run_step("drop_days", {}, dry=True)
    assert shop.query(f"SELECT minute FROM {TABLE} ORDER BY minute") == [(old,), (recent,)]
    (dropped,) = steps.run_step("drop_days", {})
    assert dropped.count == planned.count > 0
    assert shop.query(f"SELECT minute FROM {TABLE}") == [(recent,)]
    assert shop.query("SELECT * FROM ecommerce.sales_hourly") == before
    assert broken_rules(shop) == []
    shop.publish({old: [operation(event_time=old), operation("cart", event_time=old)]}, run_id="late")
    assert shop.one("SELECT SUM(views + carts) FROM ecommerce.sales_hourly WHERE hour = %s", old) == 2
    assert shop.query(f"SELECT minute FROM {TABLE}") == [(recent,)]
    assert broken_rules(shop) == []
    assert [result.count for step in ("make_partitions", "drop_days") for result in steps.run_step(step, {})] == [0, 0]


def test_a_drop_behind_a_reader_gives_up_and_leaves_the_facts_consistent(
    shop: Shop, retention_of_400_days: None
) -> None:
    old = datetime(2019, 11, 1, 12)
    merge_minute(shop, old)
    with warehouse("warehouse_bi") as reader:
        reader.cursor().execute(f"SELECT COUNT(*) FROM {TABLE}")  # and no commit
        (dropped,) = steps.run_step("drop_days", {})
        assert dropped.count == 0
        shop.publish({old: [operation(event_time=old)] * 2}, run_id="late")
        assert broken_rules(shop) == []
    (dropped,) = steps.run_step("drop_days", {})
    assert dropped.count > 0 and shop.one(f"SELECT COUNT(*) FROM {TABLE}") == 0
