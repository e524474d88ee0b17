"""Expected failures: each says where, what was found, and what to do instead. Commands print them without a traceback."""

from __future__ import annotations

from include.errors import MinutemarkError


class Problem(MinutemarkError):
    """Something that the user of the command can fix."""

    def __init__(self, where: str, found: str, remedy: str) -> None:
        super().__init__(where, found, remedy)
        self.where = where
        self.found = found
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.where}: {self.found}\n  What to do: {self.remedy}"
