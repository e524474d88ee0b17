"""The shop's demo traffic: every event has a fate, and none is lost or duplicated on the way."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta

from include import pipelines
from include.demo import ecommerce as demo
from include.demo.traffic import run_traffic
from include.lake.counts import minute_counts
from tests.reference import ecommerce as reference

SHOP = pipelines.get("ecommerce")
NOW = datetime(2026, 9, 1, 12, 30)


def test_the_mix_has_every_kind_and_the_gaps_of_a_real_log():
    rng = random.Random(1)
    events = [demo.event(rng, NOW) for _ in range(5_000)]
    kinds = Counter(event["event_type"] for event in events)
    assert set(kinds) == {"view", "cart", "remove_from_cart", "purchase", "wishlist"}
    assert kinds["view"] > 4_500 and kinds["purchase"] > 40
    assert 0.05 < sum("category_code" not in event for event in events) / 5_000 < 0.3
    assert 0.05 < sum("brand" not in event for event in events) / 5_000 < 0.4
    assert all(set(event) <= set(SHOP.fields) for event in events)
    assert len({event["id"] for event in events}) == 5_000


def test_events_are_counted_or_ignored_and_broken_ones_are_rejected():
    rng = random.Random(2)
    fates = Counter(reference.fate_of(demo.event(rng, NOW)).name for _ in range(3_000))
    assert set(fates) == {"counted", "ignored"} and fates["ignored"] < 30
    broken = [reference.fate_of(demo.broken_event(rng, NOW)) for _ in range(60)]
    assert {(fate.name, fate.reason) for fate in broken} == {
        ("rejected", "event_time"), ("rejected", "product_id"), ("rejected", "price"),
    }  # fmt: skip


def test_the_same_seed_gives_the_same_events_and_a_product_keeps_its_price():
    first, again = random.Random(5), random.Random(5)
    events = [demo.event(first, NOW) for _ in range(2_000)]
    assert events == [demo.event(again, NOW) for _ in range(2_000)]
    prices = {(event["product_id"], event["price"]) for event in events}
    assert len(prices) == len({product for product, _ in prices}) > 100


def test_every_event_is_in_the_lake_once(lake_schema, reader):
    until = datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=30)
    summary = run_traffic(SHOP, events=300, seconds=2, late=0.1, duplicate=0.2, broken=0.1, seed=7, until=until)
    assert summary.events == 300 and summary.duplicates > 30
    counts = minute_counts(reader, SHOP, summary.minutes)
    assert sum(rows for rows, _ in counts.values()) == 300
