"""The table that `make run` shows: the last runs and how fresh the warehouse is, until Ctrl-C."""

from __future__ import annotations

import datetime as dt
import threading

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from local import warehouse
from local.problems import Problem

# Together no wider than a terminal of 80 columns.
_COLUMNS = ("run", "pipeline", "kind", "state", "min.", "rows in", "counted", "ignored", "rejected", "seconds")
_STYLES = {"merged": "green", "failed": "red", "open": "yellow"}


def table(batches: list[dict], freshness: list[dict], note: str) -> Group:
    """What is shown for these batches; pure, for the tests."""
    shown = Table(
        title="Minutemark: the last runs, seconds from tick to merged",
        title_justify="left",
        caption=note,
        caption_justify="left",
        box=None,
        collapse_padding=True,
        pad_edge=False,
    )
    for name in _COLUMNS:
        shown.add_column(name, justify="left" if name in ("pipeline", "kind", "state") else "right", no_wrap=True)
    for batch in batches:
        shown.add_row(
            f"{batch['opened_at']:%H:%M}",
            batch["pipeline"],
            batch["kind"],
            Text(batch["state"], style=_STYLES.get(batch["state"], "")),
            *(
                _number(batch[name])
                for name in ("minutes", "raw_rows", "counted_rows", "ignored_rows", "rejected_rows")
            ),
            seconds_to_merged(batch),
        )
    ages = [
        f"{one['pipeline']}: newest event {_age(one['lag'])}, {one['pending']} minutes pending, {one['held']} held"
        for one in freshness
        if one["lag"] is not None
    ]
    return Group(shown, Text("\n".join(ages) or "Nothing merged yet."))


def seconds_to_merged(batch: dict) -> str:
    """From the tick that a run was due at (a manual run: from when it looked) to its merge."""
    if not batch["merged_at"]:
        return "…" if batch["state"] == "open" else "–"
    return f"{(batch['merged_at'] - (batch['tick'] or batch['opened_at'])).total_seconds():.1f}"


def _number(value: int | None) -> str:
    return "" if value is None else f"{int(value):,}"


def _age(seconds: float) -> str:
    return f"{dt.timedelta(seconds=int(seconds))} old" if seconds > 180 else f"{max(0, int(seconds))} s old"


def watch(note: str, rows: int = 12, interval: float = 1.0) -> None:
    """Show the table until the process is interrupted. A warehouse that is away for a moment is said so, no more."""
    clock = threading.Event()
    with Live(refresh_per_second=4) as live:
        while not clock.wait(interval):
            try:
                with warehouse.reader() as connection:
                    live.update(
                        table(warehouse.recent_batches(connection, rows), warehouse.freshness(connection), note)
                    )
            except Problem as problem:
                live.update(Text(f"{problem.where}: {problem.found}"))
