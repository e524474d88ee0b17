"""docs/cluster.md lists each fault of a cluster, and no other."""

from __future__ import annotations

import re

from local.layout import ROOT
from tests.faults.names import names_of_scenarios

ROWS = re.findall(
    r"^\| `(a_\w+|the_\w+)(…?)`", (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8"), re.MULTILINE
)


def test_the_page_lists_the_faults_of_a_cluster() -> None:
    names = names_of_scenarios("cluster")
    listed = [
        [name for name in names if name == row or (is_prefix and name.startswith(row))] for row, is_prefix in ROWS
    ]
    assert all(listed), "docs/cluster.md lists a fault that does not exist"
    assert {name for names_of_row in listed for name in names_of_row} == set(names)
