"""Rows of a lake table with the fields of their payload in addition to the key; a field that is absent is None."""

from __future__ import annotations

import json


class LakeRow:
    """One row: `row.create_time`, `row.payload`, and any field of the event as it was sent."""

    def __init__(self, row) -> None:
        self.row = row._asdict()
        self.fields = json.loads(row.payload)

    def __getattr__(self, name: str) -> object:
        return self.row[name] if name in self.row else self.fields.get(name)

    def __eq__(self, other: object) -> bool:
        """Compare without regard to the order of fields and the white space between them."""
        return isinstance(other, LakeRow) and (self._key(), self.fields) == (other._key(), other.fields)

    def _key(self) -> dict[str, object]:
        return {name: value for name, value in self.row.items() if name != "payload"}
