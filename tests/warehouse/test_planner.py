"""Lake and warehouse together, both real: what a poll records and which batch a run opens."""

from __future__ import annotations

import re
import tracemalloc
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from include import planner
from include.lake import change_log, counts
from include.lake.errors import LakeUnreadable
from include.lake.keys import time_uuid
from include.lake.session import lake
from include.lake.writer import Event, EventWriter
from include.warehouse import batches, ledger, merge
from include.warehouse.batches import RunInfo
from tests.unreadable import unreadable_partition
from tests.warehouse.lab import RECRUITMENT, SECOND, Lab, contribution, touched_at

MINUTE = timedelta(minutes=1)


@pytest.fixture
def empty_lake(lake_schema: None) -> None:
    from tests import emptying

    emptying.empty_lake()


@pytest.fixture
def now(reader, empty_lake: None) -> datetime:
    """The lake's current minute."""
    return change_log.clock(reader).replace(second=0, microsecond=0)


def touch(writer, *minutes: datetime) -> None:
    change_log.touch(writer, RECRUITMENT.lake_table, minutes)


def delta(reader, lab: Lab, run_id: str = "run-1", pipeline=RECRUITMENT) -> int | None:
    return open_at(reader, lab, planner.poll(pipeline, reader, lab.conn), run_id, pipeline)


def open_at(reader, lab: Lab, polled: planner.Poll, run_id: str, pipeline=RECRUITMENT) -> int | None:
    run = RunInfo("recruitment_minute", run_id, polled.clock)
    return planner.open_delta(pipeline, reader, lab.conn, run, polled=polled)


def minutes_of(lab: Lab, batch_id: int) -> list[datetime]:
    return [planned.minute for planned in batches.get(lab.conn, batch_id).minutes]


def publish(lab: Lab, batch_id: int) -> None:
    """Publish each minute of the batch with one row and an id checksum of 1."""
    lab.stage(batch_id, {planned.minute: [contribution()] for planned in batches.get(lab.conn, batch_id).minutes})
    assert lab.check(batch_id).passed
    merge.merge(batch_id)


def open_window(
    reader, lab: Lab, start: datetime, end: datetime, open_=planner.open_range, pipeline=RECRUITMENT, **values
):
    run = RunInfo("recruitment_minute", f"{start}", start, **{"kind": "backfill", **values})
    return open_(pipeline, reader, lab.conn, run, start=start, end=end)


def test_a_poll_is_recorded_even_if_nothing_has_changed(lab: Lab, reader, now) -> None:
    clocks = [planner.poll(RECRUITMENT, reader, lab.conn).clock for _ in range(2)]
    [(lake_clock, age)] = lab.query(
        "SELECT lake_clock, TIMESTAMPDIFF(SECOND, looked_at, CURRENT_TIMESTAMP(6)) FROM etl.looks"
    )
    assert (lake_clock, age < 5) == (clocks[1], True)


def test_a_poll_finds_touches_once_and_its_digest_changes_with_the_next(lab: Lab, reader, writer, now) -> None:
    assert planner.poll(RECRUITMENT, reader, lab.conn).pending_count == 0
    touch(writer, now - 5 * MINUTE, now - 2 * 1_440 * MINUTE)
    first = planner.poll(RECRUITMENT, reader, lab.conn)
    assert first.pending_count == 2
    assert planner.poll(RECRUITMENT, reader, lab.conn).digest == first.digest
    touch(writer, now - 5 * MINUTE)
    assert planner.poll(RECRUITMENT, reader, lab.conn).digest != first.digest


def test_a_delta_takes_the_changed_minutes(lab: Lab, reader, writer, now) -> None:
    assert delta(reader, lab) is None
    touch(writer, now - 10 * MINUTE, now - 9 * MINUTE)
    batch_id = delta(reader, lab)
    batch = batches.get(lab.conn, batch_id)
    assert minutes_of(lab, batch_id) == [now - 10 * MINUTE, now - 9 * MINUTE]
    assert batch.is_delta
    assert batch.minutes[0].changed_at == lab.ledger(now - 10 * MINUTE)["seen_changed_at"]


def write(writer, minutes: list[datetime], rows: int) -> None:
    EventWriter(writer, RECRUITMENT).write(
        Event(time_uuid(minute, f"{number}"), {"ev": "1"}) for minute in minutes for number in range(rows)
    )


def mark_merged(lab: Lab, batch_id: int, rows: int) -> None:
    """Record the batch as merged, with `rows` rows in each minute, as far as later choices of minutes depend on it."""
    lab.query(
        "UPDATE etl.minute_ledger AS l JOIN etl.batch_minutes AS m ON m.batch_id = %s AND m.minute = l.minute SET"
        " l.state = 'merged', l.raw_rows = %s, l.read_changed_at = l.seen_changed_at, l.read_at = l.seen_changed_time,"
        " l.settled_before = l.seen_changed_time",
        batch_id,
        rows,
    )
    lab.query("UPDATE etl.batches SET state = 'merged' WHERE batch_id = %s", batch_id)


