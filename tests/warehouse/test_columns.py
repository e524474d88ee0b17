"""Columns of a newer version in the tables of an older one, on a real server with data in them."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from include.operations.recount import rules
from include.pipelines import all_pipelines
from include.warehouse import columns, merge
from include.warehouse.errors import WarehouseError
from include.warehouse.schema import apply_schema
from include.warehouse.session import warehouse
from include.warehouse.sql import FOLDER, statements
from tests.reference import ecommerce as reference
from tests.reference.shop import event, purchase, view
from tests.warehouse.lab import Lab
from tests.warehouse.shop import Shop

STATEMENTS = {
    found[0]: statement
    for folder in ("control", *all_pipelines())
    for statement in statements(FOLDER / folder / "warehouse.sql")
    if (found := columns.declared(statement))
}
VISITS = "ecommerce.visits_hourly"

# As they were before there were removals.
OLD_TABLE = """
    CREATE TABLE ecommerce.visits_hourly (
      hour DATETIME NOT NULL,
      visits BIGINT NOT NULL COMMENT 'views',
      cart_additions BIGINT NOT NULL,
      PRIMARY KEY (hour)
    ) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
"""
OLD_MERGE = """
    INSERT INTO ecommerce.visits_hourly (hour, visits, cart_additions)
    SELECT t.hour, SUM(f.views), SUM(f.carts)
    FROM ecommerce.hours_touched AS t
    STRAIGHT_JOIN ecommerce.sales_hourly AS f ON f.hour = t.hour
    WHERE t.batch_id = %(batch_id)s
    GROUP BY t.hour
