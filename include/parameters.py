"""The parts of a command of include/commands.py: its parameters, their types, and the function that it calls."""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from include import window
from include.errors import MinutemarkError


class ValueRefused(MinutemarkError):
    """A value that a parameter does not accept; the message says what to write."""


@dataclass(frozen=True)
class Type:
    """How a value is read from text or JSON, and its JSON Schema."""

    name: str
    read: Callable[[str, Any], Any]  # gets the parameter's name and the value; raises MinutemarkError
    schema: Mapping[str, str]


def _number(name: str, value: Any) -> float:
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        if math.isfinite(number := float(value)):  # not inf or nan
            return number
    raise ValueRefused(f"`{name}` is {value!r}, which is not a number. Write one, such as 20.")


def _whole_number(name: str, value: Any) -> int:
    try:
        return int(value)
    except ValueError:
        raise ValueRefused(f"`{name}` is {value!r}, which is not a whole number. Write one, such as 20.") from None


def _percentage(name: str, value: Any) -> float:
    return _number(name, value.strip().removesuffix("%") if isinstance(value, str) else value)


TEXT = Type("text", lambda _, value: value, {"type": "string"})
MINUTE = Type("minute", window.minute_in, {"type": "string", "format": "date-time"})
WHOLE = Type("number", _whole_number, {"type": "integer"})
NUMBER = Type("number", _number, {"type": "number"})
PERCENTAGE = Type("percent", _percentage, {"type": "number"})
FLAG = Type("flag", lambda _, value: bool(value), {"type": "boolean"})


@dataclass(frozen=True)
class Parameter:
    """One parameter: an option or argument of the command line, a variable of make, a field of the DAG's form."""

    name: str
    help: str
    type: Type = TEXT
    default: Any = None
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    required: bool = False
    positional: bool = False  # on the command line
    variable: str = ""  # of make, if it is not the name in capitals
    keyword: str = ""  # of the function, if it is not the name

    @property
    def make_variable(self) -> str:
        return self.variable or self.name.upper()

    def read(self, value: Any) -> Any:
        """The typed value; for an empty value, the default. Raises MinutemarkError."""
        if value is None or value == "":
            if self.required:
                raise ValueRefused(f"`{self.name}` is empty. {self.help}")
            return self.default
        result = self.type.read(self.name, value)
        if self.choices and result not in self.choices:
            raise ValueRefused(f"`{self.name}` is {value!r}. Choose one of {', '.join(self.choices)}.")
        if isinstance(result, int | float) and not self._is_within(result):
            raise ValueRefused(f"`{self.name}` is {value}. Write a number {self._bounds()}.")
        return result

    def _is_within(self, number: float) -> bool:
        return (self.minimum is None or number >= self.minimum) and (self.maximum is None or number <= self.maximum)

    def _bounds(self) -> str:
        return (
            f"from {self.minimum:g} to {self.maximum:g}" if self.maximum is not None else f"of {self.minimum:g} or more"
        )

    def form_default(self) -> Any:
        """The value that the form shows at first. For a required field: its first choice, or an empty string."""
        return next(iter(self.choices), "") if self.required else self.default

    def schema(self) -> dict:
        """JSON Schema of the form's field."""
        optional = self.form_default() is None
        if self.choices:
            return {"enum": [*([None] if optional else []), *self.choices]}
        bounds = {"minimum": self.minimum, "maximum": self.maximum}
        json_type = self.type.schema["type"]
        return {
            **self.type.schema,
            "type": ["null", json_type] if optional else json_type,
            **{name: bound for name, bound in bounds.items() if bound is not None},
        }


@dataclass(frozen=True)
class Command:
    """One operation, as the command line, make, the docs and a DAG offer it."""

    name: str
    function: str  # module:function, imported when it is called; it takes the parameters by keyword
    help: str  # one sentence
    group: str
    parameters: tuple[Parameter, ...] = ()
    details: str = ""  # for the docs, after the sentence
    passes: tuple[str, ...] = ()  # further arguments: `user` for the record, `report` to print lines while it runs
    failed: str = ""  # how the message of a failure begins
    stopped: str = "Stopped."  # by Ctrl-C
    formats: tuple[str, ...] = ()  # of a listing; other commands print text, or JSON
    connects: bool = True  # to a store; False: it works without any connection
    dag: str | None = None  # the DAG whose form has these parameters
    alias: str = ""  # its former name
    permission: str = "edit"  # on `<pipeline>_minute`, to start the DAG: "edit", or "see" (its runs)

    def read(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The function's keyword arguments, from strings or JSON values by parameter name; the default if there is none.

        Raises MinutemarkError.
        """
        return {
            parameter.keyword or parameter.name: parameter.read(values.get(parameter.name))
            for parameter in self.parameters
        }

    def call(self, keywords: Mapping[str, Any], *, user: str, report: Callable[[str], object] = print) -> Any:
        """Run the command and return its result: `str()` describes it, and its `problem`, if any, says what went wrong."""
        module, _, name = self.function.partition(":")
        context = {"user": user, "report": report}
        function = getattr(importlib.import_module(module), name)
        return function(**keywords, **{name: context[name] for name in self.passes})

    def run(self, values: Mapping[str, Any], *, user: str, report: Callable[[str], object] = print) -> Any:
        """Read the values, and run the command."""
        return self.call(self.read(values), user=user, report=report)
