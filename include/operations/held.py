"""Held minutes: list them, release them, and accept the drift that they are held for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby

from include import listing, pipelines
from include.connections import WAREHOUSE_ETL
from include.listing import Listing
from include.warehouse import drifts, held
from include.warehouse.session import warehouse
from include.window import WindowRefused, minute_or_range

_COLUMNS = {
    "pipeline": "pipeline", "minutes": "minutes", "first_minute": "first minute", "last_minute": "last minute",
    "held_since": "held since", "rows_before": "rows before", "rows_now": "rows now", "status": "status",
    "reason": "reason",
}  # fmt: skip
_SHOWN_ROWS = 2  # from a check's sample, in a table
_NEXT_STEPS = {
    "accepted": "its drift is accepted; the next run reads the minute again",
    "waiting": "waits for the other rows of its hour; it is published without a release unless too many are rejected",
    "due": "all rows of its hour are read; the next run reads the minute again",
    "touched": "touched since it was held; the next run reads it again",
}


def release_minutes(
    pipeline: str,
    minute: datetime | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    user: str,
    why: str | None = None,
    by: str | None = None,
) -> held.Released:
    """Release one minute, or those from `start` to `end` (excluded). Raises ReleaseRefused, which lists what is held."""
    declaration = pipelines.get(pipeline)
    with warehouse(WAREHOUSE_ETL, merge=True) as conn:
        try:
            first, until = minute_or_range(minute, start, end)
        except WindowRefused as refused:
            raise held.ReleaseRefused(f"{refused} {held.summary(conn, [declaration])}") from None
        return held.release(conn, declaration, first, until, by=user, reason=reason(why, by))


def accept_drift(
    pipeline: str,
    field: str,
    kind: str | None = None,
    *,
    user: str,
    why: str | None = None,
    by: str | None = None,
    drift_id: int | None = None,
) -> drifts.Accepted:
    """Accept the drift of a field. Raises AcceptanceRefused, which lists what is open."""
    if kind and kind not in drifts.KINDS:
        raise drifts.AcceptanceRefused(f"Unknown kind of drift {kind!r}. Choose one of {', '.join(drifts.KINDS)}.")
    declaration = pipelines.get(pipeline)
    with warehouse(WAREHOUSE_ETL, merge=True) as conn:
        return drifts.accept(conn, declaration, field or "", kind, by=user, reason=reason(why, by), drift_id=drift_id)


def held_minutes(pipeline: str | None = None) -> Listing:
    """Every held minute, of one pipeline or of all; the table has a row for each reason."""
    chosen = pipelines.named_or_all(pipeline)
    with warehouse(WAREHOUSE_ETL) as conn:
        minutes = held.held_minutes(conn, chosen)
    groups = [_group(list(rows)) for _, rows in groupby(sorted(minutes, key=_group_key), _group_key)]
    empty_text = f"No minutes are held in {', '.join(sorted(pipeline.name for pipeline in chosen))}."
    return Listing(minutes, groups, _COLUMNS, empty_text, _details)


def _group_key(row: Mapping) -> tuple[str, ...]:
    """The key of a group: the pipeline, the status, the reason without its numbers, and the release."""
    release = (row["released_by"] or "", row["released_because"] or "")
    return row["pipeline"], row["status"], listing.without_numbers(row["reason"]) or "", *release


def _group(rows: Sequence[Mapping]) -> dict:
    newest = rows[-1]
    return {
        **newest,
        **listing.span(row["minute"] for row in rows),
        "held_since": min((row["held_since"] for row in rows if row["held_since"]), default=None),
        "reason": listing.common_text([row["reason"] for row in rows]),
        **{name: _total(rows, name) for name in ("rows_before", "rows_now")},
    }


def _total(rows: Iterable[Mapping], name: str) -> int | None:
    known = [row[name] for row in rows if row[name] is not None]
    return sum(known) if known else None


def _details(group: Mapping) -> Iterable[str]:
    if group["status"] == "released":
        why = f": {group['released_because']}" if group["released_because"] else ""
        yield f"released by {group['released_by']} at {listing.cell(group['released_at'])}{why}; the next run publishes it"
    elif group["status"] in _NEXT_STEPS:
        yield _NEXT_STEPS[group["status"]]
    for check in group["checks"]:
        rows = check["offending_rows"]
        yield f"{check['check_name']} found offending rows in batch {group['batch_id']}, {rows} in all, such as"
        for row in check["sample"][:_SHOWN_ROWS]:
            yield f"  {json.dumps(row, default=str, ensure_ascii=False)}"


def reason(why: str | None, by: str | None) -> str | None:
    """The reason for the record, with the name in `by` as a note: the record itself names the logged-in user."""
    note = f"(by {by.strip()})" if by and by.strip() else ""
    return " ".join(filter(None, ((why or "").strip(), note))) or None
