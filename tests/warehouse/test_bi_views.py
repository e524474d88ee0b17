"""The views for BI tools match their descriptions for the read-only account, and a query of one day reads one day."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from include import pipelines
from include.warehouse import bi_views
from include.warehouse.session import rows, warehouse
from include.warehouse.sql import SqlFile
from tests.warehouse.lab import DAY, Lab, contribution, minute
from tests.warehouse.shop import Shop, operation
from tests.warehouse.test_bookkeeping_cost import rows_read
from tests.warehouse.test_reporting_zone import berlin  # noqa: F401 - a fixture

VIEWS = {view.name: view for view in bi_views.views_of_all(pipelines.all_pipelines().values())}
FACTS = {
    "recruitment.bi_events": "recruitment.events",
    "ecommerce.bi_sales": "ecommerce.sales_hourly",
    "ecommerce.bi_visits": "ecommerce.visits_hourly",
}
DAYS = 60


@pytest.fixture
def query_bi(lab: Lab):
    """Query as the account of BI tools."""

    def fetch(query: str) -> list[dict]:
        with warehouse("warehouse_bi") as conn:
            return rows(conn.cursor(), query)

    return fetch


@pytest.fixture
def full(lab: Lab) -> Lab:
    """Facts of a known job, an unknown job and a job without a title, with and without a bid; sales without a category."""
    lab.query(
        "INSERT INTO recruitment.job (id, title, status, company_id) VALUES (7, 'Baker', 'open', 3), (9, NULL, NULL, NULL)"
    )
    lab.publish(
        {
            minute(0): [
                contribution(7, publisher_id=4, clicks=3, bid_count=2, bid_sum=Decimal("0.75"), event_count=3),
                contribution(
                    8,
                    clicks=0,
                    impressions=2,
                    qualified=1,
                    unqualified=2,
                    conversions=1,
                    event_count=6,
                    bid_count=0,
                    bid_sum=0,
                ),
                contribution(9),
            ]
        }
    )
    shop = Shop(lab.conn)
    kinds = ("view", "view", "cart", "remove_from_cart", "purchase")
    nameless = {"department": "other", "product": "other", "brand": "other", "price": None}
    shop.publish({minute(0): [*map(operation, kinds), operation("view", **nameless)]}, run_id="shop")
    return lab


def test_the_views_are_those_of_the_facts() -> None:
    assert VIEWS.keys() == FACTS.keys()


@pytest.mark.parametrize("name", VIEWS)
def test_names_and_types_are_those_described(name: str, query_bi: Callable) -> None:
    schema, table = name.split(".")
    result = query_bi(
        "SELECT column_name AS name, column_type AS type FROM information_schema.columns "
        f"WHERE table_schema = '{schema}' AND table_name = '{table}' ORDER BY ordinal_position"
    )
    served = [(row["name"], described_type(row["type"])) for row in result]
    assert served == [(column.name, column.type.replace(" ", "")) for column in VIEWS[name].columns]


def described_type(served: str | bytes) -> str:
    """A type as the description writes it: MariaDB adds the display width of an integer, and the format of a time."""
    text = served.decode() if isinstance(served, bytes) else served
    return "BIGINT" if text.startswith("bigint") else text.removesuffix(" /* mariadb-5.3 */").upper()


@pytest.mark.parametrize("name", VIEWS)
def test_no_column_is_null_and_no_row_is_lost_or_duplicated(name: str, full: Lab, query_bi: Callable) -> None:
    counts = ", ".join(f"COUNT({column.name}) AS {column.name}" for column in VIEWS[name].columns)
    [facts] = query_bi(f"SELECT COUNT(*) AS number FROM {FACTS[name]}")
    [view] = query_bi(f"SELECT {counts} FROM {name}")
    assert set(view.values()) == {facts["number"]} and facts["number"] > 0


def test_events_have_names_and_figures(full: Lab, query_bi: Callable) -> None:
    [known, unknown, untitled] = query_bi("SELECT * FROM recruitment.bi_events ORDER BY job_id")
    ten = datetime(DAY.year, DAY.month, DAY.day, 10)
    assert known == {
        "hour_utc": ten, "hour_local": ten, "job_id": 7, "job_title": "Baker", "job_status": "open", "company_id": 3,
        "publisher_id": 4, "campaign_id": 0, "group_id": 0, "impressions": 0, "clicks": 3, "conversions": 0,
        "qualified_applications": 0, "disqualified_applications": 0, "applications": 0, "paid_clicks": 2,
        "spend": Decimal("0.75"), "newest_event_at": minute(0) + timedelta(seconds=30),
    }  # fmt: skip
    assert (unknown["job_title"], unknown["job_status"], unknown["company_id"]) == ("job 8", "unknown", 0)
    assert (unknown["conversions"], unknown["qualified_applications"], unknown["applications"]) == (1, 1, 3)
    assert (untitled["job_title"], untitled["job_status"]) == ("job 9", "unknown")


def test_sales_and_visits_count_the_same_events(full: Lab, query_bi: Callable) -> None:
    figures = "hour_utc, SUM(views) AS visits, SUM(cart_additions) AS cart_additions"
    sales = query_bi(f"SELECT {figures} FROM ecommerce.bi_sales GROUP BY hour_utc")
    assert sales == query_bi("SELECT hour_utc, visits, cart_additions FROM ecommerce.bi_visits")
    assert [(row["visits"], row["cart_additions"]) for row in sales] == [(3, 1)]
    [sold] = query_bi("SELECT cart_removals, purchases, revenue FROM ecommerce.bi_sales WHERE brand = 'nordlys'")
    assert tuple(sold.values()) == (1, 1, Decimal("489.07"))


@pytest.fixture
def many_days(lab: Lab) -> Lab:
    """For each hour of sixty days, ten facts in each of two tables, and one in visits_hourly."""
    hours = f"SELECT n FROM ({numbers(24 * DAYS)}) AS hours"
    tens = f"SELECT n FROM ({numbers(10)}) AS tens"
    both = f"FROM ({hours}) AS h CROSS JOIN ({tens}) AS t"
    hour = "TIMESTAMP('2026-01-01') + INTERVAL h.n HOUR"
    lab.query(
        "INSERT INTO recruitment.events (job_id, dates, hours, publisher_id, campaign_id, group_id, latest_update_time,"
        " disqualified_application, qualified_application, conversion, clicks, impressions, bid_sum, bid_count, spend_hour,"
        f" sources) SELECT t.n + 1, DATE({hour}), h.n % 24, 0, 0, 0, {hour}, 0, 0, 0, 1, 0, 0, 0, 0, 'Cassandra' {both}"
    )
    lab.query(
        "INSERT INTO ecommerce.sales_hourly (hour, department, product, brand, views, carts, removals, purchases, revenue)"
        f" SELECT {hour}, 'electronics', 'phone', t.n, 1, 0, 0, 0, 0 {both}"
    )
    lab.query(
        "INSERT INTO ecommerce.visits_hourly (hour, visits, cart_additions, removals)"
        f" SELECT TIMESTAMP('2026-01-01') + INTERVAL n HOUR, 1, 0, 0 FROM ({hours}) AS h"
    )
    lab.conn.commit()
    for table in FACTS.values():
        lab.query(f"ANALYZE TABLE {table}")
    return lab


def numbers(until: int) -> str:
    """A query of the numbers below `until`, at most 8,000."""
    digits = [f"SELECT {digit} AS d" for digit in range(20)]
    each = " UNION ALL ".join(digits)
    all_numbers = f"SELECT a.d + 20 * b.d + 400 * c.d AS n FROM ({each}) AS a JOIN ({each}) AS b JOIN ({each}) AS c"
    return f"SELECT n FROM ({all_numbers}) AS numbers WHERE n < {until}"


def test_a_filter_on_a_day_reads_the_rows_of_that_day(many_days: Lab) -> None:
    for name in VIEWS:
        assert_day_filter_reads_a_day(name, many_days)


def test_a_filter_on_a_day_reads_only_that_day_with_a_reporting_zone(berlin: Lab, many_days: Lab) -> None:  # noqa: F811
    for name in VIEWS:
        assert_day_filter_reads_a_day(name, many_days)
        hours = many_days.query(f"SELECT hour_utc, hour_local FROM {name} WHERE hour_utc = '2026-02-01 23:00'")
        assert set(hours) == {(datetime(2026, 2, 1, 23), datetime(2026, 2, 2))}, name


def assert_day_filter_reads_a_day(name: str, lab: Lab) -> None:
    """The server's count of read rows includes the look-ups of joins; the view is nested as BI tools nest it."""
    query = f"SELECT * FROM (SELECT * FROM {name}) AS v WHERE hour_utc >= '2026-02-01' AND hour_utc < '2026-02-02'"
    result = []
    read = rows_read(lab, lambda: result.extend(lab.query(query)))
    total = lab.one(f"SELECT COUNT(*) FROM {FACTS[name]}")
    assert len(result) == total / DAYS, name
    assert read <= 4 * len(result) < total / 10, name


