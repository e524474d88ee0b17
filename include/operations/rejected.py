"""`make rejected`: rejected events by reason, with samples; payloads only for who has the account of warehouse_etl."""

from __future__ import annotations

import argparse
import sys

from include import pipelines
from include.connections import WAREHOUSE_BI, WAREHOUSE_ETL, ConnectionMissing, Endpoint, endpoint
from include.operations import listing
from include.warehouse import rejected
from include.warehouse.errors import WarehouseError
from include.warehouse.rejected import Choice
from include.warehouse.session import warehouse
from include.window import WindowRefused, open_range

_REFUSALS = (WindowRefused, WarehouseError, ConnectionMissing, pipelines.UnknownPipeline, listing.FormatRefused)
_COLUMNS = {
    "pipeline": "pipeline", "origin": "origin", "rows": "rows", "minutes": "minutes", "first_minute": "first minute",
    "last_minute": "last minute", "newest": "rejected last", "reason": "reason",
}  # fmt: skip


def listed(pipeline: str | None, from_text: str | None = None, to_text: str | None = None, form: str = "table") -> str:
    """Rejected events of one pipeline or of all, of a range of minutes or of all, as text for standard output."""
    listing.checked_format(form)
    chosen = pipelines.named_or_all(pipeline)
    account, payloads = _account()
    with warehouse(account) as conn:
        found = rejected.by_reason(conn, chosen, Choice(None, *open_range(from_text, to_text)), payloads=payloads)
    if form == "json":
        return listing.as_json(found)
    if not found:
        return f"Nothing is rejected in {', '.join(sorted(one.name for one in chosen))}."
    titles, *lines = listing.table(found, _COLUMNS)
    text = [titles]
    for line, group in zip(lines, found, strict=True):
        text.append(line)
        for sample in group["samples"]:
            text.append(f"    {sample['origin_key']}: {listing.cell(sample['reason'])}")
            text += [f"      {listing.cell(sample['payload'])}"] if payloads else []
    return "\n".join(text)


def _account() -> tuple[Endpoint, bool]:
    try:
        return endpoint(WAREHOUSE_ETL), True
    except ConnectionMissing:
        return endpoint(WAREHOUSE_BI), False


def main(arguments: list[str] | None = None) -> int:
    """`make rejected`; returns the exit status."""
    parser = argparse.ArgumentParser(prog="make rejected", description="Lists rejected events by reason.")
    parser.add_argument("--pipeline", default="", help="PIPELINE= only those of this one")
    parser.add_argument("--from", dest="start", default="", help="FROM= the first minute (UTC)")
    parser.add_argument("--to", default="", help="TO= the end, not included")
    parser.add_argument("--format", default="table", help="FORMAT= table or json")
    asked = parser.parse_args(arguments)
    try:
        print(listed(asked.pipeline, asked.start, asked.to, asked.format))
    except _REFUSALS as error:
        print(f"List failed. {error.args[0]}", file=sys.stderr)
        return 1
    return 0
