"""Reprocessing on the real stores: every rejected row is counted once, and a killed run loses nothing."""

from __future__ import annotations

import json
import threading
import uuid
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from include import planner
from include.durations import MILLISECOND
from include.files import imports
from include.lake import change_log
from include.lake.admission import Refused
from include.lake.keys import minute_of, shard_of
from include.lake.session import lake
from include.lake.writer import Event, EventWriter
from include.operations import reprocess
from include.pipelines import Pipeline
from include.warehouse import batches, ledger, merge, rejected
from include.warehouse.batches import RunInfo
from include.warehouse.delta import Pending
from include.warehouse.rejected import Selection
from tests.lake.conftest import event_id
from tests.unreadable import unreadable_partition
from tests.warehouse.lab import RECRUITMENT, SECOND, Lab, contribution, touched_at

MINUTE = timedelta(minutes=1)


@pytest.fixture
def now(lake_schema: None) -> datetime:
    """The lake's current minute; the lake is empty."""
    from tests import emptying

    emptying.empty_lake()
    with lake("lake_reader") as reader:
        return change_log.clock(reader).replace(second=0, microsecond=0)


@pytest.fixture
def output() -> list[str]:
    return []


def write(*events: Event) -> None:
    with lake("lake_writer") as session:
        EventWriter(session, RECRUITMENT).write(events)


def lake_rows(minute: datetime) -> set[uuid.UUID]:
    with lake("lake_reader") as session:
        query = f"SELECT create_time FROM {RECRUITMENT.lake_table} WHERE minute = %s AND shard IN (0, 1, 2, 3)"
        return {row.create_time for row in session.execute(query, (minute,))}


def run(lab: Lab, *, broken: int = 0, ignored: int = 0, run_id: str = "run") -> int | None:
    """Run the steps of a minute DAG that need no Spark.

    Of each minute's rows in the lake, the first `broken` are rejected, the next `ignored` are ignored, and the others are
    clicks.
    """
    with lake("lake_reader") as session:
        polled = planner.poll(RECRUITMENT, session, lab.conn)
        run = RunInfo("recruitment_minute", run_id, polled.clock)
        batch_id = planner.open_delta(RECRUITMENT, session, lab.conn, run, polled=polled)
    if batch_id is None:
        return None
    stage(lab, batch_id, broken=broken, ignored=ignored)
    assert lab.check(batch_id).passed
    merge.merge(batch_id)
    lab.query("UPDATE etl.minute_ledger SET settled_before = '2100-01-01'")  # as if every touch had long settled
    return batch_id


def stage(lab: Lab, batch_id: int, *, broken: int = 0, ignored: int = 0) -> None:
    counts, contributions, keys = {}, {}, []
    for planned in batches.get(lab.conn, batch_id).minutes:
        create_times = sorted(map(str, lake_rows(planned.minute)))
        counted = max(0, len(create_times) - broken - ignored)
        keys += [(planned.minute, spark_key(planned.minute, create_time)) for create_time in create_times[:broken]]
        contributions[planned.minute] = [contribution(event_count=counted, clicks=counted)] if counted else []
        counts[planned.minute] = {"raw_rows": len(create_times), "ignored_rows": len(create_times[broken:]) - counted}
    rejects = [(minute, "bid is negative: -1") for minute, _ in keys]
    attempt = lab.stage(batch_id, contributions, rejects=rejects, counts=counts)
    for number, (minute, key) in enumerate(keys):
        lab.query(
            "UPDATE etl.staged_rejects SET origin_key = %s WHERE attempt = %s AND origin_key = %s",
            key,
            attempt,
            f"{minute}/0/{number}",
        )


def spark_key(minute: datetime, create_time: str) -> str:
    """The origin key that the transform gives a rejected row."""
    return f"{minute:%Y-%m-%dT%H:%M}Z/{shard_of(create_time, RECRUITMENT.shards)}/{create_time}"


def events(minute: datetime, count: int) -> list[Event]:
    return [Event(touched_at(minute + number * SECOND), {"ev": "1"}) for number in range(1, count + 1)]


def refuse(
    lab: Lab, key: str, payload: dict | str, reason: str = "create_time 'x' is not a time-UUID", at=None
) -> None:
    lab.query(
        "INSERT INTO etl.rejected_events (pipeline, origin, origin_key, minute, reason, payload) "
        "VALUES ('recruitment', 'import', %s, %s, %s, %s)",
        key,
        at,
        reason,
        payload if isinstance(payload, str) else json.dumps(payload),
    )


def rejected_rows(lab: Lab) -> list[tuple]:
    return lab.query("SELECT origin, reason FROM etl.rejected_events ORDER BY origin, reason")


