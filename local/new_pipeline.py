"""`make pipeline NAME=…`: the files of a new pipeline, copied from local/skeleton, where `skeleton` stands for its name.

All checks run before the first file is written. The declaration is written last, because it adds the pipeline to the
registry.
"""

from __future__ import annotations

import functools
import keyword
import re
from pathlib import Path

from include import pipelines
from local.layout import ROOT
from local.problems import Problem

SKELETON = Path(__file__).with_name("skeleton")
_PLACEHOLDER = "skeleton"
_SQL_WORDS = Path(__file__).with_name("sql_words.txt")
_SOURCES = (".py", ".cql", ".sql")
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")

# What is named after a pipeline, and the longest name it can have.
_LIMITS = (
    ("column pipeline of etl.pipelines", "{}", 48),
    ("a database of MySQL", "{}", 64),
    ("a keyspace of Cassandra", "{}_lake", 48),
    ("the id of a DAG", "{}_demo_traffic", 250),
)
LONGEST = min(limit - len(form.format("")) for _, form, limit in _LIMITS)
SHORTEST = 3  # a shorter name cannot be searched for in logs and texts

_OCCUPIED = {
    "control": "include/sql/control holds what all pipelines share",
    "etl": "the control tables are in a database of this name",
    "information_schema": "the warehouse has a system database of this name",
    "minutemark": "the change log's keyspace and the operations' DAGs have this name",
    "mysql": "the warehouse has a system database of this name",
    "performance_schema": "the warehouse has a system database of this name",
    "skeleton": "the skeleton uses it as a placeholder",
    "sys": "the warehouse has a system database of this name",
}


def make(name: str, root: Path = ROOT) -> list[Path]:
    """Write the new pipeline's files under `root`; returns them, relative to it. Raises Problem before it writes."""
    _check(name)
    files = _files(name)
    existing = [path for path in (Path("include/sql", name), *files) if (root / path).exists()]
    if existing:
        problem = f"{', '.join(map(str, existing))} {'already exists' if len(existing) == 1 else 'already exist'}"
        raise _refusal(name, problem, "Choose another NAME, or move these files away. Nothing is overwritten.")
    _write(root, files)
    return list(files)


def next_steps(name: str, files: list[Path]) -> str:
    """The message that lists the new files and what to do next."""
    file_list = "\n".join(f"  {path}" for path in sorted(files))
    return f"""Created the pipeline {name}, which counts and sums sales and refunds per hour and kind. Its files:
{file_list}

What to do next:
  1. Define its events: fields and facts in include/pipelines/{name}.py, what the fields mean in
     include/spark/{name}.py, then checks/. docs/adding-a-pipeline.md explains them in this order.
     `./minutemark sql {name}` prints the SQL of its declaration. You can change any name before the schema is applied.
  2. make lineage, which derives the lineage of its columns, and make test
  3. make run, which applies its schema and starts {name}_minute, with demo events from include/demo/{name}.py.
     If the stack is running, run `make stop` first. Elsewhere: deploy, then trigger minutemark_setup.
  4. ./minutemark import … --pipeline {name}, or send events to its topic {name}.events; then ./minutemark verify {name}
"""


def _check(name: str) -> None:
    if not name:
        raise _refusal("", "NAME is missing", "Choose a name: make pipeline NAME=turnover")
    if not _NAME.fullmatch(name):
        remedy = "Start with a letter. Use lower-case letters, digits and single underscores, such as shop_floor."
        raise _refusal(name, "this is not a valid name for a database, a module and a DAG", remedy)
    if not SHORTEST <= len(name) <= LONGEST:
        limits = ", ".join(
            f"{what} ({form.format('NAME')}) allows {limit}"
            for what, form, limit in _LIMITS
            if len(form.format(name)) > limit
        )
        problem = f"it has {len(name)} characters{f': {limits}' if limits else ''}"
        raise _refusal(name, problem, f"Use {SHORTEST} to {LONGEST} characters.")
    if why := _OCCUPIED.get(name) or (
        name.startswith("system") and "names that start with `system` are reserved for Cassandra's system keyspaces"
    ):
        raise _refusal(name, why, "Choose another NAME.")
    if keyword.iskeyword(name) or name in sql_words():
        language = "Python" if keyword.iskeyword(name) else "SQL"
        raise _refusal(name, f"it is a reserved word in {language}", f"Choose another NAME, such as {name}_log.")
    for other in pipelines.all_pipelines().values():
        names = {"name": name, "database": name, "keyspace": f"{name}_lake", "topic": f"{name}.events"}
        for what, value in names.items():
            if value == getattr(other, what):
                problem = f"{value} is the {what} of the pipeline {other.name}"
                raise _refusal(name, problem, f"Choose another NAME; see include/pipelines/{other.name}.py.")


def _refusal(name: str, problem: str, remedy: str) -> Problem:
    return Problem(f"make pipeline NAME={name}", problem, remedy)


@functools.cache
def sql_words() -> frozenset[str]:
    """The reserved words of MySQL and MariaDB, in lower case."""
    lines = _SQL_WORDS.read_text("utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


def _files(name: str) -> dict[Path, str]:
    """Path, relative to the project, to text; the declaration comes last."""
    sources = (path for path in sorted(SKELETON.rglob("*")) if path.suffix in _SOURCES)
    texts = {
        Path(_with_name(str(path.relative_to(SKELETON)), name)): _with_name(path.read_text("utf-8"), name)
        for path in sources
    }
    return dict(sorted(texts.items(), key=lambda item: item[0].parent.name == "pipelines"))


def _with_name(text: str, name: str) -> str:
    words = name.replace("_", " ").capitalize()
    return text.replace(_PLACEHOLDER, name).replace(_PLACEHOLDER.capitalize(), words)


def _write(root: Path, files: dict[Path, str]) -> None:
    """Write all of them or none: what was created before a failure is removed."""
    created: list[Path] = []
    try:
        for relative, text in files.items():
            path = root / relative
            for folder in [parent for parent in reversed(path.parents) if not parent.exists()]:
                folder.mkdir()
                created.append(folder)
            with path.open("x", encoding="utf-8") as file:  # never over a file that was created in between
                created.append(path)
                file.write(text)
    except BaseException:
        for path in reversed(created):
            path.rmdir() if path.is_dir() else path.unlink()
        raise
