"""Rejected events by reason, with samples. Only the account of warehouse_etl can read payloads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from include import pipelines
from include.connections import WAREHOUSE_BI, WAREHOUSE_ETL, ConnectionMissing, Endpoint, endpoint
from include.listing import Listing, cell
from include.warehouse import rejected
from include.warehouse.rejected import Selection
from include.warehouse.session import warehouse
from include.window import in_order

_COLUMNS = {
    "pipeline": "pipeline", "origin": "origin", "rows": "rows", "minutes": "minutes", "first_minute": "first minute",
    "last_minute": "last minute", "newest": "last rejected", "reason": "reason",
}  # fmt: skip


def rejected_events(
    pipeline: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    reason: str | None = None,
) -> Listing:
    """Rejected events of one pipeline or all, in a range of minutes or in all; `reason` is the beginning of their reason."""
    chosen = pipelines.named_or_all(pipeline)
    account, payloads = _account()
    with warehouse(account) as conn:
        groups = rejected.by_reason(conn, chosen, Selection(reason, *in_order(start, end)), payloads=payloads)
    matching = "matching " if start or end or reason else ""
    empty_text = f"There are no {matching}rejected events in {', '.join(sorted(pipeline.name for pipeline in chosen))}."
    return Listing(groups, groups, _COLUMNS, empty_text, _samples)


def _samples(group: Mapping) -> Iterable[str]:
    for sample in group["samples"]:
        yield f"{sample['origin_key']}: {cell(sample['reason'])}"
        if "payload" in sample:
            yield f"  {cell(sample['payload'])}"


def _account() -> tuple[Endpoint, bool]:
    try:
        return endpoint(WAREHOUSE_ETL), True
    except ConnectionMissing:
        return endpoint(WAREHOUSE_BI), False