def pending(lab: Lab) -> list[datetime]:
    result: list[Pending] = ledger.pending_minutes(lab.conn, RECRUITMENT, datetime(2100, 1, 1))
    return [row.minute for row in result]


def test_rejected_rows_of_the_lake_are_read_again_with_their_minutes(lab: Lab, now, output) -> None:
    first, other, clean = now - 60 * MINUTE, now - 50 * MINUTE, now - 40 * MINUTE
    write(*events(first, 20), *events(other, 20))
    run(lab, broken=2)
    write(*events(clean, 1))
    run(lab)
    assert pending(lab) == []
    started = reprocess.begin(RECRUITMENT, Selection(), output.append)
    assert pending(lab) == [first, other]
    span = f"{first:%Y-%m-%d %H:%M} to {other:%Y-%m-%d %H:%M}"
    assert output[0] == f"recruitment: 4 rejected rows of 2 minutes, {span}, are read again with their minutes."
    run(lab, broken=1, ignored=1, run_id="fixed")
    assert reprocess.follow(started, pause=0.01).splitlines() == [
        "4 rows of 2 minutes were processed: 0 counted, 2 ignored, 2 still rejected."
    ]
    assert lab.facts()[7, 0] == 18 + 18 + 1
    assert len(rejected_rows(lab)) == 2


def test_only_the_rows_of_a_reason_or_a_range_are_reprocessed(lab: Lab, now, output) -> None:
    first, second = now - 60 * MINUTE, now - 50 * MINUTE
    write(*events(first, 10), *events(second, 10))
    run(lab, broken=1)
    lab.query("UPDATE etl.rejected_events SET reason = 'job_id is not a whole number: x' WHERE minute = %s", second)
    reprocess.begin(RECRUITMENT, Selection("job_id is not a whole number"), output.append)
    assert pending(lab) == [second]
    reprocess.begin(RECRUITMENT, Selection(None, first, first + MINUTE), output.append)
    assert pending(lab) == [first, second]


# ⚑ a run that began before the rule was fixed does not count as the run that reads with the fixed rule
def test_a_merge_of_an_earlier_read_does_not_undo_reprocessing(lab: Lab, now, output) -> None:
    minute = now - 60 * MINUTE
    write(*events(minute, 10))
    run(lab, broken=1)
    write(*events(minute, 11))
    with lake("lake_reader") as session:
        polled = planner.poll(RECRUITMENT, session, lab.conn)
        slow_run = RunInfo("recruitment_minute", "slow", polled.clock)
        slow = planner.open_delta(RECRUITMENT, session, lab.conn, slow_run, polled=polled)
    stage(lab, slow, broken=2)
    assert lab.check(slow).passed
    started = reprocess.begin(RECRUITMENT, Selection(), output.append)
    merge.merge(slow)
    lab.query("UPDATE etl.minute_ledger SET settled_before = '2100-01-01'")
    assert pending(lab) == [minute]
    assert not reprocess._is_finished(lab.ledger(minute), started.started_at)
    run(lab, run_id="fixed")
    assert reprocess.follow(started, pause=0.01) == (
        "1 rows of 1 minutes were processed: 1 counted or ignored, 0 still rejected."
    ), "An eleventh row came in between: the ledger cannot distinguish it from the reprocessed one."
    assert lab.facts()[7, 0] == 11


def test_rows_that_an_import_refused_enter_the_lake_once_they_are_admissible(lab: Lab, now, output) -> None:
    (good,) = events(now - 60 * MINUTE, 1)
    minute = minute_of(good.create_time)
    refuse(lab, "sha:2", {"create_time": f" {good.create_time} ", "ev": 2, "mood": "fine", "bid": None}, at=None)
    refuse(lab, "sha:3", {"create_time": "still none", "ev": "1"})
    refuse(lab, "sha:4", {"line": "too,few"}, "line 4 is not a record: it has 2 fields")
    refuse(lab, "sha:5", '{"cut off', "create_time is too long")
    started = reprocess.begin(RECRUITMENT, Selection(), output.append)
    assert output == [
        "recruitment: 4 rows of imports and topics are validated again.",
        "1 rows of imports and topics are in the lake now; 3 stay rejected.",
    ]
    assert lake_rows(minute) == {good.create_time}
    with lake("lake_reader") as session:
        row = session.execute(
            f"SELECT payload FROM {RECRUITMENT.lake_table} WHERE minute = %s AND shard IN (0, 1, 2, 3)", (minute,)
        ).one()
    fields = json.loads(row.payload)
    assert (fields["ev"], fields["mood"]) == (2, "fine")
    assert [reason for _, reason in rejected_rows(lab)] == [
        "create_time 'still none' is not a time-UUID (version 1, 36 characters)",
        "its stored payload is not JSON: Unterminated string starting at: line 1 column 2 (char 1)"
        "; refused first for: create_time is too long",
        "line 4 is not a record: it has 2 fields",
    ]
    before = rejected_rows(lab)
    again = reprocess.run_reprocess("recruitment", report=output.append)
    assert (again.rows, again.refused) == (0, 3)
    assert rejected_rows(lab) == before, "A reason does not grow each time that its row is reprocessed."
    run(lab)
    assert reprocess.follow(started, pause=0.01).splitlines() == [
        "1 rows of 1 minutes were processed: 1 counted, 0 ignored, 0 still rejected.",
        "3 rows of imports and topics were refused again: `./minutemark rejected` says why.",
    ]


