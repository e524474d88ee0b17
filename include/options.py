"""Reads the options of a run from a trigger form, an API call or a backfill. Their types are those of the declared defaults."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real

from include.errors import MinutemarkError
from include.pipelines import Pipeline

ALLOW_SHRINK = "allow_shrink"


class OptionRefused(MinutemarkError):
    """A value whose type is not that of the option's default; the message names the option."""


def options_of_run(pipeline: Pipeline, params: Mapping[str, object]) -> tuple[dict[str, object], bool]:
    """The transform's options, and allow_shrink; options that `params` lacks have their defaults. Raises OptionRefused."""
    defaults = {**pipeline.options, ALLOW_SHRINK: False}
    values = {name: _check(name, params.get(name, default), default) for name, default in defaults.items()}
    return values, bool(values.pop(ALLOW_SHRINK))


def json_type(default: object) -> str:
    """The type in JSON Schema of an option with this default."""
    if isinstance(default, bool):
        return "boolean"
    if isinstance(default, Real):
        return "number"
    return "string"


def _check(name: str, value: object, default: object) -> object:
    expected_type = json_type(default)
    if not isinstance(value, (bool, Real, str)) or json_type(value) != expected_type:
        example = {"boolean": "true or false, without quotes", "number": "a number, without quotes"}
        raise OptionRefused(f"Option `{name}` is {value!r}: set it to {example.get(expected_type, 'text')}.")
    return value
