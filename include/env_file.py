"""`.local/env`, with the connections of this machine's stores for every command, and the project's `.env`.

`make run` and `make services` write the first for a shell. Users edit the second, which the Astro CLI reads too.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from include.connections import IDS, variable
from include.errors import MinutemarkError

ROOT = Path(__file__).resolve().parents[1]
METADATA = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
SOURCED = "MINUTEMARK_SOURCED"
STACK_DEMO = "MINUTEMARK_STACK_DEMO"  # not MINUTEMARK_DEMO, which a terminal that sources the file may export
_LINE = re.compile(r"\s*(?:export\s+)?([^\s#=]+)\s*=(.*)")
_QUOTED = re.compile(r"""(["'])((?:\\.|(?!\1)[^\\])*)\1\s*(?:#.*)?""")
_ESCAPED = {"'": {"'": "'"}, '"': {'"': '"', "\\": "\\", "n": "\n", "r": "\r", "t": "\t"}}


class UnreadableEnvFile(MinutemarkError):
    """An env file with a quote that is not closed; the message says where and what to do."""


def state_folder() -> Path:
    """The folder of one stack's data, logs, ports and env file."""
    return Path(os.environ.get("MINUTEMARK_STATE") or ROOT / ".local").absolute()


def read(path: Path) -> dict[str, str]:
    """The variables of `.local/env`, exported or not. A missing file has no variables. Raises UnreadableEnvFile."""
    try:
        words = shlex.split(path.read_text(), comments=True) if path.exists() else []
    except ValueError as error:
        raise UnreadableEnvFile(
            f"{path}: no shell can read it ({error}).\n  What to do: restore the file. If you cannot, `make clean` deletes "
            "it together with all local data."
        ) from None
    return {name: value for name, separator, value in (word.partition("=") for word in words) if separator}


def read_dot_env(path: Path) -> dict[str, str]:
    """The variables of `.env`, by Docker's rules for env files, but without expansion of `$` and without multiline values.

    https://docs.docker.com/compose/how-tos/environment-variables/variable-interpolation/#env-file-syntax
    A missing file has no variables. Raises UnreadableEnvFile.
    """
    variables = {}
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else (), 1):
        if match := _LINE.fullmatch(line):
            name, value = match.groups()
            if (value := _value(value)) is None:
                raise UnreadableEnvFile(
                    f"{path}, line {number}: the value of {name} begins with a quote, but does not end with the same one.\n"
                    "  What to do: end it with that quote, or put the whole value into quotes of the other kind."
                )
            variables[name] = value
    return variables


def _value(text: str) -> str | None:
    """The value that the text after `=` stands for; None if its quote is not closed."""
    if not text.strip().startswith(("'", '"')):
        return re.split(r"\s#", text)[0].strip()
    if not (match := _QUOTED.fullmatch(text.strip())):
        return None
    quote, quoted = match.groups()
    return re.sub(r"\\(.)", lambda escape: _ESCAPED[quote].get(escape[1], escape[0]), quoted)


def mark(variables: Mapping[str, str]) -> str:
    """The value of MINUTEMARK_SOURCED in `.local/env`. In a terminal that sourced the file, it identifies these variables."""
    return " ".join(_digest(name, value) for name, value in variables.items())


def is_sourced(environ: Mapping[str, str], name: str) -> bool:
    """True for a variable with the value that `.local/env` had when this terminal sourced it."""
    if re.search(rf"\b{name}=", environ.get("MAKEFLAGS", "")):  # on make's command line
        return False
    if marks := environ.get(SOURCED):
        return _digest(name, environ[name]) in marks.split()
    file = environ.get("MINUTEMARK_ENV_FILE")  # sourced before an upgrade
    return bool(file) and environ[name] == read(Path(file)).get(name)


def _digest(name: str, value: str) -> str:
    return hashlib.sha256(f"{name}={value}".encode()).hexdigest()[:16]


def overrides(environ: Mapping[str, str], dot_env: Mapping[str, str]) -> dict[str, str]:
    """The variables of `environ` that apply beside `.env` or instead of it.

    All, except variables of `.env` whose value here comes only from sourcing `.local/env`.
    """
    return {name: value for name, value in environ.items() if name not in dot_env or not is_sourced(environ, name)}


def use(variables: Mapping[str, str]) -> None:
    """Set these variables in this process, and unset METADATA and the project's other connections."""
    for name in (METADATA, *map(variable, IDS)):
        os.environ.pop(name, None)
    os.environ.update({name: value for name, value in variables.items() if name != METADATA})