"""

TEN = datetime(2026, 3, 1, 10, 0, 5)
ELEVEN, TWELVE = TEN + timedelta(hours=1), TEN + timedelta(hours=2)
ROWS = [
    view(TEN, 1),
    event("cart", TEN, 2),
    event("remove_from_cart", TEN, 3),
    event("remove_from_cart", TEN + timedelta(minutes=7), 4, brand="pika"),
    event("remove_from_cart", ELEVEN, 5),
    purchase(ELEVEN, 6),
    view(TWELVE, 7),  # an hour without removals
]


def admin(*orders: str) -> list[tuple]:
    """What the last of these statements finds."""
    with warehouse("warehouse_admin") as conn:
        cursor = conn.cursor()
        for order in orders:
            cursor.execute(order)
        found = list(cursor.fetchall()) if cursor.description else []
        conn.commit()
        return found


def shown(table: str) -> str:
    return re.sub(r" AUTO_INCREMENT=\d+", "", admin(f"SHOW CREATE TABLE {table}")[0][1])


def add_missing(statement: str) -> list[str]:
    with warehouse("warehouse_admin") as conn:
        return columns.add_missing(conn, statement)


def test_of_every_table_all_columns_are_known_in_their_order(lab: Lab) -> None:
    made = [
        statement
        for folder in ("control", *all_pipelines())
        for statement in statements(FOLDER / folder / "warehouse.sql")
        if "TABLE" in statement.split("(")[0].upper()
    ]
    assert made == list(STATEMENTS.values()), "Write CREATE TABLE IF NOT EXISTS database.table (…) ENGINE = InnoDB …"
    for table, statement in STATEMENTS.items():
        found = lab.query(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s "
            "ORDER BY ordinal_position",
            *table.split("."),
        )
        assert [name for (name,) in found] == list(columns.declared(statement)[1]), table


@pytest.mark.parametrize(
    "column",
    [
        "etl.batches.merge_tries",  # with a default
        "etl.batches.reason",
        "etl.check_results.sample",
        "etl.pipelines.created_at",  # its default is a function
        "ecommerce.operations.revenue",  # virtual, in a table with partitions
        "ecommerce.operations_staged.hour",
        "recruitment.events.bid_set",  # stored
        "recruitment.job.title",
    ],
)
def test_a_column_that_a_table_lacks_comes_back_as_it_was(lab: Lab, column: str) -> None:
    table, _, name = column.rpartition(".")
    before = shown(table)
    admin(f"ALTER TABLE {table} DROP COLUMN {name}")
    assert add_missing(STATEMENTS[table]) == [name]
    assert shown(table) == before
    assert add_missing(STATEMENTS[table]) == []


def test_a_column_that_has_no_value_for_the_rows_that_are_there_is_refused(lab: Lab) -> None:
    before = shown(VISITS)
    new = "returns BIGINT NOT NULL COMMENT 'of what has no DEFAULT , yet', removals BIGINT NULL"
    with pytest.raises(
        columns.ColumnRefused, match="visits_hourly has no column returns yet.*Declare it NULL, or with"
    ):
        add_missing(STATEMENTS[VISITS].replace("removals BIGINT NULL", new))
    assert shown(VISITS) == before


def test_two_set_ups_may_add_the_same_column_at_once(lab: Lab) -> None:
    before = shown(VISITS)
    admin(f"ALTER TABLE {VISITS} DROP COLUMN removals")
    waiting = (
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE info LIKE 'ALTER TABLE ecommerce.visits_hourly ADD%'"
    )
    with warehouse("warehouse_bi") as reader, ThreadPoolExecutor() as pool:
        reader.cursor().execute(f"SELECT COUNT(*) FROM {VISITS}")  # both have looked before either may add it
        set_ups = [pool.submit(add_missing, STATEMENTS[VISITS]) for _ in range(2)]
        while admin(waiting) != [(2,)]:
            assert not any(one.done() for one in set_ups)
        reader.rollback()
        assert [one.result() for one in set_ups] == [["removals"], ["removals"]]
    assert shown(VISITS) == before


@pytest.mark.parametrize(("seconds", "added"), [(1.5, True), (30, False)])
def test_a_reader_holds_up_a_new_column_for_a_while_and_is_never_cut_off(lab: Lab, monkeypatch, seconds, added) -> None:
    """DDL waits for readers, and later readers wait behind it: it gives up, is tried again, and says who is to be asked."""
    monkeypatch.setattr(columns, "_PATIENCE", 1)
    admin(f"ALTER TABLE {VISITS} DROP COLUMN removals")
    with warehouse("warehouse_bi") as reader:
        reader.cursor().execute(f"SELECT COUNT(*) FROM {VISITS}")  # and no commit yet
        leave = threading.Timer(seconds, reader.rollback)
        leave.start()
        if added:
            assert add_missing(STATEMENTS[VISITS]) == ["removals"]
            leave.join()
        else:
            with pytest.raises(
                WarehouseError, match="visits_hourly was in use all the time.*removals.*Run the set-up again"
            ):
                add_missing(STATEMENTS[VISITS])
            leave.cancel()
    apply_schema()
    assert "removals" in shown(VISITS)


@pytest.fixture
def old_shop(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A shop of the older version, with its events merged."""
    admin(f"DROP TABLE {VISITS}", OLD_TABLE)
    shop = Shop(lab.conn)
    merge_old(shop, monkeypatch, "old")
    return shop


def merge_old(shop: Shop, monkeypatch: pytest.MonkeyPatch, run_id: str) -> None:
    """What the older version's merge does with the rows."""
    ours = "INSERT INTO ecommerce.visits_hourly"

    def older(path) -> list[str]:
        return [OLD_MERGE if one.startswith(ours) else one for one in statements(path)]

    minutes = staged(ROWS)
    batch_id = shop.open(*minutes, run_id=run_id)
    shop.stage(batch_id, minutes)
    assert shop.check(batch_id).passed
    with monkeypatch.context() as patch:
        patch.setattr(merge, "statements", older)
        merge.merge(batch_id)


