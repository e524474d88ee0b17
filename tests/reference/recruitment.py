"""The recruitment facts of a list of raw events, in plain Python, written from the design (§6, §8) alone.

It shares no code with `include/`, so that a mistake has to be made twice to go unseen. The end-to-end tests compare
the warehouse with it, fact by fact and minute by minute.
"""

from __future__ import annotations

import csv
import json
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from pathlib import Path

Row = Mapping[str, str | None]
FactKey = tuple[int, date, int, int, int, int]  # job_id, dates, hours, publisher_id, campaign_id, group_id

_UUID_EPOCH = 0x01B21DD213814000  # 100 ns steps from 1582-10-15 to 1970-01-01
_UNIX_EPOCH = datetime(1970, 1, 1)
_EARLIEST, _MAX_AHEAD = datetime(2000, 1, 1), timedelta(days=1)
_LARGEST_ID = 2**63 - 1
_LONG_EXPONENT = re.compile(r"[eE][+-]?[0-9]{3}")  # not a number that a person or a program would write for money
_BID_LIMIT, _BID_STEP = 10**14, Decimal("0.000001")  # DECIMAL(20, 6)
_KINDS = {
    "click": "click",
    "clicks": "click",
    "conversion": "conversion",
    "qualified": "qualified",
    "unqualified": "unqualified",
}
_PAGE_VIEW = "page view"
NO_KIND = None  # an event that names no kind and is not a page view; the design has no name for it
_UNREADABLE = object()
_NULL_WORDS = ("", "NULL", "null", "\\N", "None", "NaN", "nan")


@dataclass(frozen=True)
class Fate:
    """Where one row goes. `kind` is that of a counted or ignored row, `reason` the class of a rejection."""

    name: str  # counted, ignored or rejected
    kind: str | None = None
    reason: str | None = None  # create_time, ts, job_id or bid
    key: FactKey | None = None
    bid: Decimal | None = None


@dataclass
class Minute:
    """What the ledger records about one minute."""

    raw_rows: int = 0
    counted_rows: int = 0
    rejected_rows: int = 0
    ignored_by_kind: Counter[str | None] = field(default_factory=Counter)
    rejected_by_reason: Counter[str] = field(default_factory=Counter)

    @property
    def ignored_rows(self) -> int:
        return sum(self.ignored_by_kind.values())


@dataclass
class Fact:
    """One row of recruitment.events without its key; the fields have the columns' names."""

    company_id: int | None = None
    disqualified_application: int = 0
    qualified_application: int = 0
    conversion: int = 0
    clicks: int = 0
    impressions: int = 0
    bid_sum: Decimal = Decimal(0)
    bid_count: int = 0
    sources: str = "Cassandra"
    latest_update_time: datetime = datetime.min

    @property
    def bid_set(self) -> Decimal | None:
        """Average of the non-null bids of clicks, at the column's six decimals."""
        if not self.bid_count:
            return None
        return (self.bid_sum / self.bid_count).quantize(_BID_STEP, ROUND_HALF_UP)

    @property
    def spend_hour(self) -> Decimal:
        return self.bid_sum


def read_rows(file: Path) -> list[dict[str, str | None]]:
    """The rows of a CSV file; an empty cell is None."""
    with file.open(encoding="utf-8", newline="") as lines:
        return [{name: text or None for name, text in row.items()} for row in csv.DictReader(lines)]


def companies(job_rows: Iterable[Row]) -> dict[int, int | None]:
    """company_id by job id."""
    return {int(row["id"]): int(row["company_id"]) if row["company_id"] else None for row in job_rows}


def lake_rows(rows: Iterable[Row]) -> list[dict[str, str | None]]:
    """The rows as the lake keeps them: one per create_time, the last version as a whole."""
    kept: dict[uuid.UUID, dict[str, str | None]] = {}
    for row in rows:
        event_id = _time_uuid(row.get("create_time"))
        if event_id is not None:
            kept[event_id] = {name: text for name, text in row.items() if not _is_empty(text)}
    return list(kept.values())


def never_reached_the_lake(rows: Iterable[Row]) -> list[Row]:
    """Rows whose create_time is not a time-UUID: rejected on import, in no minute of the ledger."""
    return [row for row in rows if _time_uuid(row.get("create_time")) is None]


def facts(rows: Iterable[Row], jobs: Mapping[int, int | None], recover: bool = True) -> dict[FactKey, Fact]:
    """Every fact of these rows by its key. `jobs` is company_id by job id."""
    result: dict[FactKey, Fact] = {}
    for row in lake_rows(rows):
        fate = fate_of(row, recover)
        if fate.name != "counted":
            continue
        fact = result.setdefault(fate.key, Fact(company_id=jobs.get(fate.key[0])))
        fact.impressions += fate.kind == _PAGE_VIEW
        fact.clicks += fate.kind == "click"
        fact.conversion += fate.kind == "conversion"
        fact.qualified_application += fate.kind == "qualified"
        fact.disqualified_application += fate.kind == "unqualified"
        if fate.kind == "click" and fate.bid is not None:
            fact.bid_sum += fate.bid
            fact.bid_count += 1
        fact.latest_update_time = max(fact.latest_update_time, time_of(_time_uuid(row["create_time"])))
    return result


