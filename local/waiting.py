"""Waiting for a server: until it answers, its process dies, or the time is up."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from local.problems import Problem

Answer = TypeVar("Answer")


def until(
    attempt: Callable[[], Answer],
    *,
    what: str,
    seconds: float,
    errors: tuple[type[BaseException], ...],
    alive: Callable[[], bool] = lambda: True,
    log: str = "",
    interval: float = 0.25,
) -> Answer:
    """The first result of `attempt` without one of `errors`. Raises Problem when the time is up or `alive` returns False."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except errors as error:
            remedy = f"Read {log}." if log else "Read its log."
            if not alive():
                raise Problem(what, "its process ended during start-up", remedy) from error
            if time.monotonic() > deadline:
                raise Problem(what, f"not ready within {seconds:.0f} s; last error: {error}", remedy) from error
        time.sleep(interval)
