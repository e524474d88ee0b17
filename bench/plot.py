"""Plots of bench/results for the documentation: run time by rows in the lake, and merge time with back-dated events."""

from __future__ import annotations

import csv
import statistics
from collections import defaultdict
from pathlib import Path

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "flat-cost.svg"
LINES = {
    "classic": ("classic job: scan, filter, append", "#b3502d"),
    "minute-run": ("Minutemark, whole run", "#2d5fb3"),
    "minute-job": ("Minutemark, Spark job only", "#7fa6e0"),
}


def medians(file: Path) -> dict[str, float]:
    """Median seconds of each measurement (`what`) in a results file."""
    values = defaultdict(list)
    with file.open(newline="") as opened:
        for row in csv.DictReader(opened):
            values[row["what"]].append(float(row["seconds"]))
    return {what: statistics.median(seconds) for what, seconds in values.items()}


def draw(folder: Path, picture: Path = PICTURE) -> None:
    """Plot the results that the folder has so far."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "flat-cost"  # the same figures give the same file
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for name, (label, color) in LINES.items():
        if (file := folder / f"{name}.csv").is_file():
            points = sorted((int(what.rpartition("_")[2]), seconds) for what, seconds in medians(file).items())
            axes.plot(*zip(*points, strict=True), marker="o", label=label, color=color)
    axes.set(xscale="log", yscale="log", xlabel="rows in the lake", ylabel="seconds for the same 5,000 events (median)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(picture, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)


BACK_DATED_PICTURE = PICTURE.with_name("back-dated-events.svg")


def draw_back_dated_events(file: Path, picture: Path = BACK_DATED_PICTURE) -> None:
    """Plot the seconds of each one-minute merge and of its gate, in the first and the last hour."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "late-events"  # gives the same ids as in earlier pictures
    from matplotlib import pyplot

    with file.open(newline="") as opened:
        rows = [row for row in csv.DictReader(opened) if row["minutes"] == "1"]
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for column, label, color in (("merge_seconds", "merge", "#2d5fb3"), ("gate_seconds", "gate", "#7fa6e0")):
        axes.scatter(
            [int(row["minute"]) / 60 for row in rows],
            [float(row[column]) for row in rows],
            s=9,
            label=label,
            color=color,
        )
    axes.set(xlabel="hours since the first event", ylabel="seconds for one minute with 5,000 events", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(picture, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
