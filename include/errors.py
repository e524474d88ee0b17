"""Expected failures: the message says where, what was found and what to do.

Commands print the message and end with `exit_status`; tasks fail with it (dags/operations.py). Neither shows a traceback.
"""

from __future__ import annotations


class MinutemarkError(Exception):
    """The base of every expected failure."""

    exit_status = 2  # 1 is for a result: something differs or is missing
    is_retried = False  # by a task: the same call may succeed later
