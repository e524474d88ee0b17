"""Progress on the terminal: a line when a step begins, and one with its duration when it ends."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

_lock = threading.Lock()


def say(line: str) -> None:
    """Print one whole line at once, from any thread. It is lost if it cannot be written: the terminal may be closed."""
    with _lock, contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(what: str, min_seconds: float = 0.0) -> Iterator[None]:
    """Print when a step begins and ends.

    With `min_seconds`, print only the end, and only if the step failed or took at least that long.
    """
    began = time.monotonic()
    if not min_seconds:
        say(f"   … {what}")
    try:
        yield
    except BaseException:
        say(f"   ✗ {what}  {time.monotonic() - began:.1f} s")
        raise
    seconds = time.monotonic() - began
    if seconds >= min_seconds:
        say(f"   ✓ {what}  {seconds:.1f} s")
