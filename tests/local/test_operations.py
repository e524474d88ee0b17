"""The variables that users type after `make` reach the command's function unchanged."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import datetime

import pytest

from include.warehouse import ledger
from include.warehouse.session import warehouse
from local.layout import ROOT

WHY = 'it\'s "meant"; -- see *'


@pytest.fixture
def make(tmp_path, schemas, warehouse_server):
    """Runs a target of the Makefile on the test's stores."""
    # Without the variables of a `make test` that may be running this: the user did not type them, and a nested make
    # prints the folders that it enters.
    outer = ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL")
    kept_environment = {name: value for name, value in os.environ.items() if name not in outer}

    def run(*words: str, **environ: str) -> subprocess.CompletedProcess:
        environment = kept_environment | warehouse_server | {"MINUTEMARK_STATE": str(tmp_path)} | environ
        return subprocess.run(["make", *words], cwd=ROOT, env=environment, capture_output=True, text=True)

    return run


def test_variables_of_make_are_options_and_those_of_the_environment_are_not(make):
    minute = datetime(2026, 3, 1, 10)
    with warehouse() as conn:
        ledger.hold(conn.cursor(), "recruitment", [(minute, None, "broken")], None)
        conn.commit()
    done = make(
        "release", "PIPELINE=recruitment", "MINUTE=2026-03-01 10:00", f"WHY={WHY}", "BY=Ann Lee", "FROM=", TO="x"
    )
    assert done.returncode == 0 and done.stdout.startswith("Released by "), done.stderr
    [row] = json.loads(make("held", "FORMAT=json", JSON="maybe").stdout)
    assert (row["status"], row["released_because"]) == ("released", f"{WHY} (by Ann Lee)")
    refused = make("held", "PIPELINE=nothing")
    assert refused.returncode == 2 and "Choose one of ecommerce, recruitment" in refused.stderr


def test_former_names_and_other_spellings_of_options_still_work_with_make(make, tmp_path):
    assert "there is nothing to reprocess" in make("replay", "PIPELINE=recruitment", "REASON=it's … *", "WAIT=0").stdout
    kept = make("housekeeping", "DRY=1", "KEEP=rejected_payloads=1 batches=30", "JSON=1")
    assert json.loads(kept.stdout)["failed"] == [], kept.stderr
    assert "keep-batches" in make("housekeeping", "KEEP=batches=soon").stderr
    assert "my log.csv: file not found" in make("import", "PIPELINE=recruitment", "FILE=my log.csv").stderr
    assert "`seconds` is 'x'" in make("ingest", "PIPELINE=recruitment", "SECONDS=x").stderr
