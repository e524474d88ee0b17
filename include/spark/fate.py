"""Where a raw row goes: the three fates, and how a rejection explains itself."""

from __future__ import annotations

from enum import Enum

from pyspark.sql import Column
from pyspark.sql import functions as F

COUNTED = "counted"
IGNORED = "ignored"
REJECTED = "rejected"

NO_KIND = "none"
_SHOWN = 200  # characters of what was found; a reason has 500


class Rejection(Enum):
    """Why a row breaks the contract; the value is the sentence a person reads. Pipelines subclass it."""

    def saying(self, found: Column) -> Column:
        """The sentence and what was found, e.g. "bid is negative: -3"."""
        shown = F.coalesce(F.substring(found, 1, _SHOWN), F.lit("nothing"))
        return F.concat(F.lit(f"{self.value}: "), shown)