def staged(rows) -> dict[datetime, list[dict]]:
    """The rows as a transform stages them, minute by minute."""
    found: dict[datetime, list[dict]] = {}
    for one, times in reference.operations(rows).items():
        row = {
            "event_time": one.event_time, "event_type": one.event_type, "department": one.department,
            "product": one.product, "brand": one.brand, "price": one.price,
        }  # fmt: skip
        found.setdefault(one.minute, []).extend([row] * times)
    return found


def visits(shop: Shop) -> dict[datetime, tuple]:
    found = shop.query(f"SELECT hour, visits, cart_additions, removals FROM {VISITS}")
    return {hour: tuple(numbers) for hour, *numbers in found}


def published(shop: Shop) -> list[list[tuple]]:
    """All that the shop and its ledger say, in the columns that both versions have."""
    tables = (
        "ecommerce.operations",
        "ecommerce.event_hours",
        "ecommerce.sales_hourly",
        "etl.minute_ledger",
        "etl.batches",
    )
    asked = [f"SELECT hour, visits, cart_additions FROM {VISITS}", *(f"SELECT * FROM {table}" for table in tables)]
    return [sorted(shop.query(one), key=repr) for one in asked]


def wrong_visits(shop: Shop) -> dict[datetime, tuple]:
    """What the recount expects and finds in the hours whose visits differ, and the remedy."""
    found = [one for one, rule in rules.broken_facts(shop.conn, shop.pipeline, lambda: None)]
    assert {one.kind for one in found} <= {"facts_visits_hourly"}
    return {one.minute: (dict(one.expected), dict(one.found), one.remedy) for one in found}


EXPECTED = reference.visits(ROWS)
UNCOUNTED = {hour: (*numbers[:2], None) for hour, numbers in EXPECTED.items()}


def test_applying_the_schema_adds_the_metric_and_changes_nothing_that_is_published(old_shop: Shop) -> None:
    before = published(old_shop)
    for _ in range(2):
        apply_schema()
        assert published(old_shop) == before
        assert visits(old_shop) == UNCOUNTED


def test_a_table_that_was_extended_is_the_table_that_is_made_new(old_shop: Shop) -> None:
    apply_schema()
    extended = shown(VISITS)
    admin(f"DROP TABLE {VISITS}", STATEMENTS[VISITS])
    assert shown(VISITS) == extended


def test_the_older_merge_goes_on_working_until_it_is_replaced(old_shop: Shop, monkeypatch) -> None:
    apply_schema()
    merge_old(old_shop, monkeypatch, "still old")
    assert visits(old_shop) == UNCOUNTED


def test_the_recount_names_each_hour_that_has_not_been_counted_and_what_to_do(old_shop: Shop) -> None:
    apply_schema()
    found = wrong_visits(old_shop)
    hours = {minute.replace(minute=0): (expected, there) for minute, (expected, there, _) in found.items()}
    assert hours == {hour: ({"removals": EXPECTED[hour][2]}, {"removals": None}) for hour in EXPECTED}
    remedy = found[TEN.replace(second=0)][2]
    assert 'trigger ecommerce_minute with {"from": "2026-03-01T10:00Z", "to": "2026-03-01T10:08Z"}' in remedy
    assert "backfill ecommerce_reconcile" in remedy


def test_minutes_that_are_processed_again_bring_the_metric_hour_by_hour(old_shop: Shop) -> None:
    apply_schema()
    minutes = staged(ROWS)
    at_ten = {minute: rows for minute, rows in minutes.items() if minute.hour == TEN.hour}
    old_shop.publish(at_ten, run_id="ten again")  # both gates among it
    ten = min(EXPECTED)
    assert visits(old_shop) == UNCOUNTED | {ten: EXPECTED[ten]}
    assert ten not in {minute.replace(minute=0) for minute in wrong_visits(old_shop)}
    old_shop.publish(minutes, run_id="all again")
    assert visits(old_shop) == EXPECTED
    assert EXPECTED[ten] == (1, 1, 2)
    assert wrong_visits(old_shop) == {}
