"""Held minutes, drift, rejected events, and failed checks.

Samples of rows are read only with `samples` or `payloads`, which need the account of warehouse_etl.
"""

from __future__ import annotations

import json
from datetime import datetime

from include.page import batches
from include.pipelines import Pipeline
from include.warehouse import drifts, gates, held, rejected, rejected_share
from include.warehouse.session import rows
from include.warehouse.sql import checks
from include.warehouse.statements import Statements

sql = Statements(__file__)

MAX_HELD = 200
MAX_REJECTED = 20_000  # grouped by reason in a fifth of a second
MAX_FINDINGS = 50
MAX_DRIFTS = 200
SEARCHED = 500  # newest batches whose checks are read


def held_minutes(conn, pipeline: Pipeline, *, samples: bool) -> dict:
    """`minutes` as held.held_minutes lists them, with the `run` that held each, and whether there are `more`."""
    minutes = held.held_minutes(conn, [pipeline], samples=samples, limit=MAX_HELD + 1)
    shown = minutes[:MAX_HELD]
    runs = batches.runs_of(conn, (row["batch_id"] for row in shown))
    return {"minutes": [row | {"run": runs.get(row["batch_id"])} for row in shown], "more": len(minutes) > MAX_HELD}


def drift(conn, pipeline: Pipeline) -> dict:
    """`drifts` as drifts.listed gives them, and whether there are `more`."""
    listed = drifts.listed(conn, [pipeline], limit=MAX_DRIFTS + 1)
    return {"drifts": listed[:MAX_DRIFTS], "more": len(listed) > MAX_DRIFTS}


def rejected_events(conn, pipeline: Pipeline, start: datetime | None, end: datetime | None, *, payloads: bool) -> dict:
    """`groups` as rejected.by_reason makes them, and `more`: whether the range may have further events.

    Only MAX_REJECTED events, those of the newest minutes, are grouped.
    """
    groups = rejected.by_reason(
        conn, [pipeline], rejected.Selection(None, start, end), payloads=payloads, limit=MAX_REJECTED
    )
    return {"groups": groups, "more": sum(group["rows"] for group in groups) >= MAX_REJECTED, "most": MAX_REJECTED}


def gate_results(conn, pipeline: Pipeline, *, samples: bool) -> dict:
    """Results of the newest batches: `checks` (how often each ran and did not pass) and `findings`.

    Findings are newest first, each with its run and, if `samples` is set, the offending rows that were kept.
    """
    purposes = dict((*drifts.CHECKS.values(), drifts.NEW_FIELDS)) | rejected_share.PURPOSES
    for gate in (gates.STAGING, gates.WAREHOUSE):
        purposes |= {check.name: check.purpose for check in checks(pipeline, gate)}
    newest, binds = batches.sql("newest"), batches.newest_binds(pipeline, SEARCHED)
    tally = [
        row | {"purpose": purposes.get(row["check_name"], "")}
        for row in rows(conn.cursor(), sql("tally", newest=newest), binds)
    ]
    findings = rows(conn.cursor(), sql("findings", samples=samples, newest=newest), binds | {"limit": MAX_FINDINGS})
    runs = batches.runs_of(conn, (row["batch_id"] for row in findings))
    for row in findings:
        row["run"] = runs.get(row["batch_id"])
        row["purpose"] = purposes.get(row["check_name"], "")
        row["sample"] = json.loads(row["sample"] or "[]")
    return {"batches": SEARCHED, "checks": tally, "findings": findings}
