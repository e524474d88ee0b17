"""The demo's history: which minutes get how many events, and that a minute's events are the same whenever they are made."""

import random
from collections import Counter, defaultdict
from datetime import datetime, timedelta

import pytest

from include import pipelines
from include.demo import EVENTS_PER_MINUTE
from include.demo import recruitment as demo
from include.demo.past import events_of, past_minutes, send_past
from include.demo.traffic import demo_of, is_demo
from include.lake import change_log
from include.lake.counts import minute_counts
from include.lake.keys import minute_of, time_of

NOW = datetime(2026, 9, 15, 18, 7, 30)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
WITH_PAST = [pipeline for pipeline in pipelines.all_pipelines().values() if hasattr(demo_of(pipeline), "PAST")]


def hours(minutes) -> Counter:
    """Events by hour."""
    result = Counter()
    for minute in minutes:
        result[minute.minute.replace(minute=0)] += minute.events
    return result


def test_every_hour_of_a_day_and_of_two_weeks_has_events() -> None:
    result = hours(past_minutes(NOW, demo.PAST))
    assert {NOW.replace(minute=0, second=0) - number * HOUR for number in range(14 * 24 + 1)} <= set(result)
    assert sum(result.values()) < 100_000


def test_the_newest_minutes_come_first_and_those_of_the_live_demo_are_left_out() -> None:
    minutes = [past_minute.minute for past_minute in past_minutes(NOW, DAY)]
    assert minutes[0] == datetime(2026, 9, 15, 18, 0)
    assert minutes == sorted(minutes, reverse=True) and len(minutes) == len(set(minutes))
    assert minutes[-1] >= NOW - DAY


def test_the_last_day_has_as_many_events_an_hour_as_the_live_demo_at_its_busiest() -> None:
    result = hours(past_minutes(NOW, DAY))
    assert result[datetime(2026, 9, 15, 17)] == 60 * EVENTS_PER_MINUTE
    assert result[datetime(2026, 9, 15, 3)] < result[datetime(2026, 9, 15, 9)] / 4


def test_a_minute_has_the_same_ids_later_or_the_first_of_them_if_it_has_fewer_events() -> None:
    [now] = [past_minute for past_minute in past_minutes(NOW, DAY) if past_minute.minute == datetime(2026, 9, 15, 12)]
    [later] = [
        past_minute for past_minute in past_minutes(NOW + 3 * DAY, demo.PAST) if past_minute.minute == now.minute
    ]
    assert (now.events, later.events) == (190, 38)
    first = [event.create_time for event in events_of(demo, now, NOW)]
    assert [event.create_time for event in events_of(demo, later, NOW + 3 * DAY)] == first[:38]
    assert len(set(first)) == 190 and all(map(is_demo, first))
    assert {minute_of(event_id) for event_id in first} == {now.minute}


@pytest.mark.parametrize("pipeline", WITH_PAST, ids=lambda pipeline: pipeline.name)
def test_events_of_a_minute_are_the_same_each_time(pipeline) -> None:
    minute = next(past_minutes(NOW, DAY))
    first = list(events_of(demo_of(pipeline), minute, NOW))
    assert first == list(events_of(demo_of(pipeline), minute, NOW))
    assert all(set(event.values) <= set(pipeline.fields) for event in first)


@pytest.mark.parametrize("pipeline", WITH_PAST, ids=lambda pipeline: pipeline.name)
def test_housekeeping_keeps_the_past_for_some_days(pipeline) -> None:
    """Otherwise it would close minutes that no run has read yet."""
    assert pipeline.retention.demo_events >= demo_of(pipeline).PAST + 5 * DAY


def test_costs_of_campaigns_differ_one_falls_and_one_rises() -> None:
    def costs(age: timedelta) -> dict[str, float]:
        rng, spend, qualified = random.Random(5), defaultdict(float), Counter()
        for _ in range(60_000):
            event = demo.past_event(rng, NOW, age)
            if campaign := event.get("campaign_id"):
                spend[campaign] += float(event["bid"]) if event.get("custom_track") == "click" else 0
                qualified[campaign] += event.get("custom_track") == "qualified"
        return {campaign: spend[campaign] / max(1, qualified[campaign]) for campaign in spend}

    before, now = costs(timedelta(days=10)), costs(timedelta(0))
    assert now["902"] < before["902"] * 0.5 and now["903"] > before["903"] * 1.5
    assert 0.75 < now["900"] / before["900"] < 1.3
    assert now["906"] > 100 * now["901"]  # clicks cost money, and nobody qualifies


@pytest.mark.parametrize("name", ["recruitment", "ecommerce"])
def test_a_past_that_is_sent_twice_is_in_the_lake_once_and_its_minutes_are_touched(name, lake_schema, reader) -> None:
    pipeline = pipelines.get(name)
    now = change_log.clock(reader)
    sent = send_past(pipeline, now, past=3 * HOUR)
    minutes = {past_minute.minute: past_minute.events for past_minute in past_minutes(now, 3 * HOUR)}
    first = minute_counts(reader, pipeline, minutes)
    assert {minute: rows for minute, (rows, _) in first.items()} == minutes and sum(minutes.values()) == sent
    assert send_past(pipeline, now + 2 * MINUTE, past=3 * HOUR) >= sent - 600
    assert minute_counts(reader, pipeline, minutes) == first
    days = change_log.changed_days(reader, pipeline.lake_table)
    touched = {minute for day in days for minute in change_log.minutes_of_day(reader, pipeline.lake_table, day)}
    assert set(minutes) <= touched
    assert all(
        time_of(change_log.minutes_of_day(reader, pipeline.lake_table, minute.date())[minute]) > now
        for minute in minutes
    )
