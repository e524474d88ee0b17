"""The command line: `./minutemark`, or `python -m include.cli`, from the table in include/commands.py.

Exit status: 0 for success; 1 if the command ends, but something differs, is missing or failed; 2 for wrong usage, or if
the command cannot run; 130 if Ctrl-C stops it.
"""

from __future__ import annotations

import getpass
import logging
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any

try:
    import click
    from click.shell_completion import CompletionItem
except ModuleNotFoundError:
    print(
        f"The commands need the project's packages, which {sys.executable} does not have. On Linux run: make setup. "
        "In an Airflow deployment, run the commands in the environment where requirements.txt is installed.",
        file=sys.stderr,
    )
    sys.exit(2)

from include import env_file
from include.commands import COMMANDS
from include.errors import MinutemarkError, storage_problem
from include.listing import as_json
from include.parameters import FLAG, Command, Parameter

# Lists the variables on make's command line. Others may be in the environment by chance, and are not read.
FROM_MAKE = "MINUTEMARK_FROM_MAKE"


class _Group(click.Group):
    """Lists its commands under the headings of the table, and finds them by their former names too."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name_by_alias = {command.alias: command.name for command in COMMANDS if command.alias}
        return super().get_command(ctx, name_by_alias.get(cmd_name, cmd_name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, commands in groupby(COMMANDS, key=lambda command: command.group):
            with formatter.section(heading):
                formatter.write_dl([(command.name, command.help) for command in commands])


class _Command(click.Command):
    """Describes its arguments in its help, which click does only from 8.5 on."""

    def __init__(self, *args, arguments: Mapping[str, str], **attributes) -> None:
        super().__init__(*args, **attributes)
        self._arguments = arguments

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self._arguments:
            with formatter.section("Arguments"):
                formatter.write_dl([(name.upper(), text) for name, text in self._arguments.items()])
        super().format_options(ctx, formatter)


class _Value(click.ParamType):
    """The type of a declared parameter."""

    def __init__(self, parameter: Parameter) -> None:
        self.parameter = parameter
        self.name = parameter.type.name

    def convert(self, value, param, ctx):
        try:
            return self.parameter.read(value)
        except MinutemarkError as error:
            return self.fail(str(error), param, ctx)

    def shell_complete(self, ctx, param, incomplete):
        return [CompletionItem(choice) for choice in self.parameter.choices if choice.startswith(incomplete)]


def build() -> click.Group:
    """The command line."""
    group = _Group("minutemark", help="Operate Minutemark: each command has its own --help.", no_args_is_help=True)
    make_variables = os.environ.get(FROM_MAKE, "").split()
    for command in COMMANDS:
        group.add_command(_click_command(command, make_variables))
    return group


def _click_command(command: Command, make_variables: Sequence[str]) -> click.Command:
    def variable(name: str) -> str | None:
        return name if name in make_variables else None

    params = [_click_parameter(parameter, variable(parameter.make_variable)) for parameter in command.parameters]
    if command.formats:
        choice = click.Choice(command.formats)
        params.append(
            click.Option(["--format", "output_format"], type=choice, default="table", envvar=variable("FORMAT"))
        )
    params.append(click.Option(["--json", "is_json"], is_flag=True, help="Print JSON.", envvar=variable("JSON")))
    return _Command(
        command.name,
        callback=partial(_run, command),
        params=params,
        help=command.help,
        arguments={parameter.name: parameter.help for parameter in command.parameters if parameter.positional},
    )


def _click_parameter(parameter: Parameter, variable: str | None) -> click.Parameter:
    keyword = parameter.keyword or parameter.name
    options: dict[str, Any] = {"required": parameter.required, "envvar": variable}
    if parameter.positional:
        metavar = parameter.name.upper() if parameter.required else f"[{parameter.name.upper()}]"
        return click.Argument([keyword], type=_Value(parameter), metavar=metavar, **options)
    name = parameter.name.replace("_", "-")
    options |= {"default": parameter.default, "help": parameter.help}
    if parameter.type is FLAG:
        names = f"--{name}/--no-{name}" if parameter.default else f"--{name}"
        return click.Option([names, keyword], is_flag=True, **options)
    return click.Option([f"--{name}", keyword], type=_Value(parameter), show_default=True, **options)


def _run(command: Command, *, is_json: bool, output_format: str = "", **keywords) -> None:
    """Call the operation, print its result, and end with its exit status."""
    json = is_json or output_format == "json"
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        if command.connects:
            _use_connections()
        report = partial(_print, file=sys.stderr if json else sys.stdout)
        result = command.call(keywords, user=login_name(), report=report)
    except MinutemarkError as error:
        _end(error.exit_status, f"{command.failed} {error}".strip())
    except KeyboardInterrupt:
        _end(130, f"\n{command.stopped}")
    except OSError as error:
        if (message := storage_problem(error, env_file.state_folder())) is None:
            raise
        _end(2, message)
    if json:
        _print(as_json(result))
    else:
        _print(result.in_format(output_format) if output_format else result)
    problem = getattr(result, "problem", None)
    _end(1 if problem else 0, problem)


def _use_connections() -> None:
    """Use the connections of this machine's stack if there is one, else Airflow's."""
    env = env_file.state_folder() / "env"
    if variables := env_file.read(env):
        demo = os.environ.get("MINUTEMARK_DEMO") or variables.get(env_file.STACK_DEMO, "")
        env_file.use({**variables, "MINUTEMARK_DEMO": demo})
    elif "AIRFLOW_HOME" not in os.environ and not any(name.startswith("AIRFLOW_CONN_") for name in os.environ):
        raise MinutemarkError(
            f"There are no connections: {env} does not exist, and no AIRFLOW_CONN_… is set. Run `make run` or "
            "`make services` first, or run this where Airflow runs."
        )


def _print(text: object, file=None) -> None:
    """Print a text that is not empty, unless its reader has closed the pipe (`… | head`). The operation continues."""
    try:
        if line := str(text):
            print(line.removesuffix("\n"), file=file, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), (file or sys.stdout).fileno())


def _end(status: int, message: str | None = None) -> None:
    if message:
        _print(message, file=sys.stderr)
    raise click.exceptions.Exit(status)


def login_name() -> str:
    """The login name of the user at this command line."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # an account without a name, as in containers
        return f"uid {os.getuid()}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    try:
        return build().main(arguments, prog_name="minutemark", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return 2
    except click.Abort:
        return 130
    except Exception:  # Python would end with status 1, which here means that something differs
        traceback.print_exc()
        return 2


if __name__ == "__main__":
    sys.exit(main())
