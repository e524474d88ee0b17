"""Ends warm drivers. A stack does not need this: `make stop` ends every process that the stack started."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal

from include.spark.warm_driver import PID, _connect_to, _folders, _home


def end_warm_drivers() -> list[int]:
    """End every warm driver of this user and remove its folder; returns their process ids."""
    ended = []
    for folder in _folders(_home()):
        with contextlib.suppress(OSError, ValueError):
            pid = int((folder / PID).read_text())
            if _connect_to(folder, close=True):
                os.killpg(pid, signal.SIGTERM)
                ended.append(pid)
        shutil.rmtree(folder, ignore_errors=True)
    return ended