def test_a_row_of_an_import_that_the_transform_rejects_is_rejected_with_origin_lake(lab: Lab, now, output) -> None:
    for event in events(now - 60 * MINUTE, 2):
        refuse(lab, f"sha:{event.create_time.time}", {"create_time": str(event.create_time), "bid": "-1"})
    started = reprocess.begin(RECRUITMENT, Selection(), output.append)
    with lake("lake_reader") as session:
        polled = planner.poll(RECRUITMENT, session, lab.conn)
    batch_id = lab.open(now - 60 * MINUTE, clock=polled.clock)
    stage(lab, batch_id, broken=1)
    assert lab.check(batch_id).passed
    merge.merge(batch_id)
    assert reprocess.follow(started, pause=0.01) == (
        "2 rows of 1 minutes were processed: 1 counted, 0 ignored, 1 still rejected."
    )
    assert rejected_rows(lab) == [("lake", "bid is negative: -1")]


# ⚑ the rejected row is deleted only after lake and change log have acknowledged
@pytest.mark.parametrize("killed", ["before the write", "before the touch", "before the deletion"])
def test_reprocessing_that_is_killed_loses_nothing_and_counts_once(
    lab: Lab, now, output, monkeypatch, killed: str
) -> None:
    minute = now - 60 * MINUTE
    (event,) = events(minute, 1)
    refuse(lab, "sha:2", {"create_time": str(event.create_time), "ev": "1"})

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    target = {
        "before the write": (EventWriter, "_write_window"),
        "before the touch": (change_log, "touch"),
        "before the deletion": (reprocess.rejected, "record_outcomes"),
    }[killed]
    monkeypatch.setattr(*target, die)
    with pytest.raises(KeyboardInterrupt):
        reprocess.begin(RECRUITMENT, Selection(), output.append)
    monkeypatch.undo()
    assert rejected_rows(lab) == [("import", "create_time 'x' is not a time-UUID")]
    assert bool(lake_rows(minute)) is (killed != "before the write")
    run(lab, run_id="between")  # processes the minute if it is already touched
    started = reprocess.begin(RECRUITMENT, Selection(), output.append)
    assert (lake_rows(minute), rejected_rows(lab)) == ({event.create_time}, [])
    run(lab, run_id="after")
    assert "still rejected" in reprocess.follow(started, pause=0.01)
    assert lab.facts() == {(7, 0): 1}
    assert reprocess.begin(RECRUITMENT, Selection(), output.append).keys == {}, "Nothing is left to reprocess."


def payload_in_lake(event: Event) -> dict:
    with lake("lake_reader") as session:
        query = f"SELECT payload FROM {RECRUITMENT.lake_table} WHERE minute = %s AND shard IN (0, 1, 2, 3)"
        (row,) = session.execute(query, (minute_of(event.create_time),))
        return json.loads(row.payload)


def import_file(folder, pipeline: Pipeline = RECRUITMENT, **rows: Event) -> None:
    """Import each event from a file that is named after its keyword."""
    for name, event in rows.items():
        path = folder / f"{name}.csv"
        path.write_text(f"create_time,ev\n{event.create_time},{event.values['ev']}\n")
        imports.import_events(pipeline, path)


# ⚑ a rejected version does not replace the version that came after it, and does replace the one that came before it
def test_a_reprocessed_row_replaces_earlier_versions_only(lab: Lab, now, output, tmp_path) -> None:
    (event,) = events(now - 60 * MINUTE, 1)
    strict = replace(RECRUITMENT, earliest=now)  # rejects the event
    first, second, third = (event._replace(values={"ev": version}) for version in "123")
    import_file(tmp_path, first=first)
    import_file(tmp_path, strict, second=second)
    assert reprocess.begin(RECRUITMENT, Selection(), output.append).written == 1
    assert payload_in_lake(event)["ev"] == "2"
    import_file(tmp_path, strict, second=second)
    import_file(tmp_path, third=third)
    assert reprocess.begin(RECRUITMENT, Selection(), output.append).written == 1
    assert payload_in_lake(event)["ev"] == "3"
    assert rejected_rows(lab) == []


