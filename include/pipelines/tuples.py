"""Refuses a text where a declaration needs a tuple: Python reads ("NULL") without its comma as the letters N, U, L, L."""

from __future__ import annotations

from dataclasses import fields
from typing import Any


def require_tuples(declared: Any, where: str) -> None:
    """Raise ValueError if a field of this dataclass that holds a tuple has a text."""
    for field in fields(declared):
        value = getattr(declared, field.name)
        if str(field.type).startswith("tuple") and isinstance(value, str):
            raise ValueError(f"{where}: {field.name} is the text {value!r}: write a tuple, with a comma: ({value!r},).")
