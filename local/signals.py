"""The signals of a command that owns a stack: the command stops its stack before it ends, and no signal interrupts that."""

from __future__ import annotations

import signal
import sys

ENDING = (signal.SIGTERM, signal.SIGHUP)


def exit_on_signals() -> None:
    """SIGTERM and SIGHUP raise SystemExit from now on, as SIGINT raises KeyboardInterrupt: `finally` stops the stack."""
    for number in ENDING:
        signal.signal(number, lambda received, _: sys.exit(128 + received))


def ignore_signals() -> None:
    """SIGINT, SIGTERM and SIGHUP have no effect from now on: for the clean-up at the end of a command."""
    for number in (signal.SIGINT, *ENDING):
        signal.signal(number, signal.SIG_IGN)
