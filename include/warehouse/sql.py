"""SQL files: their statements, and what their header says. Binds are written %(name)s, so no other percent sign."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "sql"


@dataclass(frozen=True)
class Check:
    """One file of checks/: a SELECT of the rows that break the rule."""

    name: str
    severity: str  # fail or warn
    purpose: str
    query: str


class MisnamedCheck(ValueError):
    """A check file that does not say what it is."""


@functools.cache
def statements(path: Path) -> tuple[str, ...]:
    """The statements of a file, without comments and final semicolons."""
    import sqlparse

    text = sqlparse.format(path.read_text(encoding="utf-8"), strip_comments=True)
    return tuple(stripped for part in sqlparse.split(text) if (stripped := part.strip().rstrip(";").strip()))


def checks(folder: str, gate: str) -> list[Check]:
    """The checks of a gate in include/sql/<folder>/checks, by name."""
    return [_check(path) for path in sorted((FOLDER / folder / "checks").glob(f"{gate}_*.sql"))]


def _check(path: Path) -> Check:
    header = [
        line.removeprefix("--").strip()
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("--")
    ]
    severity = next((line.partition(":")[2].strip() for line in header if line.startswith("severity:")), None)
    purpose = " ".join(line for line in header if not line.startswith("severity:"))
    if severity not in ("fail", "warn"):
        raise MisnamedCheck(
            f"{path}: its header must say `-- severity: fail` or `-- severity: warn`, not {severity!r}."
        )
    found = statements(path)
    if len(found) != 1:
        raise MisnamedCheck(
            f"{path}: a check is one SELECT, so that it sees one snapshot; here are {len(found)} statements."
        )
    return Check(path.stem, severity, purpose, found[0])
