"""The table in include/commands.py as text: `make help` prints it, and docs/commands.md has it between two comments.

`python3 -m local.command_list` prints it; with `--docs` it writes the page. It needs the standard library only.
"""

from __future__ import annotations

import re
import sys
from itertools import groupby

from include.commands import COMMANDS
from include.env_file import ROOT
from include.parameters import FLAG, Command, Parameter

PAGE = ROOT / "docs" / "commands.md"
_BLOCK = re.compile(r"(<!-- commands: [^>]*-->\n).*?(<!-- end of commands -->\n)", re.DOTALL)


def make_help() -> str:
    """A line for each command, and one for its variables."""
    lines = []
    for command in COMMANDS:
        lines += [f"  {command.name:<15}{command.help}", f"{'':19}{_variables(command)}"]
    return "\n".join(lines)


def _variables(command: Command) -> str:
    needed = " ".join(
        f"{parameter.make_variable}={_example(parameter)}" for parameter in command.parameters if parameter.required
    )
    others = [
        f"{parameter.make_variable}={_example(parameter)}" for parameter in command.parameters if not parameter.required
    ]
    formats = [f"FORMAT={'|'.join(command.formats)}"] if command.formats else []
    return f"{needed} ({' '.join([*others, *formats, 'JSON=1'])})".strip()


def _example(parameter: Parameter) -> str:
    if parameter.type is FLAG:
        return "0" if parameter.default else "1"
    return "|".join(parameter.choices) or "…"


def docs_sections() -> str:
    """A section for each group of commands."""
    sections = []
    for heading, commands in groupby(COMMANDS, key=lambda command: command.group):
        rows = "\n".join(map(_row, commands))
        sections.append(f"## {heading}\n\n| command | what it does | options | DAG |\n|---|---|---|---|\n{rows}\n")
    return "\n" + "\n".join(sections) + "\n"


def _row(command: Command) -> str:
    arguments = [_argument(parameter) for parameter in command.parameters if parameter.positional]
    names = [parameter.name.replace("_", "-") for parameter in command.parameters if not parameter.positional]
    options = [f"`--{name}`" for name in [*names, *(["format"] if command.formats else [])]]
    text = f"{command.help} {command.details}".strip()
    dag = f"`{command.dag}`" if command.dag else ""
    return f"| `{' '.join(['./minutemark', command.name, *arguments])}` | {text} | {' '.join(options)} | {dag} |"


def _argument(parameter: Parameter) -> str:
    return parameter.name.upper() if parameter.required else f"[{parameter.name.upper()}]"


def page(text: str) -> str:
    """The page with its generated block replaced."""
    return _BLOCK.sub(lambda block: block[1] + docs_sections() + block[2], text)


if __name__ == "__main__":
    if "--docs" in sys.argv:
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(make_help())
