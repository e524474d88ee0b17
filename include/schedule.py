"""When the runs of `<pipeline>_minute` start: as the pipeline declares, or else as MINUTEMARK_SCHEDULE says.

DAG files may read this setting: it is in the environment, not in a store.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta

from include.errors import MinutemarkError
from include.pipelines import Pipeline
from include.pipelines.declaration import CONTINUOUS, MINUTE, SCHEDULES

SETTING = "MINUTEMARK_SCHEDULE"
LONGEST_WAIT = timedelta(minutes=2)


class UnknownSchedule(MinutemarkError):
    """MINUTEMARK_SCHEDULE has a value that is not a schedule."""


def default_schedule(environ: Mapping[str, str] = os.environ) -> str:
    """The schedule of pipelines that declare none. Raises UnknownSchedule."""
    schedule = environ.get(SETTING, "").strip().lower() or MINUTE
    if schedule not in SCHEDULES:
        raise UnknownSchedule(f"{SETTING} is {schedule!r}. Set it to {MINUTE} or {CONTINUOUS}, or leave it empty.")
    return schedule


def is_continuous(pipeline: Pipeline, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a run starts when the previous one ends. Raises UnknownSchedule."""
    return (pipeline.schedule or default_schedule(environ)) == CONTINUOUS


def continuous_wait(pipeline: Pipeline) -> timedelta:
    """How long a continuous run waits for a change. It ends before `look_limit`: each run records one poll of the lake."""
    return min(LONGEST_WAIT, pipeline.look_limit * 2 / 3)
