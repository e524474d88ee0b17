"""Named SQL: the statements of a module are in the .sql file next to it, where they can be read and run as SQL.

    -- name: overdue
    -- Open batches that no run can be working on: one row per batch.
    SELECT batch_id FROM etl.batches …;

The comment states purpose and grain. Values are always bound: as %(name)s, or as %s in statements that take a sequence of values.
{{ … }} fills in identifiers and conditions, from declarations and the project's own code only.
Macros that several statements share come before the first one. Only a statement of one line that fills in nothing may stay
in Python, where it is used: tests/warehouse/test_statements.py enforces that.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

from include.warehouse.sql import environment

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_COMMENT = re.compile(r"^ *--.*\n", re.MULTILINE)


class Statements:
    """The statements beside a module: `sql = Statements(__file__)`, then `sql("overdue")`."""

    def __init__(self, module: str) -> None:
        self.source = Path(module).with_suffix(".sql")

    def __call__(self, name: str, **identifiers: object) -> str:
        """The rendered statement. Raises LookupError for an unknown name, and Jinja's UndefinedError for a missing identifier."""
        if name not in self.texts:
            raise LookupError(f"{self.source} has no statement {name!r}. It has: {', '.join(self.texts)}.")
        return _template(self.texts[name]).render(identifiers).strip().rstrip(";")

    @functools.cached_property
    def texts(self) -> dict[str, str]:
        """The templates by name, without comments."""
        shared, *parts = _NAME.split(self.source.read_text(encoding="utf-8"))
        texts = zip(parts[::2], parts[1::2], strict=True)
        return {name: _COMMENT.sub("", shared + text) for name, text in texts}


@functools.cache
def _template(text: str):
    return environment().from_string(text)
