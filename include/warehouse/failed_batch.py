"""Decides, without access to a store, what happens to the minutes of a batch that ended without a merge."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

FAILURES_BEFORE_SPLIT = 2


class Decision(Enum):
    """What to do with the minutes."""

    RETRY = "the next batch reads them as before"
    SPLIT = "they are split into batches of at most half the size, at least one minute"
    HOLD = "they are held: they fail alone while others pass"


@dataclass(frozen=True)
class FailedBatch:
    """How a batch ended."""

    run_id: str
    is_delta: bool
    minutes: int
    attempts: int
    gate_ran: bool  # on its newest attempt
    merge_tries: int
    reason: str | None
    is_open: bool  # its first minute was still open when the batch was opened
    is_folded_hour: bool  # its minutes are one folded hour, which cannot be split

    @property
    def failed_step(self) -> str | None:
        """The task that failed too often. A gate's verdict is not such a failure: it has held the minutes responsible."""
        if self.is_delta and self.merge_tries >= FAILURES_BEFORE_SPLIT:
            return "merge_into_warehouse"
        if self.is_delta and self.attempts >= FAILURES_BEFORE_SPLIT and not self.gate_ran:
            return "transform_delta"
        return None

    @property
    def fails_alone(self) -> bool:
        """Whether it failed too often and is as small as a batch can be: one minute, or one folded hour.

        A still-open minute does not count: its next read has other events.
        """
        return self.failed_step is not None and (self.is_folded_hour or (self.minutes == 1 and not self.is_open))

    @property
    def why_held(self) -> str:
        """The reason of its minutes, once they are held."""
        cause = self.reason or f"the log of {self.failed_step} in run {self.run_id} says why"
        return f"fails alone in {self.failed_step}: {cause}"

    def decision(self, others_passed: bool) -> Decision:
        """The decision. `others_passed`: another batch was merged meanwhile; if not, the minute may not be the cause."""
        if self.failed_step is None:
            return Decision.RETRY
        return Decision.HOLD if self.fails_alone and others_passed else Decision.SPLIT
