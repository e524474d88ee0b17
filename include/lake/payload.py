"""Parses an event's JSON object with its numbers as they were written, and corrects what is not quite JSON, such as NaN."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

import msgspec

_STRING_OR_CONSTANT = re.compile(r'"(?:[^"\\]|\\.)*+"|(-?Infinity|NaN)')
_NULL = msgspec.Raw(b"null")


class NotAnObject(ValueError):
    """A string that is not a JSON object, and why."""


class _Digits(str):
    """A number as it was written."""


class Fields:
    """Reads some fields of JSON objects, and no others."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(dict.fromkeys(names))
        fields = [(name, msgspec.Raw, msgspec.field(default=_NULL, name=name)) for name in self._names]
        numbered_fields = [(f"field_{number}", *rest) for number, (_, *rest) in enumerate(fields)]
        self._decode = msgspec.json.Decoder(msgspec.defstruct("Fields", numbered_fields)).decode  # ty: ignore[invalid-argument-type]  # pairs and triples

    def __reduce__(self) -> tuple[type[Fields], tuple[tuple[str, ...]]]:
        """An import sends its reader to other processes, and a decoder cannot be pickled."""
        return Fields, (self._names,)

    def read(self, text: str) -> tuple[dict[str, str | None], str]:
        """The same as `parsed`, for these fields only; a nested value, which may be an event's id, is the text as sent."""
        may_have_surrogates = "\\ud" in text or "\\uD" in text  # `parsed` refuses lone ones
        if not may_have_surrogates and (values := self._values(text)) is not None:
            return values, text
        values, text = parsed(text)
        return self._values(text) or {name: values.get(name) for name in self._names}, text

    def _values(self, text: str) -> dict[str, str | None] | None:
        """None if msgspec does not read the text: its errors say too little, and it does not read NaN."""
        try:
            document = self._decode(text)
        except (msgspec.MsgspecError, RecursionError):
            return None
        values = zip(self._names, msgspec.structs.astuple(document), strict=True)
        return {name: _value_of(raw) for name, raw in values}


def parsed(text: str) -> tuple[dict[str, str | None], str]:
    """The object's fields as strings, and the object as JSON: NaN and Infinity become strings. Raises NotAnObject.

    Numbers become their digits, nested values become JSON, and null becomes None.
    """
    constants: list[str] = []

    def constant(name: str) -> str:
        constants.append(name)
        return name

    text = text.removeprefix("\ufeff")
    try:
        document = json.loads(text, parse_int=_Digits, parse_float=_Digits, parse_constant=constant)
        valid_unicode = _is_valid_unicode(document)
    except ValueError as error:
        raise NotAnObject(f"is not JSON: {error}") from None
    except RecursionError:
        raise NotAnObject("is nested too deeply") from None
    if not isinstance(document, dict):
        raise NotAnObject("is JSON, but not an object of fields")
    if not valid_unicode:
        raise NotAnObject("has an unpaired surrogate, which is not valid Unicode")
    return {name: _text(value) for name, value in document.items()}, _with_strings(text) if constants else text


def _with_strings(text: str) -> str:
    """The JSON with NaN and Infinity as strings."""
    return _STRING_OR_CONSTANT.sub(lambda match: f'"{match[1]}"' if match[1] else match[0], text)


def _is_valid_unicode(document: object) -> bool:
    """Whether the document's strings can be encoded: an unpaired surrogate cannot."""
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else _to_json(value)


def _to_json(value: object) -> str:
    """The value as JSON, with its numbers as they were written, or as strings if the value is nested too deeply."""
    try:
        return _as_json(value)
    except RecursionError:
        return json.dumps(value, ensure_ascii=False)


def _as_json(value: object) -> str:
    if isinstance(value, _Digits):
        return value
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_as_json(name)}: {_as_json(member)}" for name, member in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_as_json, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _value_of(raw: msgspec.Raw) -> str | None:
    """The value of a string, the JSON text of any other value, or None for null."""
    text = bytes(raw)
    if text.startswith(b'"'):
        return msgspec.json.decode(text)
    return None if text == b"null" else text.decode()
