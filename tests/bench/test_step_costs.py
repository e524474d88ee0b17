"""The arithmetic of bench/step_costs.py; the measurements themselves take minutes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench import step_costs
from bench.step_costs import PROCESSES, PYTHON, STEPS, Cost, Meter


def cost(seconds: float) -> Cost:
    """The same cost for each process in each step."""
    return {step: dict.fromkeys(PROCESSES, seconds) for step in STEPS}


def test_costs_are_split_into_those_of_rows_and_those_of_a_run() -> None:
    per_thousand, fixed = step_costs.split(cost(3.0), 1_000, cost(21.0), 10_000)
    assert per_thousand["merge"]["MySQL"] == pytest.approx(2.0)
    assert fixed["merge"]["MySQL"] == pytest.approx(1.0)


def test_noise_makes_no_cost_negative() -> None:
    per_thousand, fixed = step_costs.split(cost(3.0), 1_000, cost(2.0), 10_000)
    assert per_thousand["merge"]["MySQL"] == 0
    assert fixed["merge"]["MySQL"] == pytest.approx(3.0)


def test_busy_cores_are_those_of_a_run_each_minute_which_reads_each_event_twice_and_ingests_it_once() -> None:
    busy = step_costs.cores(cost(2.0), cost(1.0), thousands=10)
    assert busy["Spark"] == pytest.approx(((len(STEPS) - 1) * 41 + 21) / 60)


PAGE = (Path(__file__).resolve().parents[2] / "docs" / "sizing.md").read_text()


def columns_of(page: str, rows: str) -> list[list[float]]:
    """The figures of the table rows whose first cell matches `rows`."""
    cells = re.findall(rf"^\| (?:{rows}) \|(.+)\|$", page, re.MULTILINE)
    return [[float(cell.replace(",", "")) for cell in line.split("|")] for line in cells]


def test_the_sizes_of_the_page_follow_from_its_tables() -> None:
    per_thousand, fixed = columns_of(PAGE, "total")
    ingest, _ = columns_of(PAGE, "ingest")
    sizes = columns_of(PAGE, "|".join(f"{thousands:,},000" for thousands in step_costs.SIZES))
    assert len(sizes) == len(step_costs.SIZES)
    for thousands, size in zip(step_costs.SIZES, sizes, strict=True):
        by_tables = [
            ((2 * slope - once) * thousands + run) / 60_000
            for slope, once, run in zip(per_thousand, ingest, fixed, strict=True)
        ]
        assert size == pytest.approx(by_tables, rel=0.01, abs=0.01)


def test_the_sums_of_the_page_are_those_of_its_steps() -> None:
    steps = columns_of(PAGE, "|".join(STEPS))
    for first, sums in zip((0, len(STEPS)), columns_of(PAGE, "total"), strict=True):
        added = [sum(column) for column in zip(*steps[first : first + len(STEPS)], strict=True)]
        assert sums == pytest.approx(added, abs=0.6)


def test_a_step_has_the_cpu_of_this_process_and_of_its_children() -> None:
    """A child that is not one of the servers counts as Python."""
    loop = "x = 0\nwhile x < 20_000_000: x += 1\nprint(x, flush=True)\ninput()"
    meter = Meter()
    with subprocess.Popen([sys.executable, "-c", loop], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        with meter.step("it"):
            assert child.stdout is not None
            child.stdout.readline()
        child.communicate(b"\n")
    assert meter.costs["it"][PYTHON] > 0
    assert meter.costs["it"]["Spark"] == 0