# ⚑ a batch is limited by the time that it takes, not by 600 minutes
@pytest.mark.one_server
def test_a_sparse_history_of_39_000_minutes_takes_six_batches_at_most(lab: Lab, reader, writer, now) -> None:
    history = [now - timedelta(days=30) + number * MINUTE for number in range(39_000)]
    live = [now - number * MINUTE for number in range(10)][::-1]
    lab.see(*history, *live, at=now - 600 * SECOND, clock=now)
    polled = planner.Poll(now, "", 1)
    sizes = []
    while (batch_id := open_at(reader, lab, polled, run_id=f"run-{len(sizes)}")) is not None:
        minutes = minutes_of(lab, batch_id)
        if not sizes:
            assert minutes[-10:] == live and minutes[:-10] == history[: len(minutes) - 10]
        sizes.append(len(minutes))
        mark_merged(lab, batch_id, rows=3)
    assert len(sizes) <= 6 and sum(sizes) == 39_010, sizes


# Earlier batches had one row a minute; half of the minutes that follow have five.
@pytest.mark.one_server
def test_a_history_is_sampled_before_a_batch_takes_thousands_of_its_minutes(lab: Lab, reader, writer, now) -> None:
    history = [now - timedelta(days=30) + number * MINUTE for number in range(1_200)]
    write(writer, history[600:], rows=5)
    lab.see(now - 600 * MINUTE, at=now - 600 * SECOND, clock=now)
    polled = planner.Poll(now, "", 1)
    narrow = replace(RECRUITMENT, max_minutes=2_000, max_rows=1_000)
    mark_merged(lab, open_at(reader, lab, polled, run_id="before"), rows=1)
    lab.see(*history, at=now - 600 * SECOND, clock=now)
    batch_id = open_at(reader, lab, polled, run_id="history", pipeline=narrow)
    chosen = set(minutes_of(lab, batch_id))
    live = set(history[-10:])
    assert live <= chosen
    # The half without rows fills 0.3 of a batch, a minute with five rows 0.0055.
    assert 600 + 0.64 / 0.0055 <= len(chosen) <= 600 + 0.72 / 0.0055
    assert chosen - live == set(history[: len(chosen) - 10])


# ⚑ a late event for a minute that was merged long ago
def test_a_late_touch_makes_a_merged_minute_pending_again(lab: Lab, reader, writer, now) -> None:
    late = now - 3 * 1_440 * MINUTE
    touch(writer, late)
    publish(lab, delta(reader, lab))
    lab.query("UPDATE etl.minute_ledger SET settled_before = '2100-01-01'")  # as if the touch had long settled
    assert delta(reader, lab, "run-2") is None
    touch(writer, late)
    assert minutes_of(lab, delta(reader, lab, "run-3")) == [late]


# ⚑ a touch may be hidden by a touch of the same moment from another coordinator
def test_a_day_is_read_again_until_its_touch_has_settled(lab: Lab, reader, writer, now) -> None:
    touch(writer, now - MINUTE)
    first = planner.poll(RECRUITMENT, reader, lab.conn)
    hidden = now - 2 * MINUTE  # visible later, without its day's touch
    with lake("lake_admin") as admin:
        admin.execute(
            "INSERT INTO minutemark.minute_changes (lake_table, day, minute, changed_at) VALUES (%s, %s, %s, %s)",
            (RECRUITMENT.lake_table, hidden.date(), hidden, touched_at(first.clock)),
        )
    if hidden.date() == (now - MINUTE).date():
        assert planner.poll(RECRUITMENT, reader, lab.conn).pending_count == 2


def test_a_range_takes_exactly_its_minutes_changed_held_or_neither(lab: Lab, reader, writer, now) -> None:
    start = now - 60 * MINUTE
    touch(writer, start, start + 2 * MINUTE)
    planner.poll(RECRUITMENT, reader, lab.conn)
    seen = lab.ledger(start)["seen_changed_at"]
    ledger.hold(lab.conn.cursor(), "recruitment", [(start, seen, "broken")], None)
    lab.conn.commit()
    touch(writer, start + MINUTE)  # after the last poll: opening the range polls again
    batch_id = open_window(reader, lab, start, start + 4 * MINUTE)
    result = {planned.minute: planned.changed_at for planned in batches.get(lab.conn, batch_id).minutes}
    assert list(result) == [start + number * MINUTE for number in range(4)]
    assert [changed is not None for changed in result.values()] == [True, True, True, False]
    assert result[start] == seen


@pytest.mark.parametrize(
    ("minutes", "message"),
    [(0, "must be before `to`"), (-5, "must be before `to`"), (1_441, "1441 minutes.*recruitment_reconcile")],
)
def test_an_invalid_range_is_refused(lab: Lab, reader, now, minutes: int, message: str) -> None:
    with pytest.raises(planner.RangeRefused, match=message):
        open_window(reader, lab, now, now + minutes * MINUTE)