def delete_minute(minute: datetime) -> None:
    with lake("lake_writer") as session:
        session.execute(f"DELETE FROM {RECRUITMENT.lake_table} WHERE minute = %s AND shard IN (0, 1, 2, 3)", (minute,))


def test_rows_of_a_partition_that_cannot_be_read_stay_rejected_and_others_are_processed(lab: Lab, now, output) -> None:
    bad, good = (Event(event_id(str(now - minutes * MINUTE)), {"ev": "1"}) for minutes in (60, 61))
    for number, event in enumerate((bad, good)):
        refuse(lab, f"sha:{number}", {"create_time": str(event.create_time), "ev": "1"})
    shard = shard_of(str(bad.create_time), RECRUITMENT.shards)
    with lake("lake_writer") as session, unreadable_partition(session, RECRUITMENT, now - 60 * MINUTE, shard):
        assert reprocess.begin(RECRUITMENT, Selection(), output.append).written == 1
    assert "1 more rows stay rejected, because their partitions" in output[-1]
    assert lake_rows(now - 61 * MINUTE) == {good.create_time}
    assert len(rejected_rows(lab)) == 1


def test_a_row_whose_minute_was_deleted_after_it_had_been_rejected_is_in_the_lake_after_reprocessing(
    lab: Lab, now, output
) -> None:
    (event,) = events(now - 60 * MINUTE, 1)
    minute = minute_of(event.create_time)
    write(event)
    refuse(lab, "sha:2", {"create_time": str(event.create_time), "ev": "2"})
    delete_minute(minute)
    assert lake_rows(minute) == set()
    reprocess.begin(RECRUITMENT, Selection(), output.append)
    assert payload_in_lake(event)["ev"] == "2"


@pytest.mark.parametrize("was_deleted", [False, True])
def test_of_two_rejected_versions_the_later_one_stays(lab: Lab, now, output, monkeypatch, was_deleted) -> None:
    """Both were refused in one chunk, the later one was stored first, and each is reprocessed in its own chunk."""
    (event,) = events(now - 60 * MINUTE, 1)
    payload = {"create_time": str(event.create_time)}
    with lake("lake_reader") as session:
        as_of = change_log.write_clock(session)
    if was_deleted:
        delete_minute(minute_of(event.create_time))
    refused = [
        Refused(f"sha:{line}", "too far ahead", json.dumps({**payload, "ev": ev}), as_of=as_of)
        for line, ev in (("10", "1"), ("9", "2"))
    ]
    rejected.keep(lab.conn, RECRUITMENT, rejected.IMPORT, refused)
    monkeypatch.setattr(reprocess, "_ROWS_PER_CHUNK", 1)
    assert reprocess.begin(RECRUITMENT, Selection(), output.append).written == 2
    assert payload_in_lake(event)["ev"] == "1"


def test_more_rows_than_one_chunk_takes_are_reprocessed(lab: Lab, now, output) -> None:
    many = [Event(touched_at(now - 60 * MINUTE + number * MILLISECOND), {"ev": "1"}) for number in range(1_001)]
    for number, event in enumerate(many):
        refuse(lab, f"sha:{number}", {"create_time": str(event.create_time), "ev": "1"})
    assert reprocess.begin(RECRUITMENT, Selection(), output.append).written == 1_001
    assert lake_rows(now - 60 * MINUTE) == {event.create_time for event in many}
    assert rejected_rows(lab) == []


def test_an_origin_key_includes_the_id_of_events_that_have_their_own() -> None:
    by_id = replace(RECRUITMENT, event_id="id")
    event = Event(touched_at(datetime(2026, 3, 1, 12, 34, 5)), {"id": "order-7"})
    shard = shard_of("order-7", RECRUITMENT.shards)
    assert reprocess._origin_key(by_id, event) == f"2026-03-01T12:34Z/{shard}/{event.create_time}/order-7"


