"""Visits to an invented shop: mostly views, few purchases, and the gaps of a real shop's log. Its products are invented too."""

from __future__ import annotations

import functools
import random
import uuid
from datetime import datetime, timedelta

# Each category: category_code, brands, lowest and highest price. Products without code and brand are common in real logs.
_CATEGORIES = (
    ("electronics.smartphone", ("nordlys", "pika", "oval"), 129, 1_199),
    ("electronics.audio.headphone", ("pika", "hush"), 19, 349),
    ("electronics.clocks", ("nordlys", "tick"), 49, 799),
    ("appliances.kitchen.refrigerators", ("frost", "polar"), 299, 1_899),
    ("appliances.environment.vacuum", ("hush", "whirl"), 59, 499),
    ("computers.notebook", ("oval", "plank"), 399, 2_499),
    ("furniture.bedroom.bed", ("plank", None), 149, 999),
    ("apparel.shoes", ("stride", None), 25, 189),
    (None, ("stride", None), 2, 99),
)
_FIRST_PRODUCT, _PRODUCTS = 9_000_001, 120
_FIRST_CATEGORY = 2_090_000_000_000_000_001
_FIRST_USER, _USERS = 590_000_001, 4_000
PAST = timedelta(hours=25)  # a day of full hours for the board
_KINDS = {"view": 940, "cart": 36, "remove_from_cart": 8, "purchase": 15, "wishlist": 1}  # of 1,000 events


def dimension_rows() -> dict[str, list[dict]]:
    """No dimensions: a shop's events carry everything that its facts need."""
    return {}


def event(rng: random.Random, now: datetime) -> dict[str, str]:
    """The raw columns of one event that happened just before `now` (UTC)."""
    [kind] = rng.choices(list(_KINDS), list(_KINDS.values()))
    return _visit(rng, now, kind)


def past_event(rng: random.Random, at: datetime, age: timedelta) -> dict[str, str]:
    """The raw columns of an event of that age: the shop has not changed since."""
    return event(rng, at)


def broken_event(rng: random.Random, now: datetime) -> dict[str, str]:
    """A purchase that the transform must reject: unreadable event_time or product_id, or an invalid price."""
    column, text = rng.choice(
        (("event_time", "yesterday"), ("product_id", "p-17"), ("price", "-3.00"), ("price", "NaN"))
    )
    return _visit(rng, now, "purchase") | {column: text}


def _visit(rng: random.Random, now: datetime, kind: str) -> dict[str, str]:
    """`event_time` has whole seconds, as in the public data set; the visitor's clock lags a little."""
    number = int(_PRODUCTS * rng.random() ** 2)  # a few products get most of the visits
    category, brand, price = _product(number)
    user = _FIRST_USER + rng.randrange(_USERS)
    values = {
        "id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "event_time": f"{now - timedelta(seconds=rng.uniform(0, 2)):%Y-%m-%d %H:%M:%S} UTC",
        "event_type": kind,
        "product_id": str(_FIRST_PRODUCT + number),
        "category_id": str(_FIRST_CATEGORY + number % len(_CATEGORIES)),
        "price": price,
        "user_id": str(user),
        "user_session": str(uuid.UUID(int=user << 64 | now.hour, version=4)),
    }
    optional_fields = {"category_code": category, "brand": brand}
    return values | {name: text for name, text in optional_fields.items() if text}


@functools.cache
def _product(number: int) -> tuple[str | None, str | None, str]:
    """Category, brand and price of that product: always the same."""
    category, brands, lowest, highest = _CATEGORIES[number % len(_CATEGORIES)]
    cents = random.Random(number).randrange(lowest * 100, highest * 100)
    return category, brands[number // len(_CATEGORIES) % len(brands)], f"{cents // 100}.{cents % 100:02}"
