"""Old demo events on both real stores: what leaves the lake, what stays, and that no run notices the removal."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from include import cli, planner
from include.demo.traffic import _TimeUUIDs
from include.housekeeping import demo_events, steps
from include.lake import change_log, counts
from include.lake.writer import Event, EventWriter
from include.warehouse import batches, ledger, merge
from include.warehouse.batches import RunInfo
from tests.warehouse.lab import RECRUITMENT, SECOND, Lab, contribution, touched_at

MINUTE = timedelta(minutes=1)
AGE = timedelta(days=7)


@pytest.fixture
def old(reader) -> datetime:
    """A minute eight days ago; the lake is empty."""
    from tests import emptying

    emptying.empty_lake()
    return (change_log.clock(reader) - timedelta(days=8)).replace(second=0, microsecond=0)


def send(writer, minute: datetime, *, demo: bool = True, count: int = 3, as_of: int | None = None) -> None:
    ids = _TimeUUIDs()
    times = [minute + number * SECOND for number in range(count)]
    event_ids = [ids.at(time) if demo else touched_at(time) for time in times]
    EventWriter(writer, RECRUITMENT).write([Event(event_id, {"ev": "1"}) for event_id in event_ids], as_of=as_of)


def process(lab: Lab, reader, run_id: str = "run-1") -> list[datetime]:
    polled = planner.poll(RECRUITMENT, reader, lab.conn)
    run = RunInfo("recruitment_minute", run_id, polled.clock)
    batch_id = planner.open_delta(RECRUITMENT, reader, lab.conn, run, polled=polled)
    if batch_id is None:
        return []
    minutes = [planned.minute for planned in batches.get(lab.conn, batch_id).minutes]
    lab.stage(batch_id, {minute: [contribution(event_count=3, clicks=3)] for minute in minutes})
    assert lab.check(batch_id).passed
    merge.merge(batch_id)
    lab.query("UPDATE etl.minute_ledger SET settled_before = '2100-01-01'")
    return minutes


def remove(lab: Lab, reader, writer, **values) -> int:
    return demo_events.remove_demo_events(reader, writer, lab.conn, RECRUITMENT, AGE, **values)


def rows(reader, *minutes: datetime) -> list[int]:
    result = counts.minute_counts(reader, RECRUITMENT, minutes)
    return [result[minute][0] for minute in minutes]


def test_old_demo_minutes_are_closed_and_leave_the_lake_and_facts_stay(lab: Lab, reader, writer, old) -> None:
    recent = old + timedelta(days=2)
    for minute in (old, old + MINUTE, recent):
        send(writer, minute)
    assert process(lab, reader) == [old, old + MINUTE, recent]
    assert remove(lab, reader, writer, dry=True) == 2
    assert rows(reader, old, old + MINUTE, recent) == [3, 3, 3]
    facts = lab.facts()
    assert remove(lab, reader, writer) == 2
    assert rows(reader, old, old + MINUTE, recent) == [0, 0, 3]
    assert [lab.ledger(minute)["state"] for minute in (old, recent)] == ["closed", "merged"]
    assert (lab.facts(), process(lab, reader, "run-2")) == (facts, [])
    assert remove(lab, reader, writer) == 0


def test_a_minute_with_one_foreign_event_is_left_alone(lab: Lab, reader, writer, old) -> None:
    send(writer, old)
    send(writer, old + timedelta(seconds=30), demo=False, count=1)
    send(writer, old + MINUTE, demo=False)
    process(lab, reader)
    assert remove(lab, reader, writer) == 0
    assert rows(reader, old, old + MINUTE) == [4, 3]
    assert lab.ledger(old)["state"] == "merged"


@pytest.mark.parametrize("demo", [True, False])
def test_a_minute_whose_events_the_lake_has_lost_is_not_closed(lab: Lab, reader, writer, old, demo: bool) -> None:
    """Whose events they were is unknown, and verify reports the loss."""
    from tests import emptying

    send(writer, old, demo=demo)
    process(lab, reader)
    emptying.empty_lake()
    assert remove(lab, reader, writer, dry=True) == remove(lab, reader, writer) == 0
    assert lab.ledger(old)["state"] == "merged"


def test_a_backfill_over_removed_minutes_changes_nothing_and_holds_nothing(lab: Lab, reader, writer, old) -> None:
    send(writer, old)
    process(lab, reader)
    remove(lab, reader, writer)
    facts = lab.facts()
    run = RunInfo("d", "again", old, kind="backfill")
    batch_id = planner.open_range(RECRUITMENT, reader, lab.conn, run, start=old, end=old + 2 * MINUTE)
    lab.stage(batch_id, {})
    lab.check(batch_id)
    merge.merge(batch_id)
    assert (lab.facts(), lab.ledger(old)["state"]) == (facts, "closed")


def test_a_batch_that_has_read_half_of_a_removed_minute_does_not_publish_it(lab: Lab, reader, writer, old) -> None:
    send(writer, old)
    process(lab, reader)
    facts = lab.facts()
    run = RunInfo("d", "slow", old, kind="backfill", allow_shrink=True)
    slow = planner.open_range(RECRUITMENT, reader, lab.conn, run, start=old, end=old + MINUTE)
    lab.stage(slow, {old: [contribution()]})
    assert lab.check(slow).passed
    remove(lab, reader, writer)
    assert merge.merge(slow).state == "skipped"
    assert lab.facts() == facts


def test_the_next_call_removes_what_a_killed_call_has_closed(
    lab: Lab, reader, writer, old, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(writer, old)
    process(lab, reader)
    remove_closed = demo_events._remove_closed

    def stop_after_closing(*arguments) -> None:
        if lab.ledger(old)["state"] == "closed":
            raise KeyboardInterrupt
        remove_closed(*arguments)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(demo_events, "_remove_closed", stop_after_closing)
        remove(lab, reader, writer)
    assert rows(reader, old) == [3]
    remove(lab, reader, writer)
    assert rows(reader, old) == [0]


def test_an_event_that_arrives_after_the_check_survives(lab: Lab, reader, writer, old, monkeypatch) -> None:
    send(writer, old)
    began = change_log.write_clock(reader)  # an import's write time, which all of its events carry
    process(lab, reader)
    all_demo = demo_events._demo_only

    def all_demo_before_a_late_event(*arguments) -> dict:
        result = all_demo(*arguments)
        if lab.ledger(old)["state"] == "closed":
            send(writer, old + timedelta(seconds=40), demo=False, count=1, as_of=began)
        return result

    monkeypatch.setattr(demo_events, "_demo_only", all_demo_before_a_late_event)
    remove(lab, reader, writer)
    assert rows(reader, old) == [1]


def test_a_new_event_opens_its_minute_again_and_is_published(lab: Lab, reader, writer, old) -> None:
    send(writer, old)
    send(writer, old + MINUTE)
    process(lab, reader)
    remove(lab, reader, writer)
    send(writer, old + timedelta(seconds=40), demo=False, count=1)
    assert process(lab, reader, "run-2") == [old]  # the other minute stays closed
    result = lab.ledger(old)
    assert (result["state"], result["reason"], result["pending"]) == ("merged", None, 0)
    assert (result["raw_rows"], lab.ledger(old + MINUTE)["state"]) == (3, "closed")  # as the lab stages them


def test_a_new_event_in_a_folded_hour_opens_the_demo_minutes_of_that_hour(lab: Lab, reader, writer, old) -> None:
    hour = old.replace(minute=0)
    minutes = [hour, hour + MINUTE, hour + 2 * MINUTE]
    for minute in minutes:
        send(writer, minute)
    process(lab, reader)
    remove(lab, reader, writer)
    lab.query("INSERT INTO etl.folded_hours (pipeline, hour) VALUES ('recruitment', %s)", hour)
    send(writer, minutes[1] + timedelta(seconds=40), demo=False, count=1)
    assert set(process(lab, reader, "run-2")) == {hour + number * MINUTE for number in range(60)}
    assert {lab.ledger(minute)["state"] for minute in minutes} == {"merged"}
    lab.query("DELETE FROM etl.folded_hours")


def test_a_late_event_of_another_minute_of_a_folded_hour_opens_the_demo_minutes(lab: Lab, reader, writer, old) -> None:
    hour = old.replace(minute=0)
    send(writer, hour)
    send(writer, hour + MINUTE, demo=False)
    process(lab, reader)
    remove(lab, reader, writer)
    lab.query("INSERT INTO etl.folded_hours (pipeline, hour) VALUES ('recruitment', %s)", hour)
    send(writer, hour + MINUTE + timedelta(seconds=40), demo=False, count=1)
    assert set(process(lab, reader, "run-2")) == {hour + number * MINUTE for number in range(60)}
    assert [lab.ledger(hour + number * MINUTE)["state"] for number in range(2)] == ["merged", "merged"]
    lab.query("DELETE FROM etl.folded_hours")


def test_a_minute_past_lake_retention_stays_closed(lab: Lab, reader, writer, old) -> None:
    send(writer, old, demo=False)
    process(lab, reader)
    short = replace(RECRUITMENT, lake_retention=timedelta(days=3))
    lab.query("UPDATE etl.minute_ledger SET read_changed_at = NULL")
    ledger.close_expired(lab.conn, short, change_log.clock(reader))
    assert lab.ledger(old)["state"] == "closed"
    for pipeline, state in ((short, "closed"), (RECRUITMENT, "merged")):  # RECRUITMENT has no lake retention
        send(writer, old + timedelta(seconds=50), demo=False, count=1)
        clock = change_log.clock(reader)
        touched = change_log.minutes_of_day(reader, RECRUITMENT.lake_table, old.date())
        ledger.record_poll(lab.conn, pipeline, clock, {}, touched)
        assert lab.ledger(old)["state"] == state
    # The shrink guard still knows the former count.
    assert lab.ledger(old)["pending"] == 1 and lab.ledger(old)["raw_rows"] == 3


def test_without_the_demo_nothing_is_removed(lab: Lab, reader, writer, old, monkeypatch: pytest.MonkeyPatch) -> None:
    send(writer, old)
    process(lab, reader)
    monkeypatch.delenv("MINUTEMARK_DEMO", raising=False)
    assert steps.run_step("remove_demo_traffic", {"demo_events": 7}) == []
    monkeypatch.setenv("MINUTEMARK_DEMO", "1")
    removed = {removal.where: removal.count for removal in steps.run_step("remove_demo_traffic", {"demo_events": 7})}
    assert removed == {"recruitment": 1, "ecommerce": 0}


@pytest.mark.parametrize(
    ("demo", "kept"), [("MINUTEMARK_STACK_DEMO=0\n", 3), ("", 3), ("MINUTEMARK_STACK_DEMO=1\n", 0)]
)
def test_the_command_removes_demo_events_only_on_a_stack_with_the_demo(
    lab: Lab, reader, writer, old, monkeypatch: pytest.MonkeyPatch, tmp_path, demo: str, kept: int
) -> None:
    send(writer, old)
    process(lab, reader)
    connections = {name: value for name, value in os.environ.items() if name.startswith("AIRFLOW_CONN_")}
    lines = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in connections.items())
    (tmp_path / "env").write_text(lines + demo)
    monkeypatch.setenv("MINUTEMARK_STATE", str(tmp_path))
    monkeypatch.setenv("MINUTEMARK_DEMO", "")  # so that the command's value is removed at the end
    monkeypatch.delenv("MINUTEMARK_DEMO")
    assert cli.main(["housekeeping", "--keep-demo-events=7"]) == 0
    assert rows(reader, old) == [kept]
