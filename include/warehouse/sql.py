"""SQL files: their statements and headers. Binds are written %(name)s, so any other percent sign must be doubled.

A pipeline has the files of its own folder, and for each of its summed facts the templates of include/sql/summed_fact/,
filled from the declaration. A file of the same name in include/sql/<pipeline>/<fact>/ replaces a template.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from include.pipelines import Pipeline, get
from include.pipelines.summed_fact import SummedFact

FOLDER = Path(__file__).parents[1] / "sql"
CONTROL, TEMPLATES = "control", "summed_fact"


@dataclass(frozen=True)
class SqlFile:
    """A SQL file; a template is filled in."""

    name: str  # without folder and suffix
    source: Path  # what to edit
    text: str

    @property
    def statements(self) -> tuple[str, ...]:
        """The statements, without comments and final semicolons."""
        return _statements(self.text)

    @property
    def header(self) -> list[str]:
        """The lines of the comment at its start."""
        lines = takewhile(lambda line: line.startswith("--"), self.text.lstrip().splitlines())
        return [line.removeprefix("--").strip() for line in lines]


@dataclass(frozen=True)
class Check:
    """One file of checks/: a SELECT of the rows that break the rule."""

    name: str
    severity: str  # fail or warn
    purpose: str
    query: str


class InvalidCheck(ValueError):
    """A check file that has no valid severity, or not exactly one statement."""


def statements(path: Path) -> tuple[str, ...]:
    """The statements of a file, without comments and final semicolons."""
    return _read(path).statements


def control(pattern: str) -> list[SqlFile]:
    """The files of include/sql/control that match, sorted by name. They apply to every pipeline."""
    return [_read(path) for path in sorted((FOLDER / CONTROL).glob(pattern))]


def files(pipeline: Pipeline, pattern: str) -> list[SqlFile]:
    """The pipeline's own files that match, then those of its facts: filled templates, or the files that replace them."""
    folder, facts = FOLDER / pipeline.name, {fact.name for fact in pipeline.facts}
    own = [_read(path) for path in sorted(folder.glob(pattern)) if path.relative_to(folder).parts[0] not in facts]
    return [*own, *(file for fact in pipeline.facts for file in _files_of_fact(pipeline, fact, pattern))]


def checks(pipeline: Pipeline, gate: str) -> list[Check]:
    """The checks of a gate, those of every pipeline first."""
    pattern = f"checks/{gate}_*.sql"
    return [_check(file) for file in (*control(pattern), *files(pipeline, pattern))]


def as_text(pipeline: str) -> str:
    """All statements of a pipeline, file by file."""
    parts = []
    for file in files(get(pipeline), "**/*.sql"):
        name = file.source.relative_to(FOLDER.parent.parent).with_stem(file.name)
        parts.append(f"-- {'=' * 100}\n-- {name}\n\n{file.text.strip()}\n")
    return "\n".join(parts)


def _files_of_fact(pipeline: Pipeline, fact: SummedFact, pattern: str) -> Iterator[SqlFile]:
    folder = FOLDER / pipeline.name / fact.name
    replacements = {path.relative_to(folder): path for path in folder.glob(pattern)}
    for path in sorted((FOLDER / TEMPLATES).glob(pattern)):
        target = Path(str(path.relative_to(FOLDER / TEMPLATES)).format(fact=fact.name, table=fact.table.split(".")[1]))
        if own := replacements.pop(target, None):
            yield _read(own)
        elif (text := _render(pipeline, fact, path)).strip():
            yield SqlFile(target.stem, path, text)
    yield from map(_read, sorted(replacements.values()))


def _render(pipeline: Pipeline, fact: SummedFact, path: Path) -> str:
    template = environment().get_template(str(path.relative_to(FOLDER / TEMPLATES)))
    output = pipeline.output_of(fact)
    return template.render(fact=fact, staging=output.staging, published=output.published).lstrip()


@functools.cache
def environment():
    """Jinja's environment, which fills in identifiers."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(  # noqa: S701 - it makes SQL from declarations, not HTML
        loader=FileSystemLoader(FOLDER / TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def _read(path: Path) -> SqlFile:
    return SqlFile(path.stem, path, path.read_text(encoding="utf-8"))


@functools.cache
def _statements(text: str) -> tuple[str, ...]:
    import sqlparse

    text = sqlparse.format(text, strip_comments=True)
    return tuple(stripped for part in sqlparse.split(text) if (stripped := part.strip().rstrip(";").strip()))


def _check(file: SqlFile) -> Check:
    severity = next((line.partition(":")[2].strip() for line in file.header if line.startswith("severity:")), None)
    purpose = " ".join(line for line in file.header if not line.startswith("severity:"))
    if severity not in ("fail", "warn"):
        raise InvalidCheck(
            f"{file.source}: its header must say `-- severity: fail` or `-- severity: warn`, not {severity!r}."
        )
    if len(file.statements) != 1:
        raise InvalidCheck(
            f"{file.source} has {len(file.statements)} statements. Write one SELECT, so that the check sees one snapshot."
        )
    return Check(file.name, severity, purpose, file.statements[0])
