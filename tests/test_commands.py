"""The table of commands: functions, help and completion match its declarations, and values are read or refused."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import subprocess
from datetime import datetime
from decimal import Decimal

import pytest

from include import cli, commands, listing
from include.commands import COMMANDS
from include.env_file import ROOT
from include.errors import MinutemarkError
from include.parameters import FLAG, MINUTE, NUMBER, PERCENTAGE, WHOLE, Parameter, ValueRefused


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_function_takes_the_declared_parameters(command):
    module, _, name = command.function.partition(":")
    signature = inspect.signature(getattr(importlib.import_module(module), name))
    signature.bind(
        **{parameter.keyword or parameter.name: None for parameter in command.parameters},
        **dict.fromkeys(command.passes),
    )
    for parameter in command.parameters:
        declared = signature.parameters.get(parameter.keyword or parameter.name)
        if declared and declared.default is not inspect.Parameter.empty:
            assert declared.default == parameter.default, f"the default of {parameter.name}"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_the_help_of_every_command_describes_its_parameters(command, capsys):
    assert cli.main([command.name, "--help"]) == 0
    help_text = " ".join(capsys.readouterr().out.split())
    assert command.help in help_text
    arguments = [parameter for parameter in command.parameters if parameter.positional]
    usage = [p.name.upper() if p.required else f"[{p.name.upper()}]" for p in arguments]
    assert " ".join(["Usage: minutemark", command.name, "[OPTIONS]", *usage]) in help_text
    for parameter in command.parameters:
        assert (
            parameter.name.upper() if parameter.positional else f"--{parameter.name.replace('_', '-')}"
        ) in help_text
        assert parameter.help in help_text


@pytest.mark.parametrize(
    ("parameter", "value", "result"),
    [
        (Parameter("at", "", MINUTE), "2026-03-01T10:00:59+01:00", datetime(2026, 3, 1, 9)),
        (Parameter("lines", "", WHOLE, minimum=1), "7", 7),
        (Parameter("share", "", PERCENTAGE, maximum=100, minimum=0), "20 %", 20.0),
        (Parameter("share", "", PERCENTAGE, maximum=100, minimum=0), 20, 20.0),
        (Parameter("wait", "", FLAG, True), None, True),
        (Parameter("wait", "", FLAG, True), False, False),
        (Parameter("kind", "", choices=("a", "b")), "", None),
    ],
)
def test_a_value_is_read_from_text_or_from_json(parameter, value, result):
    assert parameter.read(value) == result


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        (Parameter("at", "", MINUTE), "noon", "`at` is 'noon', which is not a date and time. Write it as 2026-"),
        (Parameter("lines", "", WHOLE, minimum=1), "0", "`lines` is 0. Write a number of 1 or more."),
        (Parameter("lines", "", WHOLE, minimum=1), "many", "'many', which is not a whole number"),
        (Parameter("share", "", PERCENTAGE, minimum=0, maximum=100), "101", "Write a number from 0 to 100."),
        (Parameter("seconds", "", NUMBER, minimum=0), "nan", "`seconds` is 'nan', which is not a number"),
        (Parameter("patience", "", NUMBER, minimum=0), 10**400, "which is not a number"),
        (Parameter("patience", "", NUMBER, minimum=0), "inf", "`patience` is 'inf', which is not a number"),
        (Parameter("kind", "", choices=("a", "b")), "c", "`kind` is 'c'. Choose one of a, b."),
        (Parameter("field", "Field to accept.", required=True), "", "`field` is empty. Field to accept."),
    ],
)
def test_a_value_that_cannot_be_read_is_refused_with_a_correct_form(parameter, value, message):
    with pytest.raises(MinutemarkError) as refused:
        parameter.read(value)
    assert message in str(refused.value)


def test_numbers_of_json_stay_exact():
    row = {"spend": Decimal("12345678901234567890.123456"), "at": datetime(2026, 3, 1, 10), "rows": 3}
    result = listing.Listing([row], [row], {"spend": "spend"}, "nothing", lambda _: ())
    assert json.loads(listing.as_json(result)) == [
        {"spend": "12345678901234567890.123456", "at": "2026-03-01 10:00:00", "rows": 3}
    ]


def test_bash_loads_the_completion_that_the_docs_describe():
    [line] = re.findall(r"^source .*$", (ROOT / "docs" / "commands.md").read_text(), re.MULTILINE)
    done = subprocess.run(["bash", "-c", f"{line} && complete -p minutemark"], cwd=ROOT, capture_output=True, text=True)
    assert "_minutemark_completion" in done.stdout, done.stderr


def test_completion_offers_the_choices_of_a_parameter():
    release = cli.build().commands["release"]
    pipeline = next(param for param in release.params if param.name == "pipeline")
    assert [item.value for item in pipeline.type.shell_complete(None, pipeline, "re")] == ["recruitment"]


def test_ingest_for_zero_seconds_is_refused():
    """Without seconds, ingest follows the topic up to its end; zero seconds must not mean the same."""
    seconds = next(parameter for parameter in commands.get("ingest").parameters if parameter.name == "seconds")
    with pytest.raises(ValueRefused, match="`seconds` is 0. Write a number of 1 or more."):
        seconds.read("0")
