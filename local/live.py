"""The table that `make run` shows: the last runs and how fresh the warehouse is, until Ctrl-C."""

from __future__ import annotations

import datetime as dt
import threading

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from include.errors import MinutemarkError
from include.warehouse import status
from local import supervisor, warehouse

# Together no wider than a terminal of 80 columns.
_COLUMNS = ("run", "pipeline", "kind", "state", "min.", "rows in", "counted", "ignored", "rejected", "seconds")
_STYLES = {"merged": "green", "failed": "red", "open": "yellow"}
_STATE_STYLES = {"fresh": "green", "silent": "", "new": ""}


def table(batches: list[dict], freshness: list[dict], note: str) -> Group:
    """The table for these batches; a pure function, so that tests can call it."""
    runs = Table(
        title="Minutemark: last runs, with seconds from tick to merge",
        title_justify="left",
        caption=note,
        caption_justify="left",
        box=None,
        collapse_padding=True,
        pad_edge=False,
    )
    for name in _COLUMNS:
        runs.add_column(name, justify="left" if name in ("pipeline", "kind", "state") else "right", no_wrap=True)
    for batch in batches:
        runs.add_row(
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
    freshness_lines = [_freshness(entry) for entry in freshness if entry["lag"] is not None]
    return Group(runs, *(freshness_lines or [Text("Nothing merged yet.")]))


def _freshness(entry: dict) -> Text:
    """One line: the lag, its p95 over the last hour, pending and held minutes, and the state."""
    p95 = "" if entry["lag_p95"] is None else f" (p95 {_duration(entry['lag_p95'])})"
    line = Text(
        f"{entry['pipeline']}: lag {_duration(entry['lag'])}{p95}, {entry['pending']:,} pending, {entry['held']:,} held, "
    )
    return line.append(entry["state"], style=_STATE_STYLES.get(entry["state"], "red"))


def seconds_to_merged(batch: dict) -> str:
    """Seconds from a run's tick, or from the opening of its batch if it has no tick, to the merge."""
    if not batch["merged_at"]:
        return "…" if batch["state"] == "open" else "–"
    return f"{(batch['merged_at'] - (batch['tick'] or batch['opened_at'])).total_seconds():.1f}"


def _number(value: int | None) -> str:
    return "" if value is None else f"{int(value):,}"


def _duration(seconds: float) -> str:
    """Seconds up to three minutes, then h:mm:ss, then whole days."""
    if seconds <= 180:
        return f"{max(0, round(seconds))} s"
    return str(dt.timedelta(seconds=int(seconds))) if seconds < 86_400 else f"{seconds / 86_400:,.0f} d"


def show_table(note: str, rows: int = 12, interval: float = 1.0) -> None:
    """Show the table until the process is interrupted or the stack is stopped in another terminal.

    If the warehouse does not answer, the problem is shown, and the next refresh tries again.
    """
    stop = threading.Event()
    with Live(refresh_per_second=4) as live:
        while not stop.wait(interval):
            try:
                with warehouse.reader() as connection:
                    view = table(status.recent_batches(connection, rows), status.freshness(connection), note)
            except MinutemarkError as error:
                view = Text(str(error))
            if not supervisor.running():  # even if the warehouse still answers: it may be the user's own
                return
            live.update(view)
