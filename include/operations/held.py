"""Held minutes by hand: `make held` lists them, `make release` and the DAG `minutemark_release` let them pass; `make accept`
and `minutemark_accept` accept the drift that they are held for."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
from collections.abc import Iterable

from include import pipelines
from include.connections import WAREHOUSE_ETL, ConnectionMissing
from include.operations import listing
from include.warehouse import drifts, held
from include.warehouse.errors import BatchRefused, WarehouseError
from include.warehouse.session import warehouse
from include.window import WindowRefused, minute_or_range

_REFUSALS = (
    held.ReleaseRefused, drifts.AcceptanceRefused, WarehouseError, ConnectionMissing, pipelines.UnknownPipeline,
    listing.FormatRefused, BatchRefused,
)  # fmt: skip
_COLUMNS = {
    "pipeline": "pipeline", "minute": "minute", "held_since": "held since", "rows_before": "rows before",
    "rows_now": "rows now", "status": "status", "reason": "reason",
}  # fmt: skip
_SHOWN_ROWS = 2  # of a check's sample, in a table


def release_minutes(
    pipeline: str | None,
    minute: str | None,
    start: str | None,
    end: str | None,
    *,
    by: str,
    why: str | None = None,
) -> held.Released:
    """Release the minutes that a command line or a form names. Raises ReleaseRefused, which says what is held instead."""
    with warehouse(WAREHOUSE_ETL, merge=True) as conn:
        try:
            if not pipeline:
                raise WindowRefused("Say whose minutes to release: PIPELINE=….")
            owner = pipelines.get(pipeline)
            first, until = minute_or_range(minute, start, end)
        except (WindowRefused, pipelines.UnknownPipeline) as refused:
            known = pipelines.all_pipelines()
            among = [known[pipeline]] if pipeline in known else known.values()
            raise held.ReleaseRefused(f"{refused.args[0]} {held.summary(conn, among)}") from None
        return held.release(conn, owner, first, until, by=by, reason=why)


def accept_drift(
    pipeline: str | None,
    field: str | None,
    kind: str | None,
    *,
    by: str,
    why: str | None = None,
    drift_id: int | None = None,
) -> drifts.Accepted:
    """Accept the drift that a command line or a form names. Raises AcceptanceRefused, which says what is open instead."""
    if not pipeline:
        raise drifts.AcceptanceRefused("Say whose drift to accept: PIPELINE=….")
    if kind and kind not in drifts.KINDS:
        raise drifts.AcceptanceRefused(f"There is no drift of kind {kind!r}; there are: {', '.join(drifts.KINDS)}.")
    owner = pipelines.get(pipeline)
    with warehouse(WAREHOUSE_ETL, merge=True) as conn:
        return drifts.accept(conn, owner, field or "", kind or None, by=by, reason=why, drift_id=drift_id)


def listed(pipeline: str | None, form: str = "table") -> str:
    """Every held minute, of one pipeline or of all, as text for standard output."""
    listing.checked_format(form)
    chosen = pipelines.named_or_all(pipeline)
    with warehouse(WAREHOUSE_ETL) as conn:
        found = held.held_minutes(conn, chosen)
    if form == "json":
        return listing.as_json(found)
    if not found:
        return f"Nothing is held in {', '.join(sorted(one.name for one in chosen))}."
    titles, *lines = listing.table(found, _COLUMNS)
    text = [titles]
    for line, row in zip(lines, found, strict=True):
        text += [line, *(f"    {detail}" for detail in _details(row))]
    return "\n".join(text)


def _details(row: dict) -> Iterable[str]:
    if row["status"] == "released":
        why = f": {row['released_because']}" if row["released_because"] else ""
        yield f"released by {row['released_by']} at {listing.cell(row['released_at'])}{why}; the next run publishes it"
    elif row["status"] == "accepted":
        yield "its drift is accepted; the next run reads it again"
    elif row["status"] == "waiting":
        yield "waits for the other rows of its hour; it is published without a release unless too many are rejected"
    elif row["status"] == "due":
        yield "its hour is read; the next run reads it again"
    elif row["status"] == "touched":
        yield "touched since it was held; the next run reads it again"
    for check in row["checks"]:
        yield f"{check['check_name']} found {check['offending_rows']} offending rows in batch {row['batch_id']}, such as"
        for one in check["sample"][:_SHOWN_ROWS]:
            yield f"  {json.dumps(one, default=str, ensure_ascii=False)}"


def reason(why: str | None, by: str | None) -> str | None:
    """The reason that a record keeps, with the name in `by` as a note: the record itself names the logged-in user."""
    note = f"(by {by.strip()})" if by and by.strip() else ""
    return " ".join(filter(None, ((why or "").strip(), note))) or None


def login_name() -> str:
    """The login name of the user at this command line."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # an account without a name, as in containers
        return f"uid {os.getuid()}"


def list_main(arguments: list[str] | None = None) -> int:
    """`make held`; returns the exit status."""
    parser = argparse.ArgumentParser(prog="make held", description="Lists the minutes that are held, and why.")
    parser.add_argument("--pipeline", help="PIPELINE= only those of this one")
    parser.add_argument("--format", default="table", help="FORMAT= table or json")
    args = parser.parse_args(arguments)
    return _say("List failed.", lambda: listed(args.pipeline or None, args.format))


def _recorded(parser: argparse.ArgumentParser, arguments: list[str] | None) -> tuple[argparse.Namespace, dict]:
    """The arguments, and who and why as the record keeps them."""
    parser.add_argument("--by", default="", help="BY= a name to note beside the reason; the record names your login")
    parser.add_argument("--why", default="", help="WHY= the reason, kept in the record")
    args = parser.parse_args(arguments)
    return args, {"by": login_name(), "why": reason(args.why, args.by)}


def release_main(arguments: list[str] | None = None) -> int:
    """`make release`; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="make release",
        description="Lets held minutes pass their staging gate once, and records who did it and why.",
    )
    parser.add_argument("--pipeline", default="", help="PIPELINE= whose minutes")
    parser.add_argument("--minute", default="", help="MINUTE= one minute, as 2026-11-22T14:05 (UTC)")
    parser.add_argument("--from", dest="start", default="", help="FROM= the first of several")
    parser.add_argument("--to", default="", help="TO= their end, not included")
    args, who = _recorded(parser, arguments)
    return _say(
        "Nothing is released.",
        lambda: release_minutes(args.pipeline, args.minute, args.start, args.to, **who),
    )


def accept_main(arguments: list[str] | None = None) -> int:
    """`make accept`; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="make accept",
        description="Accepts the drift of a field: minutes that show it are no longer held. Records who accepted it and why.",
    )
    parser.add_argument("--pipeline", default="", help="PIPELINE= whose field")
    parser.add_argument("--field", default="", help="FIELD= its name, as `make held` shows it")
    parser.add_argument("--kind", default="", help=f"KIND= only one of {', '.join(drifts.KINDS)}")
    args, who = _recorded(parser, arguments)
    return _say(
        "Nothing is accepted.",
        lambda: accept_drift(args.pipeline, args.field, args.kind, **who),
    )


def _say(failed: str, work) -> int:
    try:
        print(work())
    except _REFUSALS as error:
        print(f"{failed} {error.args[0]}", file=sys.stderr)
        return 1
    return 0
