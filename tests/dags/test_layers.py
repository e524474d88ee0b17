"""Which parts of the project import which: no cycle, and no import that runs upward. Imports inside functions count."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.airflow_home import PROJECT

# Parts of include/, lowest layer first. A part imports from lower layers and from itself, not from its neighbors.
LAYERS = (
    ("errors", "listing", "durations", "chunks"),
    ("connections", "readings", "window", "notice", "progress_log"),
    ("pipelines", "webhook", "env_file", "parameters"),
    ("lake", "schedule", "options", "column_lineage", "commands"),
    ("warehouse",),
    ("kafka", "lakehouse", "spark", "planner", "metrics", "bi"),
    ("files", "bigquery", "demo", "stream"),
    ("verify", "housekeeping"),
    ("operations",),
    ("page", "cli"),
)
ABOVE = {
    "include": (),
    "plugins": ("include",),
    "dags": ("include", "plugins"),
    "local": ("include",),
    "bench": ("include", "local"),
}
# In a process of Airflow, these modules read its connections or send metrics through its API.
MAY_IMPORT_AIRFLOW = ("include.connections", "include.metrics")


class Import(NamedTuple):
    """One import: its place, and the module that it names."""

    module: str
    line: int
    imported: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.imported}"


def modules() -> dict[str, Path]:
    paths = [path for top in ABOVE for path in (PROJECT / top).rglob("*.py") if "skeleton" not in path.parts]
    names = (".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__") for path in paths)
    return dict(zip(names, paths, strict=True))


MODULES = modules()


def imports_of(module: str) -> Iterator[Import]:
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (Import(module, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}:{node.lineno} is a relative import: name the package from its root."
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield Import(module, node.lineno, name if name in MODULES else node.module)


IMPORTS = [import_ for module in MODULES for import_ in imports_of(module)]


def part(module: str) -> str:
    """The part that a module belongs to: `lake` for include.lake.writer."""
    return module.split(".")[1] if "." in module else ""


def test_every_part_of_include_has_a_layer() -> None:
    parts = {part(module) for module in MODULES if module.startswith("include.")}
    listed = {name for layer in LAYERS for name in layer}
    assert parts == listed, f"Give {parts ^ listed} a place in LAYERS: above what it imports, below what imports it."


def test_no_import_of_include_runs_upward() -> None:
    height = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    upward = [
        str(import_)
        for import_ in IMPORTS
        if import_.module.startswith("include.")
        and import_.imported.startswith("include.")
        and part(import_.module) != part(import_.imported)
        and height[part(import_.module)] <= height[part(import_.imported)]
    ]
    assert not upward, "Move what both use to the lower layer:\n" + "\n".join(upward)


@pytest.mark.parametrize("top", ABOVE)
def test_a_package_imports_only_packages_below_it(top: str) -> None:
    others = {*ABOVE, "tests"} - {top, *ABOVE[top]}
    wrong = [
        str(import_)
        for import_ in IMPORTS
        if import_.module.split(".")[0] == top and import_.imported.split(".")[0] in others
    ]
    assert not wrong, f"{top}/ may import {', '.join(ABOVE[top]) or 'nothing of the project'}:\n" + "\n".join(wrong)


def test_no_modules_import_each_other() -> None:
    graph = {module: set() for module in MODULES}
    for import_ in IMPORTS:
        if import_.imported in MODULES and import_.imported != import_.module:
            graph[import_.module].add(import_.imported)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"A cycle of imports: {' → '.join(error.args[1])}. Move what both use to a module below them.")


# The rehearsal of an upgrade runs this program with the code of the previous version.
PROGRAM_OF_FORMER_VERSION = PROJECT / "tests" / "upgrade" / "history.py"


def test_airflow_is_imported_by_no_module_that_runs_without_it() -> None:
    wrong = [
        str(import_)
        for import_ in IMPORTS
        if import_.imported.split(".")[0] == "airflow"
        and import_.module.startswith("include.")
        and import_.module not in MAY_IMPORT_AIRFLOW
    ]
    assert not wrong, "Code that needs Airflow belongs in plugins/ or dags/:\n" + "\n".join(wrong)


def test_programs_in_strings_of_tests_import_existing_names() -> None:
    """A test starts such a program as a separate process, and no linter checks it."""
    wrong = []
    for path in sorted({*(PROJECT / "tests").rglob("*.py")} - {PROGRAM_OF_FORMER_VERSION}):
        for base, names in re.findall(r"\bfrom ((?:include|plugins|local)[\w.]*) import ([\w, ]+)", path.read_text()):
            if base not in MODULES:
                wrong.append(f"{path}: {base}")
            else:
                text = MODULES[base].read_text()
                imported = [name.split(" as ")[0].strip() for name in names.split(",") if name.strip()]
                wrong += [
                    f"{path}: {base}.{name}"
                    for name in imported
                    if f"{base}.{name}" not in MODULES and name not in text
                ]
    assert not wrong, "Not found; correct the imports:\n" + "\n".join(wrong)
