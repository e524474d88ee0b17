"""Adding columns of a newer version to tables of an older version, on a real server with data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from include.housekeeping import folding
from include.pipelines import Pipeline, all_pipelines
from include.pipelines.summed_fact import Measure, SummedFact
from include.verify import rules
from include.warehouse import columns, ddl, merge
from include.warehouse.errors import WarehouseError
from include.warehouse.schema import apply_schema
from include.warehouse.session import warehouse
from include.warehouse.sql import control, files
from tests.reference import ecommerce as reference
from tests.reference.shop import event, purchase, view
from tests.warehouse.lab import Lab
from tests.warehouse.shop import Shop, operation

FILES = [
    *control("warehouse.sql"),
    *(file for pipeline in all_pipelines().values() for file in files(pipeline, "warehouse.sql")),
]
STATEMENTS = {
    result[0]: statement for file in FILES for statement in file.statements if (result := columns.declared(statement))
}
FACTS = "recruitment.events"  # its column company_id may be NULL
VISITS = "ecommerce.visits_hourly"

# The shop before it counted removals, and with removals as a metric that was added later.
ECOMMERCE = all_pipelines()["ecommerce"]
SALES, VISITS_FACT = ECOMMERCE.facts
OLD = replace(ECOMMERCE, facts=(SALES, replace(VISITS_FACT, measures=VISITS_FACT.measures[:2])))
REMOVALS = replace(VISITS_FACT.measures[2], added=True)
NEW = replace(ECOMMERCE, facts=(SALES, replace(VISITS_FACT, measures=(*VISITS_FACT.measures[:2], REMOVALS))))

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


def run_as_admin(*statements: str) -> list[tuple]:
    """Execute the statements; return the rows of the last one."""
    with warehouse("warehouse_admin") as conn:
        cursor = conn.cursor()
        for statement in statements:
            cursor.execute(statement)
        result = list(cursor.fetchall()) if cursor.description else []
        conn.commit()
        return result


def definition_of(table: str) -> str:
    return re.sub(r" AUTO_INCREMENT=\d+", "", run_as_admin(f"SHOW CREATE TABLE {table}")[0][1])


def add_missing(statement: str, patience: int | None = None) -> list[str]:
    with warehouse("warehouse_admin") as conn:
        return columns.add_missing(conn, statement, patience)


def test_all_columns_of_every_table_are_known_in_their_order(lab: Lab) -> None:
    created = [
        statement for file in FILES for statement in file.statements if "TABLE" in statement.split("(")[0].upper()
    ]
    assert created == list(STATEMENTS.values()), "Write CREATE TABLE IF NOT EXISTS database.table (…) ENGINE = InnoDB …"
    for table, statement in STATEMENTS.items():
        result = lab.query(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s "
            "ORDER BY ordinal_position",
            *table.split("."),
        )
        assert [name for (name,) in result] == list(columns.declared(statement)[1]), table


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
def test_a_dropped_column_is_added_again_as_it_was(lab: Lab, column: str) -> None:
    table, _, name = column.rpartition(".")
    before = definition_of(table)
    run_as_admin(f"ALTER TABLE {table} DROP COLUMN {name}")
    assert add_missing(STATEMENTS[table]) == [name]
    assert definition_of(table) == before
    assert add_missing(STATEMENTS[table]) == []


def test_a_generated_column_with_not_null_in_its_expression_is_added_with_its_key(lab: Lab) -> None:
    """As in a ledger from before the lakehouse: NOT NULL in its expression does not make the column NOT NULL."""
    ledger = "etl.minute_ledger"
    before = definition_of(ledger)
    run_as_admin(f"ALTER TABLE {ledger} DROP KEY lakehouse_minutes, DROP COLUMN to_lakehouse")
    assert add_missing(STATEMENTS[ledger]) == ["to_lakehouse", "lakehouse_minutes"]
    assert sorted(definition_of(ledger).replace(",\n", "\n").splitlines()) == sorted(
        before.replace(",\n", "\n").splitlines()
    )


def test_a_column_without_a_value_for_existing_rows_is_refused(lab: Lab) -> None:
    before = definition_of(FACTS)
    new = "returns BIGINT NOT NULL COMMENT 'of what has no DEFAULT , yet', company_id BIGINT NULL"
    with pytest.raises(
        columns.ColumnRefused, match="recruitment.events has no column returns yet.*Declare the column NULL, or with"
    ):
        add_missing(STATEMENTS[FACTS].replace("company_id BIGINT NULL", new))
    assert definition_of(FACTS) == before


def test_two_set_ups_may_add_the_same_column_at_once(lab: Lab) -> None:
    before = definition_of(FACTS)
    run_as_admin(f"ALTER TABLE {FACTS} DROP COLUMN company_id")
    waiting = (
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE info LIKE 'ALTER TABLE recruitment.events ADD%'"
    )
    with warehouse("warehouse_bi") as reader, ThreadPoolExecutor() as pool:
        # Delays both until each has seen that the column is absent.
        reader.cursor().execute(f"SELECT COUNT(*) FROM {FACTS}")
        set_ups = [pool.submit(add_missing, STATEMENTS[FACTS], patience=60) for _ in range(2)]
        while run_as_admin(waiting) != [(2,)]:
            assert not any(set_up.done() for set_up in set_ups)
        reader.rollback()
        assert [set_up.result() for set_up in set_ups] == [["company_id"], ["company_id"]]
    assert definition_of(FACTS) == before


def test_adding_a_column_soon_gives_up_on_a_reader_and_names_it(lab: Lab) -> None:
    """DDL waits for readers, and later readers would wait behind it."""
    run_as_admin(f"ALTER TABLE {FACTS} DROP COLUMN company_id")
    with warehouse("warehouse_bi") as reader, warehouse("warehouse_bi") as later:
        cursor = reader.cursor()
        cursor.execute(f"SELECT CONNECTION_ID(), COUNT(*) FROM {FACTS}")  # and no commit yet
        session = cursor.fetchone()[0]
        refused = (
            f"{FACTS} is in use, and its new COLUMN company_id could not be added.*session {session} of bi .idle for"
        )
        with warehouse("warehouse_admin") as conn:
            with pytest.raises(WarehouseError, match=f"{refused}.*run set-up again"):
                columns.add_missing(conn, STATEMENTS[FACTS])
            status = conn.cursor()
            status.execute(ddl.sql("patience"))
            seconds = status.fetchone()[0]
            status.execute("SHOW SESSION STATUS LIKE 'Com_alter_table'")
            assert seconds == 0 or (seconds == 1 and status.fetchone()[1] == "1"), "It waits for one second, once."
        later.cursor().execute(f"SELECT COUNT(*) FROM {FACTS}")
    apply_schema()
    assert "company_id" in definition_of(FACTS)


REJECTED = "etl.rejected_events"


def test_a_unique_key_that_is_declared_primary_becomes_the_primary_key_and_keeps_its_rows(lab: Lab) -> None:
    """As in the table of an earlier version, whose merges waited for those of other pipelines."""
    statement = STATEMENTS[REJECTED]
    before = definition_of(REJECTED)
    run_as_admin(
        f"ALTER TABLE {REJECTED} DROP PRIMARY KEY, DROP KEY by_id, ADD PRIMARY KEY (rejected_id), "
        "ADD UNIQUE KEY by_origin (pipeline, origin, origin_key)"
    )
    lab.query(
        f"INSERT INTO {REJECTED} (pipeline, origin, origin_key, reason, payload) VALUES ('recruitment', 'import', 'x:1', '', '')"
    )
    rows = lab.query(f"SELECT * FROM {REJECTED}")
    assert add_missing(statement) == ["by_id", "PRIMARY KEY"]
    assert sorted(definition_of(REJECTED).replace(",\n", "\n").splitlines()) == sorted(
        before.replace(",\n", "\n").splitlines()
    )
    assert lab.query(f"SELECT * FROM {REJECTED}") == rows
    assert add_missing(statement) == []


@pytest.fixture
def old_shop(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A shop of the older version, with its events merged."""
    run_as_admin(f"DROP TABLE {VISITS}", f"DROP TABLE {VISITS_FACT.contributions}")
    declare(OLD, monkeypatch)
    apply_schema()
    shop = Shop(lab.conn)
    shop.publish(staged(ROWS), run_id="old")
    yield shop
    monkeypatch.undo()
    run_as_admin(f"DROP TABLE {VISITS}", f"DROP TABLE {VISITS_FACT.contributions}")
    apply_schema()


