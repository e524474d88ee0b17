"""The second pipeline through its own DAG: a file in the format of the public data set, then what may happen to its events later.

The tests build on each other in the order of the file, because every run of the chain costs seconds.
"""

from __future__ import annotations

import csv
import gzip
import secrets
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal

import pytest

from bench import shop_file
from include import pipelines
from include.files.imports import import_events
from include.files.replay_csv import replay_csv
from include.files.replay_options import ReplayOptions
from include.kafka.ingest_mode import DAG, SETTING
from include.kafka.topics import make_topics
from include.lake.session import lake
from include.lake.writer import EventWriter
from include.verify.verify import verify
from include.warehouse.schema import apply_schema
from include.warehouse.session import warehouse
from tests.e2e.runs import CHAIN, as_events, as_if_settled, change, count, query, text
from tests.e2e.shop_comparison import must_equal_reference, visits
from tests.kafka.conftest import consume
from tests.reference import ecommerce as reference
from tests.reference.shop import event, purchase, view

pytestmark = pytest.mark.usefixtures("schemas")

SHOP = pipelines.get("ecommerce")
MIDNIGHT = datetime(2019, 11, 2, 0, 0, 3)
BEFORE_MIDNIGHT = MIDNIGHT - timedelta(minutes=1)  # another hour, and another day
ADDED = ("create_time", "id")  # what the public data set does not have
HEADER = [name for name in view(MIDNIGHT) if name not in ADDED]

FILE = [
    view(BEFORE_MIDNIGHT),
    view(BEFORE_MIDNIGHT),  # an equal row is another event
    event("cart", BEFORE_MIDNIGHT, category_code="NaN", brand="NaN"),
    purchase(BEFORE_MIDNIGHT, price="0.1"),
    purchase(BEFORE_MIDNIGHT, price="0.2"),
    event("remove_from_cart", MIDNIGHT, brand=None, price="NaN"),
    view(MIDNIGHT, category_code="electronics.audio.headphone", brand="Größe 38"),
    view(MIDNIGHT, price="-1"),  # only purchases need a price
    view(MIDNIGHT, event_type="wishlist"),
    view(MIDNIGHT, event_type="NaN"),
    purchase(MIDNIGHT, price="-1"),
    purchase(MIDNIGHT, price="NaN"),
    purchase(MIDNIGHT, product_id="p-17"),
    view(MIDNIGHT, brand="x" * 65),
]
ROWS = [{name: cell for name, cell in row.items() if name not in ADDED} for row in FILE]
# As a producer sends them: with ids, their own create_time, and an event_time of the hour before.
LATE = [
    view(MIDNIGHT + timedelta(seconds=20), 40),
    purchase(MIDNIGHT, 41, event_time=f"{BEFORE_MIDNIGHT} UTC", price="1000000.99"),
]


@pytest.fixture(scope="module")
def csv_file(tmp_path_factory):
    """The rows as a file, with one more row that cannot be an event."""
    file = tmp_path_factory.mktemp("import") / "2019-Nov.csv"
    with file.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, HEADER, extrasaction="ignore")
        writer.writeheader()
        writer.writerows([*ROWS, {**ROWS[0], "event_time": "yesterday"}])
    return file


@pytest.fixture
def topic(kafka_broker, monkeypatch):
    """The pipeline with a topic of this test's own."""
    monkeypatch.setenv(SETTING, DAG)
    result = replace(SHOP, topic=f"shop_{secrets.token_hex(6)}")
    make_topics([result])
    return result


def published() -> dict[str, list[tuple]]:
    """All that has been published, without times and batches: if two results are equal, nothing has changed.

    Payloads of rejected events are left out: only those of messages have a create_time.
    """
    operations = "minute, event_time, event_type, department, product, brand, price, revenue"
    tables = {
        f"SELECT {operations} FROM ecommerce.operations",
        "SELECT * FROM ecommerce.sales_by_minute",
        "SELECT * FROM ecommerce.visits_by_minute",
        "SELECT * FROM ecommerce.sales_hourly",
        "SELECT * FROM ecommerce.visits_hourly",
        "SELECT origin_key, minute, reason FROM etl.rejected_events",
        "SELECT minute, raw_rows, counted_rows, id_checksum, state FROM etl.minute_ledger",
    }
    return {table: sorted(query(table), key=repr) for table in tables}


@pytest.mark.both_servers
def test_an_imported_file_becomes_the_facts_of_the_reference(airflow, csv_file):
    summary = import_events(SHOP, csv_file)
    assert (summary.written, summary.rejected) == (len(ROWS), 1)
    run = airflow.run("ecommerce_minute").must_succeed()
    assert run.tasks == dict.fromkeys(CHAIN, "success")
    must_equal_reference(ROWS)
    assert count("ecommerce.operations_staged") == 0