def minutes(rows: Iterable[Row], recover: bool = True) -> dict[datetime, Minute]:
    """The ledger of these rows by the minute (naive, UTC) of create_time."""
    result: dict[datetime, Minute] = {}
    for row in lake_rows(rows):
        minute_start = time_of(_time_uuid(row["create_time"])).replace(second=0, microsecond=0)
        minute = result.setdefault(minute_start, Minute())
        fate = fate_of(row, recover)
        minute.raw_rows += 1
        if fate.name == "counted":
            minute.counted_rows += 1
        elif fate.name == "ignored":
            minute.ignored_by_kind[fate.kind] += 1
        else:
            minute.rejected_rows += 1
            minute.rejected_by_reason[fate.reason] += 1
    return result


def fate_of(row: Row, recover: bool = True) -> Fate:
    """The row's one fate, decided in the order of §8."""
    event_id = _time_uuid(row.get("create_time"))
    if event_id is None or not _EARLIEST <= time_of(event_id) <= _utc_now() + _MAX_AHEAD:
        return Fate("rejected", reason="create_time")
    raw_kind, raw_job, raw_publisher = _recover_fields(row, recover)
    raw_kind = raw_kind and raw_kind.lower()

    page_view = raw_kind is None and _whole_number(row.get("ev")) == 1
    kind = _PAGE_VIEW if page_view else _KINDS.get(raw_kind)
    if kind is None:
        return Fate("ignored", kind=raw_kind or NO_KIND)
    event_time = _time(row.get("ts"))
    if event_time is None:
        return Fate("rejected", kind=kind, reason="ts")
    job_id = _whole_number(raw_job)
    if job_id is _UNREADABLE:
        return Fate("rejected", kind=kind, reason="job_id")
    if job_id is None or job_id <= 0:
        return Fate("ignored", kind="no_job")
    bid = _amount(row.get("bid")) if kind == "click" else None
    if bid is _UNREADABLE or (bid is not None and bid < 0):
        return Fate("rejected", kind=kind, reason="bid")
    if bid is not None and bid < _BID_LIMIT:  # as its column keeps it
        bid = bid.quantize(_BID_STEP, ROUND_HALF_UP)
    if bid is not None and bid >= _BID_LIMIT:
        return Fate("rejected", kind=kind, reason="bid")

    key = (
        job_id,
        event_time.date(),
        event_time.hour,
        _key(_first_of_list(raw_publisher)),
        _key(row.get("campaign_id")),
        _key(row.get("group_id")),
    )
    return Fate("counted", kind=kind, key=key, bid=bid)


def _utc_now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def time_of(event_id: uuid.UUID) -> datetime:
    """The time inside a time-UUID: naive, UTC, microseconds."""
    return _UNIX_EPOCH + timedelta(microseconds=(event_id.time - _UUID_EPOCH) // 10)


def _recover_fields(row: Row, recover: bool) -> tuple[str | None, object, object]:
    """custom_track, job_id and publisher_id; with `recover`, the empty ones are filled from `ed`."""
    kind, job, publisher = (_text(row.get(name)) for name in ("custom_track", "job_id", "publisher_id"))
    if not recover:
        return kind, job, publisher
    details = _details(row.get("ed"))
    if kind is None and _whole_number(row.get("ev")) == 2:
        custom_event = details.get("customevent")
        kind = _text(custom_event) if isinstance(custom_event, str) else None
    return (
        kind,
        _first_of_list(details.get("jobid")) if job is None else job,
        details.get("publisherid") if publisher is None else publisher,
    )


def _details(text: str | None) -> dict[str, object]:
    """The object in `ed` with its keys in lower case and its numbers as written; {} if `ed` is not an object."""
    if _is_empty(text):
        return {}
    try:
        result = json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
    except ValueError:
        return {}
    return {name.lower(): value for name, value in result.items()} if isinstance(result, dict) else {}


def _time_uuid(text: str | None) -> uuid.UUID | None:
    """A version 1 UUID in its usual 36 characters, else None."""
    try:
        result = uuid.UUID(text or "")
    except ValueError:
        return None
    return result if result.version == 1 and str(result) == text.lower() else None


def _time(text: str | None) -> datetime | None:
    """A readable `ts` from 1970 to 2100 as naive UTC, else None."""
    try:
        result = datetime.fromisoformat((text or "").strip())
        result = result.astimezone(UTC).replace(tzinfo=None) if result.tzinfo else result
    except (ValueError, OverflowError):
        return None
    return result if 1970 <= result.year <= 2100 else None


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and value.strip() in _NULL_WORDS)


def _text(value: str | None) -> str | None:
    return None if _is_empty(value) else value.strip()


def _amount(value: object) -> object:
    """A finite decimal, None when empty, else _UNREADABLE."""
    if _is_empty(value):
        return None
    if not isinstance(value, str) or "_" in value or _LONG_EXPONENT.search(value):
        return _UNREADABLE
    try:
        result = Decimal(value.strip())
    except InvalidOperation:
        return _UNREADABLE
    return result if result.is_finite() else _UNREADABLE


def _whole_number(value: object) -> object:
    """A whole number in the range of ids ("258.0" is 258), None when empty, else _UNREADABLE."""
    result = _amount(value)
    if result is None or result is _UNREADABLE:
        return result
    fits = abs(result) <= _LARGEST_ID and result == result.to_integral_value()
    return int(result) if fits else _UNREADABLE


def _first_of_list(value: object) -> object:
    """ "4,1,2,3,5" and [4, 1, 2] give "4"; any other value is returned as it is."""
    if isinstance(value, list):
        return value[0] if value else None
    if isinstance(value, str) and "," in value:
        return value.split(",")[0]
    return value


def _key(value: object) -> int:
    """A key of the fact, 0 when absent, unreadable or negative."""
    result = _whole_number(value)
    return max(result, 0) if isinstance(result, int) else 0
