"""The arithmetic of bench/step_costs.py; what it measures needs minutes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench import step_costs
from bench.step_costs import PROCESSES, PYTHON, STEPS, Cost, Meter


def cost(seconds: float) -> Cost:
    """So much for each process in each step."""
    return {step: dict.fromkeys(PROCESSES, seconds) for step in STEPS}


def test_costs_are_split_into_those_of_rows_and_those_of_a_run() -> None:
    per_thousand, fixed = step_costs.split(cost(3.0), 1_000, cost(21.0), 10_000)
    assert per_thousand["merge"]["MySQL"] == pytest.approx(2.0)
    assert fixed["merge"]["MySQL"] == pytest.approx(1.0)


def test_noise_makes_no_step_cheaper_than_nothing() -> None:
    per_thousand, fixed = step_costs.split(cost(3.0), 1_000, cost(2.0), 10_000)
    assert per_thousand["merge"]["MySQL"] == 0
    assert fixed["merge"]["MySQL"] == pytest.approx(3.0)


def test_busy_cores_are_those_of_a_run_each_minute() -> None:
    busy = step_costs.cores(cost(2.0), cost(1.0), thousands=10)
    assert busy["Spark"] == pytest.approx(len(STEPS) * 21 / 60)


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
