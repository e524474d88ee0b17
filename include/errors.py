"""Expected failures: the message says where, what was found and what to do.

Commands print the message without a traceback, and end with `exit_status`; tasks fail with the message (dags/operations.py).
"""

from __future__ import annotations

import errno
import os

SET_UP = "run the DAG `minutemark_setup` (`make run` and `make services` do the same)"
_STORAGE = {
    errno.ENOSPC: "free disk space",
    errno.EDQUOT: "free disk space, or raise the quota",
    errno.EACCES: "allow this user to read and write the file, and to access its folder",
    errno.EROFS: "make the file system writable",
}


class MinutemarkError(Exception):
    """The base of every expected failure."""

    exit_status = 2  # 1 is for a result: something differs, is missing or failed
    is_retried = False  # True: a task retries, because the same call may succeed later


def storage_problem(error: OSError, place: object) -> str | None:
    """What to print for a disk that is full or not accessible, about the error's file or `place`; None for any other error."""
    if error.errno not in _STORAGE:
        return None
    where = error.filename or place
    return f"{where}: {os.strerror(error.errno)}\n  What to do: {_STORAGE[error.errno]}."
