"""docs/guarantees.md stays in step with the tests that it names: no guarantee without a test, no fault without a guarantee."""

from __future__ import annotations

import re

from local.layout import ROOT
from tests.faults.names import names_of_scenarios

PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
PROMISES = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
TESTS = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
FAULTS = re.compile(r"`([a-z_0-9]+)`")


def test_every_promise_names_a_proof() -> None:
    unproven = [line for line in PROMISES if not TESTS.search(line) and not FAULTS.search(line)]
    assert PROMISES and not unproven, f"docs/guarantees.md: name a test or a fault in {unproven}"


def test_every_named_test_exists() -> None:
    absent = [
        f"{file}::{name}"
        for file, name in TESTS.findall(PAGE)
        if not re.search(rf"^def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert not absent, f"docs/guarantees.md names tests that do not exist: {absent}"


def test_the_named_faults_are_those_of_the_fault_suite() -> None:
    named = {name for line in PROMISES for name in FAULTS.findall(line)}
    assert named == set(names_of_scenarios())
