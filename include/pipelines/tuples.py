"""Refuses a string where a declaration needs a tuple: without the comma, ("NULL") is a string, whose items are letters."""

from __future__ import annotations

from dataclasses import fields
from typing import Any


def require_tuples(declared: Any, where: str) -> None:
    """Raise ValueError if a field of this dataclass that is declared as a tuple has a string."""
    for field in fields(declared):
        value = getattr(declared, field.name)
        if str(field.type).startswith("tuple") and isinstance(value, str):
            raise ValueError(
                f"{where}: {field.name} is the string {value!r}: write a tuple, with a comma: ({value!r},)."
            )
