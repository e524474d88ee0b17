"""The JSON object that an event is: parsed with its numbers as they were written, and made JSON where it is nearly so."""

from __future__ import annotations

import json


class NotAnObject(ValueError):
    """A text that is not a JSON object, and why."""


class _Digits(str):
    """A number as it was written."""


def parsed(text: str) -> tuple[dict[str, str | None], str]:
    """The object's fields as texts, and the object as JSON: NaN and Infinity become texts. Raises NotAnObject.

    A number is its digits, a nested value JSON, null None.
    """
    constants: list[str] = []

    def constant(name: str) -> str:
        constants.append(name)
        return name

    text = text.removeprefix("\ufeff")
    try:
        found = json.loads(text, parse_int=_Digits, parse_float=_Digits, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise NotAnObject(f"is not JSON: {str(error) or type(error).__name__}") from None
    if not isinstance(found, dict):
        raise NotAnObject("is JSON, but not an object of fields")
    try:
        as_json = json.dumps(found, ensure_ascii=False)
        as_json.encode()
    except (UnicodeEncodeError, RecursionError):
        raise NotAnObject("holds half of a character (a lone surrogate), which no text can") from None
    return {name: _text(value) for name, value in found.items()}, as_json if constants else text


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
