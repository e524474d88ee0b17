"""Demo traffic: as many events as requested, spread over the requested time, some of them late, duplicate or broken."""

import random
import uuid
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from include import pipelines
from include.demo import recruitment as demo
from include.demo.traffic import NoDemo, _TimeUUIDs, demo_of, import_demo_dimensions, run_traffic
from include.lake import change_log
from include.lake.counts import minute_counts
from include.lake.keys import parse, time_of

NOW = datetime(2026, 9, 1, 12, 30)


def soon(seconds=30):
    return datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=seconds)


def test_every_event_is_in_the_lake_once_and_its_minute_is_touched(recruitment, lake_schema, reader):
    before = change_log.clock(reader) - timedelta(seconds=5)
    summary = run_traffic(recruitment, events=400, seconds=3, late=0.1, duplicate=0.2, broken=0.1, seed=7, until=soon())
    assert summary.events == 400
    assert 20 < summary.late < 65 and 20 < summary.broken < 65 and 50 < summary.duplicates < 115
    counts = minute_counts(reader, recruitment, summary.minutes)
    assert sum(rows for rows, _ in counts.values()) == 400  # duplicates are the same rows
    days = change_log.changed_days(reader, recruitment.lake_table)
    touched = {}
    for day in days:
        touched |= change_log.minutes_of_day(reader, recruitment.lake_table, day)
    assert summary.minutes <= set(touched)
    assert all(time_of(touched[minute]) > before for minute in summary.minutes)
    assert any(minute < before - timedelta(minutes=2) for minute in summary.minutes)  # late ones


def test_traffic_stops_in_time_and_sends_nothing_when_no_time_is_left(recruitment, lake_schema):
    summary = run_traffic(recruitment, events=50, seconds=60, seed=1, until=soon(2))
    assert (summary.events, summary.seconds < 2.5) == (50, True)
    assert run_traffic(recruitment, events=50, seed=1, until=soon(0)).events == 0


def test_the_mix_has_every_kind_and_mostly_empty_job_ids():
    rng = random.Random(1)
    events = [demo.event(rng, NOW) for _ in range(5_000)]
    kinds = Counter(event.get("custom_track", "") for event in events)
    assert set(kinds) == {
        "", "click", "alive", "conversion", "unqualified", "qualified", "interview_scheduled", "redirect", "superpixel",
    }  # fmt: skip
    assert 0.28 < sum("job_id" in event for event in events) / 5_000 < 0.36
    assert any('"customevent"' in event.get("ed", "") for event in events)
    assert any('"publisherId":"4,1,2,3,5"' in event.get("ed", "") for event in events)
    assert all(set(event) <= set(pipelines.get("recruitment").fields) for event in events)


def test_the_same_seed_gives_the_same_events():
    first, again = random.Random(5), random.Random(5)
    assert [demo.event(first, NOW) for _ in range(50)] == [demo.event(again, NOW) for _ in range(50)]


def test_broken_events_break_the_contract_in_each_way():
    rng = random.Random(2)
    broken = [demo.broken_event(rng, NOW) for _ in range(60)]
    assert {event["custom_track"] for event in broken} == {"click"}
    assert any(event["ts"] == "yesterday" for event in broken)
    assert any(event["bid"].startswith("-") for event in broken)
    assert any(not event["job_id"].isdigit() for event in broken)


def test_visited_jobs_are_those_of_the_dimension():
    jobs = {row["id"] for row in demo.dimension_rows()["job"]}
    rng = random.Random(3)
    visited = {int(event["job_id"]) for event in (demo.event(rng, NOW) for _ in range(3_000)) if "job_id" in event}
    assert len(jobs) == 40
    assert len({row["company_id"] for row in demo.dimension_rows()["job"]}) == 12
    assert visited <= jobs


def test_ids_are_time_uuids_of_their_time_and_never_repeat():
    ids = _TimeUUIDs()
    event_ids = [ids.at(NOW + timedelta(microseconds=number % 3)) for number in range(3_000)]
    assert len(set(event_ids)) == 3_000
    assert all(parse(str(event_id)) == event_id and event_id.variant == uuid.RFC_4122 for event_id in event_ids)
    assert max(abs(time_of(event_id) - NOW) for event_id in event_ids) < timedelta(seconds=1)


def test_the_demos_jobs_are_imported_once(recruitment, warehouse_schema):
    assert import_demo_dimensions(recruitment) == 40
    assert import_demo_dimensions(recruitment) == 0


def test_a_pipeline_without_a_demo_is_reported():
    with pytest.raises(NoDemo, match=r"write include/demo/nothing\.py"):
        demo_of(replace(pipelines.get("recruitment"), name="nothing"))
