"""Rows as the page's scripts read them: JSON, with times marked as UTC."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal


def as_json(content: object) -> bytes:
    return json.dumps(plain(content), ensure_ascii=False, allow_nan=False).encode()


def plain(value: object) -> object:
    """The value in types that JSON has; naive times are UTC."""
    if isinstance(value, datetime):
        return f"{value.isoformat()}Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, Mapping):
        return {str(name): plain(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [plain(member) for member in value]
    return value
