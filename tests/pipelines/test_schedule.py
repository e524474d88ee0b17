"""Which pipelines run continuously."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from include import pipelines
from include.schedule import UnknownSchedule, continuous_wait, is_continuous

SHOP = pipelines.get("ecommerce")


@pytest.mark.parametrize(
    ("declared", "setting", "expected"),
    [
        ("", None, False),
        ("", "", False),
        ("", "minute", False),
        ("", " Continuous ", True),
        ("continuous", None, True),
        ("continuous", "minute", True),  # the declaration takes precedence
        ("minute", "continuous", False),
    ],
)
def test_the_setting_is_for_pipelines_that_declare_no_schedule(declared, setting, expected):
    environ = {} if setting is None else {"MINUTEMARK_SCHEDULE": setting}
    assert is_continuous(replace(SHOP, schedule=declared), environ) is expected


def test_an_unknown_schedule_is_refused_with_the_possible_values():
    with pytest.raises(UnknownSchedule, match="MINUTEMARK_SCHEDULE is 'hourly'. Set it to minute or continuous"):
        is_continuous(SHOP, {"MINUTEMARK_SCHEDULE": "hourly"})
    with pytest.raises(ValueError, match="ecommerce: schedule is 'hourly': write 'minute' or 'continuous'"):
        replace(SHOP, schedule="hourly")


@pytest.mark.parametrize(("limit", "wait"), [(180, 120), (90, 60), (3_600, 120)])
def test_an_idle_pipeline_polls_its_lake_before_the_watch_reports_it_blind(limit, wait):
    assert continuous_wait(replace(SHOP, look_limit=timedelta(seconds=limit))) == timedelta(seconds=wait)