def test_the_plan_of_a_day_uses_the_index(many_days: Lab) -> None:
    """EXPLAIN of a view requires privileges on its tables, so the administrator runs it."""
    for name in VIEWS:
        query = f"SELECT * FROM {name} WHERE hour_utc >= '2026-02-01' AND hour_utc < '2026-02-02'"
        with warehouse("warehouse_admin") as conn:
            plan = rows(conn.cursor(), f"EXPLAIN FORMAT=TRADITIONAL {query}")
        assert (plan[0]["type"], plan[0]["key"]) == ("range", "by_time" if "events" in name else "PRIMARY"), plan


@pytest.mark.one_server
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-- The sales.\nCREATE OR REPLACE VIEW shop.bi_x AS\nSELECT\n  x\nFROM t;\n", "lacks its grain.*One row per"),
        (
            "-- One row per x.\nCREATE OR REPLACE VIEW shop.bi_x AS\nSELECT\n  -- BIGINT: X.\n  x,\n  -- Y.\n  y\nFROM t;\n",
            "shop.bi_x has no description at `-- Y.`.*TYPE: meaning",
        ),
    ],
)
def test_a_view_that_is_not_described_is_refused(text: str, message: str) -> None:
    with pytest.raises(bi_views.ViewNotDescribed, match=message):
        list(bi_views.parse_views(SqlFile("bi_views", Path("bi_views.sql"), text)))
