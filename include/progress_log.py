"""Shows progress of long-running work: a bar on a terminal, a line every ten seconds in a log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

log = logging.getLogger(__name__)

Item = TypeVar("Item")

_SECONDS_BETWEEN_LINES = 10


class Bar:
    """A bar from 0 to `total`; `at` sets its position."""

    def __init__(self, title: str, total: int, unit: str = "B") -> None:
        self._title, self._total, self._unit = title, total, unit
        self._logged = time.monotonic()
        self._bar = None

    def __enter__(self) -> Bar:
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(desc=self._title, total=self._total, unit=self._unit, unit_scale=True, leave=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def over(self, items: Iterable[Item], position: Callable[[], int]) -> Iterator[Item]:
        """The items, while the bar follows `position()`."""
        for item in items:
            yield item
            self.at(position())

    def at(self, position: int) -> None:
        """Show that `position` of `total` is done."""
        if self._bar is not None:
            self._bar.update(position - self._bar.n)
        elif time.monotonic() - self._logged > _SECONDS_BETWEEN_LINES:
            self._logged = time.monotonic()
            log.info("%s: %.0f %%", self._title, 100 * position / max(1, self._total))