def test_a_range_of_years_is_refused_before_its_minutes_are_listed() -> None:
    """A wrong digit in the form must not fill the worker's memory: a list of two years takes 60 MB."""
    start = datetime(2024, 1, 1)
    run = RunInfo("recruitment_minute", "manual", start)
    tracemalloc.start()
    try:
        with pytest.raises(planner.RangeRefused, match="1052640 minutes"):
            planner.open_range(RECRUITMENT, None, None, run, start=start, end=datetime(2026, 1, 1))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


# ⚑ minutes past a declared lake retention are closed, and ranges of them are refused
def test_a_range_into_closed_minutes_is_refused(lab: Lab, reader, writer, now) -> None:
    forgetful = replace(RECRUITMENT, lake_retention=timedelta(days=2))
    with pytest.raises(planner.RangeRefused, match="keeps events for 2 days. Their facts stay"):
        open_window(reader, lab, now - timedelta(days=3), now - timedelta(days=3) + MINUTE, pipeline=forgetful)
    touch(writer, now - timedelta(days=3), now - MINUTE)
    assert minutes_of(lab, delta(reader, lab, pipeline=forgetful)) == [now - MINUTE]


def test_reconcile_opens_the_minutes_that_differ(lab: Lab, reader, writer, now) -> None:
    start = now - 120 * MINUTE
    same, more, gone, held = (start + number * MINUTE for number in range(4))
    EventWriter(writer, RECRUITMENT).write([Event(touched_at(at + SECOND), {"ev": "1"}) for at in (same, more, held)])
    publish(lab, open_window(reader, lab, start, start + 4 * MINUTE))
    in_lake = counts.minute_counts(reader, RECRUITMENT, [same, more, held])
    for at, (_, checksum) in in_lake.items():
        lab.query("UPDATE etl.minute_ledger SET id_checksum = %s WHERE minute = %s", checksum, at)
    lab.query("UPDATE etl.minute_ledger SET id_checksum = id_checksum + 1 WHERE minute = %s", more)
    lab.query("UPDATE etl.minute_ledger SET id_checksum = 0, state = 'held' WHERE minute = %s", held)
    reconciled = open_window(reader, lab, start, start + 10 * MINUTE, planner.open_reconcile, kind="reconcile")
    assert minutes_of(lab, reconciled) == [more, gone]


def test_reconcile_names_a_minute_that_cannot_be_read_and_opens_the_others(
    lab: Lab, reader, writer, now, caplog: pytest.LogCaptureFixture
) -> None:
    start = now - 120 * MINUTE
    unreadable, differing = start, start + MINUTE
    EventWriter(writer, RECRUITMENT).write([Event(touched_at(differing + SECOND), {"ev": "1"})])
    reconcile = (reader, lab, start, start + 10 * MINUTE, planner.open_reconcile)
    with unreadable_partition(writer, RECRUITMENT, unreadable, 0):
        reconciled = open_window(*reconcile, kind="reconcile")
        assert minutes_of(lab, reconciled) == [differing]
        pattern = rf"cannot be read: {unreadable:%Y-%m-%d %H:%M}\. All other minutes were compared\. .*garbagecollect"
        assert re.search(pattern, caplog.text)
        publish(lab, reconciled)
        lake_counts = counts.minute_counts(reader, RECRUITMENT, [differing])[differing]
        lab.query("UPDATE etl.minute_ledger SET raw_rows = %s, id_checksum = %s", *lake_counts)
        with pytest.raises(LakeUnreadable, match=pattern):
            open_window(*reconcile, kind="reconcile")


def test_reconcile_leaves_fresh_pending_minutes_to_the_minute_dag(lab: Lab, reader, writer, now) -> None:
    fresh, old = now - MINUTE, now - 60 * MINUTE
    EventWriter(writer, RECRUITMENT).write([Event(touched_at(at + SECOND), {"ev": "1"}) for at in (fresh, old)])
    result = open_window(reader, lab, old, now + MINUTE, planner.open_reconcile, kind="reconcile")
    assert minutes_of(lab, result) == [old]
    assert open_window(reader, lab, old + MINUTE, now, planner.open_reconcile, kind="reconcile") is None


def test_splitting_finds_the_minute_that_always_fails_and_holds_it(lab: Lab, reader, writer, now) -> None:
    """One of 16 minutes always kills Spark: it is held within a few runs; all others, and fresh minutes, are merged."""
    minutes = [now - (30 + number) * MINUTE for number in range(16)]
    poison = minutes[5]
    touch(writer, *minutes)
    for number in range(40):
        touch(writer, now - MINUTE)  # fresh minutes keep arriving
        batch_id = delta(reader, lab, f"run-{number}")
        if poison in minutes_of(lab, batch_id):
            batches.new_attempt(lab.conn, batch_id)
            batches.new_attempt(lab.conn, batch_id)
        else:
            publish(lab, batch_id)
        states = dict(lab.query("SELECT minute, state FROM etl.minute_ledger"))
        if "seen" not in states.values():
            break
    assert states[poison] == "held"
    assert {states[minute] for minute in minutes if minute != poison} == {"merged"}
    assert number <= 24, "Batches of suspects and of fresh minutes alternate."