def declare(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this the declaration of the shop until the end of the test."""
    monkeypatch.setitem(all_pipelines(), "ecommerce", pipeline)


def staged(rows) -> dict[datetime, list[dict]]:
    """The rows as a transform stages them, minute by minute."""
    result: dict[datetime, list[dict]] = {}
    for sale, times in reference.operations(rows).items():
        row = {
            "event_time": sale.event_time, "event_type": sale.event_type, "department": sale.department,
            "product": sale.product, "brand": sale.brand, "price": sale.price,
        }  # fmt: skip
        result.setdefault(sale.minute, []).extend([row] * times)
    return result


def visits(shop: Shop) -> dict[datetime, tuple]:
    result = shop.query(f"SELECT hour, visits, cart_additions, removals FROM {VISITS}")
    return {hour: tuple(numbers) for hour, *numbers in result}


def published(shop: Shop) -> list[list[tuple]]:
    """All rows of the shop and its ledger, in the columns that both versions have."""
    tables = ("ecommerce.operations", "ecommerce.sales_hourly", "etl.minute_ledger", "etl.batches")
    queries = [f"SELECT hour, visits, cart_additions FROM {VISITS}", *(f"SELECT * FROM {table}" for table in tables)]
    return [sorted(shop.query(query), key=repr) for query in queries]


def uncounted_minutes(shop: Shop) -> dict[datetime, str]:
    """The minutes that verify names because the metric is not counted in them, and the remedy."""
    start, end = datetime(1970, 1, 1), datetime(2100, 1, 1)
    result = [*rules.broken_minutes(shop.conn, NEW, start, end), *rules.broken_facts(shop.conn, NEW, lambda: None)]
    assert {rule.name for _, rule in result} <= {"minutes_visits_added"}
    return {finding.minute: finding.remedy for finding, _ in result}


EXPECTED = reference.visits(ROWS)
UNCOUNTED = {hour: (*numbers[:2], None) for hour, numbers in EXPECTED.items()}


def test_applying_the_schema_adds_the_metric_and_changes_nothing_that_was_published(old_shop, monkeypatch) -> None:
    before = published(old_shop)
    declare(NEW, monkeypatch)
    for _ in range(2):
        apply_schema()
        assert published(old_shop) == before
        assert visits(old_shop) == UNCOUNTED


def test_an_extended_table_equals_a_newly_created_one(old_shop: Shop, monkeypatch) -> None:
    declare(NEW, monkeypatch)
    apply_schema()
    extended = definition_of(VISITS), definition_of(VISITS_FACT.contributions)
    run_as_admin(f"DROP TABLE {VISITS}", f"DROP TABLE {VISITS_FACT.contributions}")
    apply_schema()
    assert (definition_of(VISITS), definition_of(VISITS_FACT.contributions)) == extended


def test_the_older_merge_keeps_working_until_it_is_replaced(old_shop: Shop, monkeypatch) -> None:
    declare(NEW, monkeypatch)
    apply_schema()
    declare(OLD, monkeypatch)
    old_shop.publish(staged(ROWS), run_id="still old")
    assert visits(old_shop) == UNCOUNTED


def test_verify_names_each_uncounted_minute_and_the_remedy(old_shop: Shop, monkeypatch) -> None:
    declare(NEW, monkeypatch)
    apply_schema()
    result = uncounted_minutes(old_shop)
    assert set(result) == set(staged(ROWS))
    remedy = result[TEN.replace(second=0)]
    assert 'trigger ecommerce_minute with {"from": "2026-03-01T10:00Z", "to": "2026-03-01T10:01Z"}' in remedy


def test_reprocessed_minutes_add_the_metric_hour_by_hour(old_shop: Shop, monkeypatch) -> None:
    declare(NEW, monkeypatch)
    apply_schema()
    minutes = staged(ROWS)
    ten = min(EXPECTED)
    at_ten = {minute: rows for minute, rows in minutes.items() if minute.hour == ten.hour}
    first = min(at_ten)
    old_shop.publish({first: at_ten[first]}, run_id="a part of ten again")  # runs both gates
    assert visits(old_shop) == UNCOUNTED, (
        "The sum of an hour is unknown while the metric of one of its minutes is not counted."
    )
    old_shop.publish(at_ten, run_id="ten again")
    assert visits(old_shop) == UNCOUNTED | {ten: EXPECTED[ten]}
    assert not set(at_ten) & set(uncounted_minutes(old_shop))
    old_shop.publish(minutes, run_id="all again")
    assert visits(old_shop) == EXPECTED
    assert EXPECTED[ten] == (1, 1, 2)
    assert uncounted_minutes(old_shop) == {}


def test_contributions_added_to_existing_tables_start_with_what_was_published(lab: Lab) -> None:
    """A late event adds to an hour that was published before contributions existed; it does not replace that hour."""
    shop = Shop(lab.conn)
    shop.publish(staged(ROWS))
    facts = shop.query("SELECT * FROM ecommerce.sales_hourly"), visits(shop)
    run_as_admin(
        *(f"DROP TABLE {fact.contributions}" for fact in ECOMMERCE.facts),
        "CREATE TABLE ecommerce.event_hours (minute DATETIME)",  # a table of the previous version
    )
    apply_schema()
    assert run_as_admin("SHOW TABLES IN ecommerce LIKE 'event%'") == [], (
        "Without this table an older merge fails, instead of publishing without contributions."
    )
    assert (shop.query("SELECT * FROM ecommerce.sales_hourly"), visits(shop)) == facts
    late = {TWELVE.replace(minute=59, second=0): [operation("cart", event_time=TEN)]}
    shop.publish(late, run_id="late")  # runs both gates
    ten = min(EXPECTED)
    carts = EXPECTED[ten][1] + 1
    assert visits(shop)[ten] == (EXPECTED[ten][0], carts, EXPECTED[ten][2])
    assert list(rules.broken_facts(shop.conn, shop.pipeline, lambda: None)) == []


def leave_unfinished_contributions() -> str:
    """Leave contributions as after a set-up that was killed while it filled them; return the unfinished table."""
    unfinished = f"{SALES.contributions}_unfinished"
    run_as_admin(f"RENAME TABLE {SALES.contributions} TO {unfinished}", f"DROP TABLE {VISITS_FACT.contributions}")
    run_as_admin(f"DELETE FROM {unfinished} WHERE carts = 0")
    return unfinished


def await_statement(worker: Future, pattern: str) -> None:
    """Wait until a connection runs a statement that is LIKE `pattern`."""
    query = f"SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE info LIKE '{pattern}'"
    while run_as_admin(query) != [(1,)]:
        assert not worker.done()


def test_contributions_that_were_filled_in_part_are_filled_again(lab: Lab) -> None:
    """A merge must not use a part of the contributions as if it were all of them."""
    shop = Shop(lab.conn)
    shop.publish(staged(ROWS))
    facts = visits(shop)
    leave_unfinished_contributions()
    apply_schema()
    assert not run_as_admin("SHOW TABLES IN ecommerce LIKE '%unfinished'")
    late = {TWELVE.replace(minute=59, second=0): [operation("cart", event_time=TEN)]}
    shop.publish(late, run_id="late")
    ten = min(EXPECTED)
    assert visits(shop) == facts | {ten: (facts[ten][0], facts[ten][1] + 1, facts[ten][2])}
    assert list(rules.broken_facts(shop.conn, shop.pipeline, lambda: None)) == []


def test_a_first_set_up_that_was_killed_between_two_tables_is_completed(lab: Lab) -> None:
    """The operations exist, but neither their contributions nor the row of etl.pipelines, which set-up adds last."""
    run_as_admin(
        *(f"DROP TABLE {fact.contributions}" for fact in ECOMMERCE.facts),
        "DELETE FROM etl.pipelines WHERE pipeline = 'ecommerce'",
    )
    apply_schema()
    shop = Shop(lab.conn)
    shop.publish(staged(ROWS))
    assert visits(shop) == EXPECTED


def test_while_contributions_are_filled_no_merge_publishes(lab: Lab) -> None:
    shop, ten = Shop(lab.conn), TEN.replace(second=0)
    shop.publish(staged(ROWS))
    batch_id = shop.open(ten, run_id="meanwhile", allow_shrink=True)
    shop.stage(batch_id, {ten: [operation(event_time=TEN)]})
    assert shop.check(batch_id).passed
    unfinished = leave_unfinished_contributions()
    with ThreadPoolExecutor() as pool, warehouse() as reader:
        reader.cursor().execute(f"SELECT COUNT(*) FROM {unfinished}")  # a reader that keeps set-up from dropping it
        set_up = pool.submit(apply_schema)
        await_statement(set_up, f"DROP TABLE IF EXISTS {unfinished}")
        merged = pool.submit(merge.merge, batch_id)
        await_statement(merged, "SELECT pipeline%FOR UPDATE")
        reader.rollback()
        set_up.result()
        assert merged.result().minutes == 1
    assert list(rules.broken_facts(shop.conn, shop.pipeline, lambda: None)) == []
    # The one event of TEN's minute, and that of TWELVE.
    assert sum(numbers[0] for numbers in visits(shop).values()) == 2


def test_a_fact_that_is_added_later_leaves_the_folded_hours_of_other_facts_alone(lab: Lab, monkeypatch) -> None:
    """Its own contributions start with every published row; events without a price add nothing."""
    shop = Shop(lab.conn)
    shop.publish(
        {TEN.replace(second=0): [operation(), operation(price=None)], ELEVEN.replace(second=0): [operation(price=None)]}
    )
    shop.publish({TEN.replace(second=0) + timedelta(minutes=1): [operation("cart")]}, run_id="second")
    shop.query("UPDATE etl.minute_ledger SET merged_at = merged_at - INTERVAL 3 DAY")
    assert folding.fold(shop.conn, ECOMMERCE, TEN + timedelta(days=100), timedelta(days=90)) == 1
    before = shop.query("SELECT * FROM ecommerce.visits_by_minute ORDER BY 1, 2")
    shown_prices = SummedFact(
        name="prices", table="ecommerce.prices_hourly", output="operations", key=VISITS_FACT.key,
        measures=(Measure("shown", "DECIMAL(24, 2)", of="s.price"),),
    )  # fmt: skip
    declare(replace(ECOMMERCE, facts=(*ECOMMERCE.facts, shown_prices)), monkeypatch)
    try:
        apply_schema()
        assert shop.query("SELECT * FROM ecommerce.visits_by_minute ORDER BY 1, 2") == before
        result = shop.query("SELECT event_count, shown FROM ecommerce.prices_by_minute ORDER BY minute")
        price = operation()["price"]
        assert result == [(2, price), (1, price), (1, 0)]
    finally:
        monkeypatch.undo()
        run_as_admin(
            *(f"DROP TABLE {table}" for table in (shown_prices.contributions, shown_prices.touched, shown_prices.table))
        )