def test_rows_of_a_dimension_file_are_not_events(lab: Lab, now, output) -> None:
    lab.query(
        "INSERT INTO etl.imports (target, source_key, source_name) VALUES ('recruitment.job', 'job-sha', 'job.csv')"
    )
    refuse(lab, "job-sha:2", {"id": "seven"}, "id 'seven' is not a number")
    reprocess.begin(RECRUITMENT, Selection(), output.append)
    assert output == [
        "recruitment: there is nothing to reprocess.",
        "1 rows stay rejected: they come from dimension files (job). Fix the file and import it again.",
        "No rejected events can be reprocessed. Rejected in recruitment: 1 x import: id … is not a number.",
    ]
    assert rejected_rows(lab) == [("import", "id 'seven' is not a number")]
    reprocess.begin(RECRUITMENT, Selection(None, now, now + MINUTE), output.append)
    assert output[-1].startswith("No rejected events in these minutes can be reprocessed. Rejected in recruitment: 1 x")


def test_rows_of_closed_minutes_stay_rejected(lab: Lab, now, output) -> None:
    old, recent = now - 3 * 1_440 * MINUTE, now - 60 * MINUTE
    write(*events(old, 10), *events(recent, 10))
    run(lab, broken=1)
    short_retention = replace(RECRUITMENT, lake_retention=timedelta(days=2))
    refuse(lab, "sha:1", {"create_time": str(events(old, 1)[0].create_time), "ev": "1"})
    reprocess.begin(short_retention, Selection(), output.append)
    assert pending(lab) == [recent]
    assert "1 rows stay rejected: their minutes are closed" in output[1]
    assert [reason for origin, reason in rejected_rows(lab) if origin == "import"] == [
        "its minute is closed, because it is past the lake's retention: bedan.tracking keeps events for 2 days"
    ]


def test_a_minute_that_is_held_after_reprocessing_is_reported(lab: Lab, now, output) -> None:
    minute = now - 60 * MINUTE
    write(*events(minute, 10))
    run(lab, broken=1)
    started = reprocess.begin(RECRUITMENT, Selection(), output.append)
    batch_id = lab.open(minute, run_id="shrunk", clock=now + 5 * MINUTE)
    lab.stage(batch_id, {minute: []})
    assert lab.check(batch_id).held == (minute,)
    last_line = reprocess.follow(started, pause=0.01)
    assert "1 rows are in 1 minutes that are held" in last_line and "`./minutemark held` says why" in last_line


def test_a_wait_without_a_merge_ends_with_a_hint(lab: Lab, now, output) -> None:
    write(*events(now - 60 * MINUTE, 10))
    run(lab, broken=1)
    started = reprocess.begin(RECRUITMENT, Selection(), output.append)
    with pytest.raises(
        reprocess.ReprocessingStalled, match="1 of 1 minutes are still pending.*recruitment_minute is not paused"
    ):
        reprocess.follow(started, patience=0.05, pause=0.01)


def test_the_command_waits_for_the_merge_and_reports_the_fates_of_the_rows(lab: Lab, now, minutemark, capsys) -> None:
    write(*events(now - 60 * MINUTE, 10))
    run(lab, broken=1)
    assert minutemark("reprocess", "recruitment", "--no-wait") == 0
    assert "The next runs of recruitment_minute process these minutes." in capsys.readouterr().out
    result: list[int] = []
    command = threading.Thread(target=lambda: result.append(minutemark("reprocess", "recruitment", "--reason=")))
    seen_query = "SELECT seen_changed_at FROM etl.minute_ledger WHERE pipeline = 'recruitment'"
    before = lab.query(seen_query)
    command.start()
    while lab.query(seen_query) == before:  # the command touches the minute once more
        assert command.is_alive()
    run(lab, run_id="fixed")
    command.join(30)
    assert result == [0]
    assert "1 rows of 1 minutes were processed: 1 counted, 0 ignored, 0 still rejected." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "`pipeline` is 'nothing'. Choose one of ecommerce, recruitment."),
        (["recruitment", "--from", "2026-03-02", "--to", "2026-03-01"], "must be before `to`"),
    ],
)
def test_the_command_says_what_is_wrong_in_one_line(
    lab: Lab, minutemark, capsys, arguments: list[str], message: str
) -> None:
    assert minutemark("reprocess", *arguments) == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith(("Reprocessing failed. ", "Error: "))
    assert message in error and "Traceback" not in error


def test_an_unknown_reason_is_reported_with_the_known_ones(lab: Lab, now, minutemark, capsys) -> None:
    write(*events(now - 60 * MINUTE, 10))
    run(lab, broken=1)
    assert minutemark("replay", "recruitment", "--reason", "bids are odd") == 0
    shown = capsys.readouterr().out
    assert "No rejected events with a reason that begins with 'bids are odd'" in shown
    assert "1 x lake: bid is negative" in shown
    assert pending(lab) == []