def test_the_same_file_again_changes_nothing(airflow, csv_file):
    before = published()
    as_if_settled()
    import_events(SHOP, csv_file)
    airflow.run("ecommerce_minute").must_succeed()
    assert published() == before


def test_the_same_file_through_a_topic_changes_nothing(airflow, csv_file, topic):
    before = published()
    as_if_settled()
    summary = replay_csv(topic, csv_file, ReplayOptions(rate=None, shift=False))
    assert (summary.sent, summary.rejected) == (len(ROWS), 1)
    assert consume(replace(topic, name=topic.topic)).written == len(ROWS)  # in its own consumer group
    airflow.run("ecommerce_minute").must_succeed()
    assert published() == before


def test_late_events_change_their_hours_once_however_often_they_are_delivered(airflow):
    for _ in range(2):
        with lake("lake_writer") as session:
            EventWriter(session, SHOP).write(as_events([*LATE, *LATE]))
    as_if_settled()
    airflow.run("ecommerce_minute").must_succeed()
    must_equal_reference([*ROWS, *LATE])


def test_a_run_with_from_and_to_repairs_what_was_changed_by_hand(airflow):
    before = published()
    change(
        "DELETE FROM ecommerce.operations WHERE event_type = 'view'",
        "UPDATE ecommerce.sales_hourly SET revenue = revenue + 0.01",
        "DELETE FROM ecommerce.visits_hourly",
        "DELETE FROM ecommerce.sales_by_minute LIMIT 1",
    )
    assert published() != before
    first, last = BEFORE_MIDNIGHT.replace(second=0), MIDNIGHT.replace(second=0)
    conf = {"from": text(first), "to": text(last + timedelta(minutes=1))}
    airflow.run("ecommerce_minute", conf=conf).must_succeed()
    assert published() == before


def test_a_metric_that_an_older_warehouse_lacks_is_filled_by_a_backfill(airflow):
    expected = reference.visits([*ROWS, *LATE])
    with warehouse("warehouse_admin") as conn:
        conn.cursor().execute("ALTER TABLE ecommerce.visits_hourly DROP COLUMN removals")
    apply_schema()
    assert visits() == {hour: (*numbers[:2], None) for hour, numbers in expected.items()}
    as_if_settled()
    report = verify([SHOP], patience=30)
    assert report.pipelines[0].differences.counts == {"facts_visits_hourly": len(expected)}
    assert "found removals=None" in str(report)
    for hour in expected:
        interval = [f"{at:%Y-%m-%dT%H:%M:%S}+00:00" for at in (hour, hour + timedelta(hours=1))]
        airflow.run("ecommerce_reconcile", interval=interval).must_succeed()
    assert visits() == expected


def test_a_generated_day_sums_to_the_cent_with_csv_and_decimal(airflow, tmp_path):
    path = tmp_path / "2020-Jan.csv.gz"
    shop_file.write(path, shop_file.Request(2_000, date(2020, 1, 1), days=1))
    revenue: dict[datetime, Decimal] = defaultdict(Decimal)
    kinds: dict[datetime, Counter[str]] = defaultdict(Counter)
    with gzip.open(path, "rt", newline="") as lines:
        for row in csv.DictReader(lines):
            hour = datetime.fromisoformat(f"{row['event_time'][:13]}:00:00")
            kinds[hour][row["event_type"]] += 1
            if row["event_type"] == "purchase":
                revenue[hour] += Decimal(row["price"])
    assert len(kinds) == 24 and len(revenue) > 5

    assert import_events(SHOP, path).written == 2_000
    runs = 0
    while not runs or count("etl.minute_ledger WHERE pipeline = 'ecommerce' AND pending = 1"):
        airflow.run("ecommerce_minute").must_succeed()
        as_if_settled()
        runs += 1
        assert runs < 6, "A day of 1,440 minutes needs fewer runs than this."
    sums = "SUM(revenue), SUM(views), SUM(carts), SUM(purchases)"
    records = query(f"SELECT hour, {sums} FROM ecommerce.sales_hourly WHERE hour >= '2020-01-01' GROUP BY hour")
    assert {hour: numbers for hour, *numbers in records} == {
        hour: [revenue[hour], *(counts[kind] for kind in ("view", "cart", "purchase"))]
        for hour, counts in kinds.items()
    }
    visits = query("SELECT hour, visits, cart_additions FROM ecommerce.visits_hourly WHERE hour >= '2020-01-01'")
    assert {hour: numbers for hour, *numbers in visits} == {
        hour: [counts["view"], counts["cart"]] for hour, counts in kinds.items()
    }


def test_verify_finds_nothing_and_then_a_change_made_by_hand(airflow):
    as_if_settled()
    assert verify([SHOP], patience=30).clean
    change("UPDATE ecommerce.sales_hourly SET revenue = revenue + 0.01 WHERE purchases > 0")
    report = verify([SHOP], patience=30)
    assert not report.clean and "facts_sales_hourly" in str(report)
