"""The facts of a list of raw shop events, in plain Python, written from the design (§2, §6, §9) alone.

It shares no code with `include/`, so that a mistake has to be made twice to go unseen. Rows are those of the lake, or of a
file: a row without an id is a separate event, and a row without create_time belongs to the minute of its event_time.
"""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import NamedTuple

Row = Mapping[str, str | None]

KINDS = ("view", "cart", "remove_from_cart", "purchase")
_COLUMN_OF = dict(zip(KINDS, ("views", "carts", "removals", "purchases"), strict=True))
_CENT = Decimal("0.01")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d)(:\d\d(?:\.\d{1,9})?)?(Z| UTC|[+-]\d\d:\d\d)?")
_WHOLE_NUMBER = re.compile(r"([0-9]{1,40})(?:\.0*)?")
_UUID_EPOCH = datetime(1582, 10, 15)


class Operation(NamedTuple):
    """One row of ecommerce.operations, without its number."""

    minute: datetime
    event_time: datetime
    event_type: str
    department: str
    product: str
    brand: str
    price: Decimal | None
    revenue: Decimal


@dataclass(frozen=True)
class Fate:
    """Where one row goes. `kind` is that of an ignored row, `reason` the class of a rejection."""

    name: str  # counted, ignored or rejected
    kind: str | None = None
    reason: str | None = None  # event_time, product_id, category_code, brand or price
    operation: Operation | None = None


@dataclass
class Minute:
    """What the ledger records about one minute."""

    raw_rows: int = 0
    counted_rows: int = 0
    rejected_by_reason: Counter[str] = field(default_factory=Counter)
    ignored_by_kind: Counter[str] = field(default_factory=Counter)


@dataclass
class Sales:
    """One row of ecommerce.sales_hourly without its key; the fields have the columns' names."""

    views: int = 0
    carts: int = 0
    removals: int = 0
    purchases: int = 0
    revenue: Decimal = Decimal(0)


def lake_rows(rows: Iterable[Row]) -> list[Row]:
    """Each event once, in its last version; versions of an event have the same create_time and id."""
    result: dict[object, Row] = {}
    for number, row in enumerate(rows):
        key = (row.get("create_time") or _time(row.get("event_time")), row.get("id")) if _text(row, "id") else number
        result[key] = row
    return list(result.values())


def operations(rows: Iterable[Row]) -> Counter[Operation]:
    """How often each operation occurs: two events may be equal in every column that the warehouse keeps."""
    return Counter(fate.operation for row in lake_rows(rows) if (fate := fate_of(row)).operation)


def sales(rows: Iterable[Row]) -> dict[tuple[datetime, str, str, str], Sales]:
    """Sales by hour of event_time, department, product and brand."""
    result: dict[tuple[datetime, str, str, str], Sales] = {}
    for operation, times in operations(rows).items():
        key = (_hour(operation.event_time), operation.department, operation.product, operation.brand)
        sums = result.setdefault(key, Sales())
        column = _COLUMN_OF[operation.event_type]
        setattr(sums, column, getattr(sums, column) + times)
        sums.revenue += operation.revenue * times
    return result


def visits(rows: Iterable[Row]) -> dict[datetime, tuple[int, int, int]]:
    """(visits, cart additions, removals) by hour of event_time; hours without an event are absent."""
    result: dict[datetime, list[int]] = {}
    for operation, times in operations(rows).items():
        counts = result.setdefault(_hour(operation.event_time), [0, 0, 0])
        counts[0] += times * (operation.event_type == "view")
        counts[1] += times * (operation.event_type == "cart")
        counts[2] += times * (operation.event_type == "remove_from_cart")
    return {hour: (views, carts, removals) for hour, (views, carts, removals) in result.items()}


def minutes(rows: Iterable[Row]) -> dict[datetime, Minute]:
    """The ledger of these rows."""
    result: dict[datetime, Minute] = {}
    for row in lake_rows(rows):
        minute = result.setdefault(minute_of(row), Minute())
        minute.raw_rows += 1
        fate = fate_of(row)
        if fate.name == "counted":
            minute.counted_rows += 1
        elif fate.name == "ignored":
            minute.ignored_by_kind[fate.kind] += 1
        else:
            minute.rejected_by_reason[fate.reason] += 1
    return result


def fate_of(row: Row) -> Fate:
    """The row's one fate, decided in the order of §9; its create_time is assumed to be valid."""
    kind = (_text(row, "event_type") or "none").lower()
    if kind not in KINDS:
        return Fate("ignored", kind=kind)
    event_time = _time(row.get("event_time"))
    if event_time is None:
        return Fate("rejected", reason="event_time")
    product_id = _WHOLE_NUMBER.fullmatch(str(row.get("product_id") or "").strip(" "))
    if not product_id or not 0 < int(product_id[1]) < 2**63:
        return Fate("rejected", reason="product_id")
    parts = [part.strip(" ") or "other" for part in (_text(row, "category_code") or "").split(".")]
    department, product, brand = parts[0], parts[-1], _text(row, "brand") or "other"
    if max(len(department), len(product)) > 64:
        return Fate("rejected", reason="category_code")
    if len(brand) > 64:
        return Fate("rejected", reason="brand")
    price = _amount(row.get("price"))
    cents = None if price is None or price < 0 else price.quantize(_CENT, ROUND_HALF_UP)
    if cents is not None and cents >= 10**10:
        cents = None
    if kind == "purchase" and cents is None:
        return Fate("rejected", reason="price")
    revenue = cents if kind == "purchase" else Decimal(0)
    return Fate(
        "counted",
        operation=Operation(minute_of(row), event_time, kind, department, product, brand, cents, revenue),
    )


def minute_of(row: Row) -> datetime:
    """The minute of create_time, or of event_time if a file has no create_time."""
    if row.get("create_time"):
        time = _UUID_EPOCH + timedelta(microseconds=uuid.UUID(row["create_time"]).time // 10)
    else:
        time = _time(row.get("event_time"))
    return time.replace(second=0, microsecond=0)


def _hour(time: datetime) -> datetime:
    return time.replace(minute=0, second=0, microsecond=0)


def _text(row: Row, column: str) -> str | None:
    """The text without surrounding spaces, None if it is blank or a word for null."""
    text = (row.get(column) or "").strip(" ")
    return None if text in ("", "NULL", "null", "\\N", "None", "NaN", "nan") else text


def _time(text: str | None) -> datetime | None:
    """Naive UTC of a readable time from 1970 to 2100."""
    match = _TIME.fullmatch((text or "").strip(" "))
    if not match:
        return None
    day, minute, second, zone = match.groups()
    zone = {None: "+00:00", "Z": "+00:00", " UTC": "+00:00"}.get(zone, zone)
    try:
        result = datetime.fromisoformat(f"{day}T{minute}{(second or ':00')[:10]}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return result.replace(tzinfo=None) if 1970 <= result.year <= 2100 else None


def _amount(text: str | None) -> Decimal | None:
    """A finite decimal with an exponent below 100 in size and without underscores; None for any other text."""
    try:
        result = Decimal((text or "").strip(" "))
    except InvalidOperation:
        return None
    is_usual = result.is_finite() and "_" not in text and abs(result.adjusted()) < 100
    return result if is_usual else None
