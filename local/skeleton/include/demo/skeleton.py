"""Invented events of skeleton: sales, some refunds, and a kind that is not counted."""

from __future__ import annotations

import random
from datetime import datetime, timedelta


def dimension_rows() -> dict[str, list[dict]]:
    """There are no dimensions."""
    return {}


def event(rng: random.Random, now: datetime) -> dict[str, str]:
    """The fields of one raw event that happened just before `now` (UTC)."""
    kind = rng.choices(("sale", "refund", "inquiry"), weights=(80, 5, 15))[0]
    happened = now - timedelta(seconds=rng.uniform(0, 2))
    fields = {"event_time": happened.isoformat(" ", "milliseconds"), "event_type": kind}
    return fields if kind == "inquiry" else fields | {"value": f"{rng.lognormvariate(3, 1):.2f}"}


def broken_event(rng: random.Random, now: datetime) -> dict[str, str]:
    """A sale that the transform must reject: an unreadable time, no value, or a negative one."""
    name, text = rng.choice((("event_time", "yesterday"), ("value", ""), ("value", "-1.50")))
    return event(rng, now) | {"event_type": "sale", "value": "9.99"} | {name: text}
