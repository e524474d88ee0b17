"""Verify on the real stores: no findings on correct data, and each kind of damage is found."""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from include import planner
from include.lake import change_log, counts
from include.lake.keys import minute_of, shard_of
from include.lake.schema import CHANGE_LOG
from include.lake.session import lake
from include.lake.writer import Event, EventWriter
from include.verify import rules, verify
from include.verify.comparison import Known, MinuteState, classify
from include.verify.minutes import Minutes
from include.warehouse import ledger, merge
from include.warehouse.sql import SqlFile
from tests.unreadable import unreadable_partition
from tests.warehouse.lab import RECRUITMENT, SECOND, Lab, contribution, minute, touched_at

QUICK = replace(RECRUITMENT, settle=timedelta(seconds=0.3))
JOB_8 = "job_id = 8"
WRITTEN: set[datetime] = set()


@pytest.fixture(scope="module")
def writer(lake_schema: None):
    with lake("lake_writer") as session:
        yield session


@pytest.fixture
def reader(lake_schema: None):
    with lake("lake_reader") as session:
        yield session


def event(at: datetime, second: int = 1) -> Event:
    return Event(touched_at(at + second * SECOND), {"ev": "1"})


def write(writer, *events: Event, touch: bool = True) -> None:
    """Write like a producer; with `touch=False`, like a producer that never touches the change log."""
    WRITTEN.update(minute_of(event.create_time) for event in events)
    to_lake = EventWriter(writer, RECRUITMENT)
    if not touch:
        to_lake._touch = lambda minutes: None
    to_lake.write(events)


def remove(writer, row: Event) -> None:
    key = (minute_of(row.create_time), shard_of(str(row.create_time), RECRUITMENT.shards), row.create_time)
    writer.execute("DELETE FROM bedan.tracking WHERE minute = %s AND shard = %s AND create_time = %s", key)


def empty_lake(writer) -> None:
    """Delete the rows of these tests; truncating takes longer than a whole test."""
    for at in WRITTEN:
        for shard in range(RECRUITMENT.shards):
            writer.execute("DELETE FROM bedan.tracking WHERE minute = %s AND shard = %s", (at, shard))
    for day in {at.date() for at in WRITTEN}:
        log = (RECRUITMENT.lake_table, day)
        for table in CHANGE_LOG:
            writer.execute(f"DELETE FROM {table} WHERE lake_table = %s AND day = %s", log)
    WRITTEN.clear()


def read_and_merge(lab: Lab, reader, rows: dict, *, rejects=(), run_id: str = "run-1", merging: bool = True) -> int:
    """Stage and merge what Spark would read of these minutes now, as if every touch had settled."""
    clock = planner.poll(RECRUITMENT, reader, lab.conn).clock
    batch_id = lab.open(*rows, run_id=run_id, clock=clock, is_delta=False, allow_shrink=True)
    result = counts.minute_counts(reader, RECRUITMENT, rows)
    counted = {}
    for at, (raw, checksum) in result.items():
        events = sum(row["event_count"] for row in rows[at])
        rejected = sum(rejected_at == at for rejected_at, _ in rejects)
        counted[at] = {"raw_rows": raw, "ignored_rows": raw - events - rejected, "id_checksum": checksum}
    lab.stage(batch_id, rows, rejects=rejects, counts=counted)
    assert lab.check(batch_id).passed
    if merging:
        merge.merge(batch_id)
        mark_settled(lab)
    return batch_id


def mark_settled(lab: Lab) -> None:
    lab.query(
        "UPDATE etl.minute_ledger SET settled_before = seen_changed_time WHERE settled_before < seen_changed_time"
    )
    lab.query("UPDATE etl.day_cursors SET drilled_at = drilled_at + INTERVAL 1 HOUR")


# Minute 0: a click of job 7 and a row of another kind. Minute 1: clicks of jobs 7 and 8, and a rejected row.
EVENTS = [event(minute(0), 1), event(minute(0), 2), event(minute(1), 1), event(minute(1), 2), event(minute(1), 3)]
ROWS = {
    minute(0): [contribution(7)],
    minute(1): [contribution(7), contribution(8, bid_sum=Decimal("0.25"))],
}
REJECTS = [(minute(1), "bid is negative")]


@pytest.fixture
def good(lab: Lab, reader, writer) -> Lab:
    """Two minutes, written, read and merged."""
    empty_lake(writer)
    lab.query("INSERT INTO recruitment.job (id, company_id) VALUES (7, 70)")
    write(writer, *EVENTS)
    read_and_merge(lab, reader, ROWS, rejects=REJECTS)
    return lab


def report_of(pipeline=QUICK, patience: float = 0, **options):
    return verify.verify([pipeline], patience=patience, poll=0.05, **options).pipelines[0]


def kinds(report) -> dict[str, int]:
    return report.differences.counts


def only_finding(report, kind: str):
    """The only finding of that kind."""
    (finding,) = report.differences.kept[kind]
    return finding


def test_a_correct_warehouse_has_no_findings(good: Lab) -> None:
    report = report_of()
    assert (kinds(report), report.apart.counts, report.notes) == ({}, {}, [])
    assert report.totals == {
        "minutes": 2, "lake_rows": 5, "counted": 3, "ignored": 1, "rejected": 1, "contributions": 3, "facts": 2,
        "pending": 0, "open": 0, "held": 0, "closed": 0,
    }  # fmt: skip


def test_empty_stores_have_no_differences(lab: Lab, writer) -> None:
    empty_lake(writer)
    report = report_of()
    assert (kinds(report), report.totals["minutes"]) == ({}, 0)


def test_a_partition_that_cannot_be_read_is_named_and_everything_else_is_verified(
    good: Lab, writer, minutemark, capsys: pytest.CaptureFixture[str]
) -> None:
    """⚑ Otherwise, a minute with 120,000 rows that were deleted one by one keeps everything from being verified."""
    remove(writer, EVENTS[0])  # a difference in the other minute
    with unreadable_partition(writer, RECRUITMENT, minute(1), 3):
        report = report_of()
        assert kinds(report) == {"unreadable": 1, "vanished_rows": 1}
        result = only_finding(report, "unreadable")
        assert result.minute == minute(1) and "shard 3" in result.where
        assert "nodetool garbagecollect" in result.remedy and "tombstone_failure_threshold" in result.remedy
        assert only_finding(report, "vanished_rows").minute == minute(0)
        assert report.totals["facts"] == 2
        # The range omits the other minute, because the command waits until a difference has settled.
        span = ["--from", f"{minute(1):%Y-%m-%dT%H:%M}", "--to", f"{minute(2):%Y-%m-%dT%H:%M}"]
        assert minutemark("verify", "recruitment", "--patience", "0", *span) == 1
        assert "cannot be read" in capsys.readouterr().out
    assert kinds(report_of()).get("unreadable") is None


# Damage to the lake.


def test_a_row_lost_from_the_lake_is_found(good: Lab, writer) -> None:
    remove(writer, EVENTS[0])
    report = report_of()
    assert kinds(report) == {"vanished_rows": 1}
    finding = only_finding(report, "vanished_rows")
    assert (finding.minute, finding.expected["rows"], finding.found["rows"]) == (minute(0), 1, 2)
    assert '{"from": "2026-03-01T10:00Z", "to": "2026-03-01T10:01Z", "allow_shrink": true}' in finding.remedy


def test_a_minute_that_the_lake_no_longer_has_is_found(good: Lab, writer) -> None:
    for row in EVENTS[:2]:
        remove(writer, row)
    assert only_finding(report_of(), "vanished_rows").expected["rows"] == 0


def test_a_row_replaced_by_another_is_found_though_the_count_is_the_same(good: Lab, writer) -> None:
    remove(writer, EVENTS[0])
    write(writer, event(minute(0), 9), touch=False)
    report = report_of()
    assert kinds(report) == {"other_rows": 1}
    finding = only_finding(report, "other_rows")
    assert finding.expected["rows"] == finding.found["rows"] == 2
    assert finding.expected["id_checksum"] == sum(
        zlib.crc32(str(row.create_time).encode()) for row in (EVENTS[1], event(minute(0), 9))
    )


def test_a_lost_touch_of_a_minute_that_the_ledger_knows_is_found(good: Lab, writer) -> None:
    write(writer, event(minute(0), 9), touch=False)
    report = report_of()
    assert kinds(report) == {"unread_rows": 1}
    assert only_finding(report, "unread_rows").remedy == (
        'trigger recruitment_minute with {"from": "2026-03-01T10:00Z", "to": "2026-03-01T10:01Z"}'
    )


def test_a_lost_touch_of_an_unknown_minute_is_found_in_a_range(good: Lab, writer) -> None:
    write(writer, event(minute(5)), touch=False)
    assert kinds(report_of()) == {}
    report = report_of(start=minute(0), end=minute(10))
    assert kinds(report) == {"unannounced_rows": 1}
    assert only_finding(report, "unannounced_rows").minute == minute(5)
    assert report.totals["minutes"] == 10
    assert kinds(report_of(start=minute(0), end=minute(5))) == {}


def test_a_range_over_midnight_has_all_its_minutes(good: Lab, writer) -> None:
    before, after = datetime(2026, 3, 1, 23, 59), datetime(2026, 3, 2, 0, 0)
    write(writer, event(before), event(after), touch=False)
    report = report_of(start=datetime(2026, 3, 1, 23, 58), end=datetime(2026, 3, 2, 0, 1))
    assert (kinds(report), report.totals["minutes"]) == ({"unannounced_rows": 2}, 3)


# Damage to the warehouse.


def test_a_deleted_ledger_row_is_found(good: Lab) -> None:
    good.query("DELETE FROM etl.minute_ledger WHERE minute = %s", minute(1))
    report = report_of()
    assert kinds(report) == {"minutes_rejects_kept": 1, "minutes_events_counts": 1, "unknown_to_ledger": 1}
    assert only_finding(report, "minutes_events_counts").expected == {}
    assert only_finding(report, "minutes_events_counts").found == {"events": 2}


def test_a_ledger_that_does_not_add_up_is_found(good: Lab) -> None:
    good.query("UPDATE etl.minute_ledger SET ignored_rows = ignored_rows + 1 WHERE minute = %s", minute(0))
    report = report_of()
    assert kinds(report) == {"minutes_conservation": 1}
    assert (
        only_finding(report, "minutes_conservation").expected,
        only_finding(report, "minutes_conservation").found,
    ) == (
        {"rows": 2},
        {"rows": 3},
    )


def test_a_deleted_rejected_event_is_found_and_those_of_imports_are_not_compared_with_the_lake(good: Lab) -> None:
    good.query(
        "INSERT INTO etl.rejected_events (pipeline, origin, origin_key, minute, reason, payload) "
        "VALUES ('recruitment', 'import', 'sha:12', %s, 'no usable id', 'a,b')",
        minute(0),
    )
    assert kinds(report_of()) == {}
    good.query("DELETE FROM etl.rejected_events WHERE origin = 'lake'")
    report = report_of()
    assert kinds(report) == {"minutes_rejects_kept": 1}
    assert only_finding(report, "minutes_rejects_kept").minute == minute(1)


@pytest.mark.parametrize(
    ("column", "value", "fact_columns"),
    [
        ("clicks", 5, {"clicks"}),
        ("impressions", 5, {"impressions"}),
        ("conversions", 5, {"conversion"}),
        ("qualified", 5, {"qualified_application"}),
        ("unqualified", 5, {"disqualified_application"}),
        ("bid_sum", Decimal("9.5"), {"bid_sum", "spend_hour"}),
        ("bid_count", 2, {"bid_count"}),
        ("newest_create_time", minute(1) + 59 * SECOND, {"latest_update_time"}),
    ],
)
def test_a_changed_value_in_a_contribution_is_found(good: Lab, column: str, value, fact_columns: set) -> None:
    good.query(f"UPDATE recruitment.events_by_minute SET {column} = %s WHERE {JOB_8}", value)
    report = report_of()
    assert kinds(report) == {"facts_events": 1}
    finding = only_finding(report, "facts_events")
    assert set(finding.expected) == set(finding.found) == fact_columns
    assert "job_id=8 dates=2026-03-01 hours=10" in finding.where
    assert finding.minute == minute(1)


def test_the_remedy_of_a_differing_fact_names_all_minutes_that_it_sums(good: Lab) -> None:
    """If only the first minute were read again, the fact would agree with a wrong contribution."""
    good.query("UPDATE recruitment.events_by_minute SET clicks = 5 WHERE job_id = 7 AND minute = %s", minute(1))
    assert (
        '{"from": "2026-03-01T10:00Z", "to": "2026-03-01T10:02Z"}' in only_finding(report_of(), "facts_events").remedy
    )
    good.query(
        "UPDATE recruitment.events_by_minute SET minute = '2026-03-09' WHERE job_id = 7 AND minute = %s", minute(1)
    )
    remedy = report_of().differences.kept["facts_events"][0].remedy
    assert remedy.startswith(
        "backfill recruitment_reconcile from 2026-03-01T10:00Z to 2026-03-09T00:01Z, with all runs"
    )


def test_a_changed_event_count_in_a_contribution_is_found(good: Lab) -> None:
    good.query(f"UPDATE recruitment.events_by_minute SET event_count = 2 WHERE {JOB_8}")
    assert kinds(report_of()) == {"minutes_events_counts": 1}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("clicks", 5),
        ("impressions", 5),
        ("conversion", 5),
        ("qualified_application", 5),
        ("disqualified_application", 5),
        ("bid_sum", Decimal("9.5")),
        ("bid_count", 2),
        ("spend_hour", Decimal("0.250001")),
        ("company_id", 80),
        ("sources", "by hand"),
        ("latest_update_time", minute(1)),
    ],
)
def test_a_changed_value_in_a_fact_is_found(good: Lab, column: str, value) -> None:
    good.query(f"UPDATE recruitment.events SET {column} = %s WHERE {JOB_8}", value)
    report = report_of()
    assert kinds(report) == {"facts_events": 1}
    assert only_finding(report, "facts_events").found[column] == value
    assert only_finding(report, "facts_events").expected[column] != value


def test_a_contribution_copied_to_another_key_is_found(good: Lab) -> None:
    columns = "dates, hours, publisher_id, campaign_id, group_id, event_count, clicks, impressions, conversions, "
    columns += "qualified, unqualified, bid_sum, bid_count, newest_create_time"
    good.query(
        f"INSERT INTO recruitment.events_by_minute (minute, job_id, {columns}) "
        f"SELECT minute, 9, {columns} FROM recruitment.events_by_minute WHERE {JOB_8}"
    )
    report = report_of()
    assert kinds(report) == {"minutes_events_counts": 1, "facts_events": 1}
    assert "job_id=9" in only_finding(report, "facts_events").where
    assert only_finding(report, "facts_events").found == {}


def test_a_deleted_fact_and_a_fact_without_contributions_are_found(good: Lab) -> None:
    good.query(f"UPDATE recruitment.events SET job_id = 10 WHERE {JOB_8}")
    report = report_of()
    assert kinds(report) == {"facts_events": 2}
    missing, extra = report.differences.kept["facts_events"]
    assert ("job_id=8" in missing.where, missing.found) == (True, {})
    assert ("job_id=10" in extra.where, extra.expected) == (True, {})
    assert (missing.minute, extra.minute) == (minute(1), None)


def test_differing_facts_are_found_in_every_slice_of_keys(good: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [contribution(job) for job in range(20, 31)]
    lab_rows = {minute(3): jobs}
    good.publish(lab_rows, run_id="run-2", counts={minute(3): {"raw_rows": 11}})
    good.query("DELETE FROM recruitment.events WHERE job_id IN (7, 22, 30)")
    good.query("INSERT INTO recruitment.events (job_id, dates, hours, publisher_id, campaign_id, group_id, "
               "disqualified_application, qualified_application, conversion, clicks, impressions, bid_sum, bid_count, "
               "spend_hour, sources, latest_update_time) SELECT job_id + 100, dates, hours, publisher_id, campaign_id, "
               "group_id, 0, 0, 0, 0, 0, 0, 0, 0, sources, latest_update_time FROM recruitment.events")  # fmt: skip
    slices = []
    monkeypatch.setattr(rules, "SLICE_ROWS", 3)
    result = [finding.where for finding, _ in rules.broken_facts(good.conn, RECRUITMENT, lambda: slices.append(1))]
    assert len(result) == len(set(result)) == 3 + 10
    assert len(slices) > 4


# Minutes that are listed separately.


def test_pending_minutes_are_listed_separately_whether_read_before_or_never(good: Lab, writer) -> None:
    write(writer, event(minute(0), 9), event(minute(7)))  # touched; no poll has seen it yet
    report = report_of()
    assert (kinds(report), report.apart.counts) == ({}, {"pending": 2})
    with lake("lake_reader") as session:
        planner.poll(RECRUITMENT, session, good.conn)  # seen, not read
    report = report_of()
    assert (kinds(report), report.totals["pending"]) == ({}, 2)


def test_a_held_minute_is_listed_separately_with_its_reason(good: Lab, reader, writer) -> None:
    write(writer, event(minute(0), 9))
    planner.poll(RECRUITMENT, reader, good.conn)
    mark_settled(good)
    seen = good.ledger(minute(0))["seen_changed_at"]
    ledger.hold(good.conn.cursor(), "recruitment", [(minute(0), seen, "staging_x: broken")], None)
    good.conn.commit()
    report = report_of()
    assert (kinds(report), report.apart.counts) == ({}, {"held": 1})
    assert report.apart.kept["held"][0].remedy.startswith("staging_x: broken. Fix the cause, then trigger")


def test_the_open_minute_is_listed_separately_and_blocks_nothing(good: Lab, reader, writer) -> None:
    now = change_log.clock(reader).replace(second=0, microsecond=0)
    write(writer, event(now, 0))
    report = report_of(patience=60)  # if verify waited for this minute, the test would take a minute
    if change_log.clock(reader) < now + timedelta(minutes=1):
        assert (kinds(report), report.apart.counts) == ({}, {"open": 1})


def test_minutes_past_lake_retention_are_not_compared_with_the_lake(good: Lab, writer) -> None:
    remove(writer, EVENTS[0])
    forgetful = replace(QUICK, lake_retention=timedelta(days=2))
    report = report_of(forgetful)
    assert (kinds(report), report.totals["closed"]) == ({}, 2)
    assert report.notes == [
        "2 minutes are closed (bedan.tracking keeps events for 2 days): not compared with the lake."
    ]
    good.query("DELETE FROM etl.rejected_events")
    assert kinds(report_of(forgetful)) == {"minutes_rejects_kept": 1}, "The warehouse must still agree with itself."


# Races. Each test starts with an apparent difference.


def run_around_counts(monkeypatch, *steps) -> None:
    """Run the first pair of steps (before, after) around the first count of the lake, and so on."""
    pairs = list(steps)
    count = counts.minute_counts

    def count_with_steps(*arguments):
        before, after = pairs.pop(0) if pairs else (None, None)
        if before:
            before()
        result = count(*arguments)
        if after:
            after()
        return result

    monkeypatch.setattr(counts, "minute_counts", count_with_steps)


def run_before_counts(monkeypatch, *steps) -> None:
    run_around_counts(monkeypatch, *((step, None) for step in steps))


def run_before_ledger_read(monkeypatch, number: int, step) -> None:
    """Run the step just before the ledger is read for the `number`-th time."""
    original, calls = Minutes._read_known, []

    def read_known(self, minutes):
        calls.append(minutes)
        if len(calls) == number:
            step()
        return original(self, minutes)

    monkeypatch.setattr(Minutes, "_read_known", read_known)


def test_a_minute_merged_between_two_reads_is_not_reported(good: Lab, reader, writer, monkeypatch) -> None:
    write(writer, event(minute(0), 9), touch=False)
    written_at = change_log.clock(reader)

    def reconcile() -> None:
        assert change_log.clock(reader) - written_at >= QUICK.settle
        read_and_merge(good, reader, {minute(0): [contribution(7)]}, run_id="run-2")

    run_before_counts(monkeypatch, None, reconcile)
    report = report_of(patience=20)
    assert (kinds(report), report.apart.counts) == ({}, {})
    assert report.totals["lake_rows"] == 6


def test_a_batch_that_merges_between_ledger_and_lake_is_not_reported(good: Lab, reader, writer, monkeypatch) -> None:
    write(writer, event(minute(0), 9))
    batch_id = read_and_merge(good, reader, {minute(0): [contribution(7)]}, run_id="run-2", merging=False)

    def merge_batch() -> None:
        merge.merge(batch_id)
        mark_settled(good)

    run_before_counts(monkeypatch, merge_batch)
    report = report_of(patience=20)
    assert (kinds(report), report.apart.counts) == ({}, {})


def test_an_event_whose_touch_is_on_its_way_is_not_reported(good: Lab, reader, writer, monkeypatch) -> None:
    late = event(minute(0), 9)

    def write_event() -> None:
        write(writer, late, touch=False)

    def touch_minute() -> None:
        change_log.touch(writer, RECRUITMENT.lake_table, [minute(0)])

    run_before_counts(monkeypatch, write_event, touch_minute)
    report = report_of()
    assert (kinds(report), report.apart.counts) == ({}, {"pending": 1})


def test_a_count_of_one_read_is_not_evidence_against_the_next(good: Lab, reader, writer, monkeypatch) -> None:
    """Minute 0 is merged again just after its rows were counted, and another event is on its way at the second comparison."""

    def write_and_merge() -> None:
        write(writer, event(minute(0), 9), touch=False)
        read_and_merge(good, reader, {minute(0): [contribution(7)]}, run_id="run-2")

    write(writer, event(minute(0), 8), touch=False)
    last = event(minute(0), 10)
    no_steps, merge_after, write_before = (
        (None, None),
        (None, write_and_merge),
        (lambda: write(writer, last, touch=False), None),
    )
    run_around_counts(monkeypatch, merge_after, no_steps, write_before)
    report = report_of()
    assert (kinds(report), report.apart.counts) == ({}, {"pending": 1})


def test_a_difference_of_another_read_does_not_confirm_an_earlier_one(good: Lab, reader, writer, monkeypatch) -> None:
    """The first difference is merged between the comparisons; the second comparison finds an event on its way."""
    write(writer, event(minute(0), 8), touch=False)
    rows = {minute(0): [contribution(7)]}
    run_before_ledger_read(monkeypatch, 3, lambda: read_and_merge(good, reader, rows, run_id="run-2"))
    run_before_counts(monkeypatch, None, None, lambda: write(writer, event(minute(0), 9), touch=False))
    report = report_of()
    assert (kinds(report), report.apart.counts) == ({}, {"pending": 1})


def test_verify_waits_until_a_pending_minute_is_merged(good: Lab, reader, writer, monkeypatch) -> None:
    write(writer, event(minute(0), 9))
    rows = {minute(0): [contribution(7)]}
    run_before_ledger_read(monkeypatch, 5, lambda: read_and_merge(good, reader, rows, run_id="run-2"))
    report = report_of(patience=60)
    assert (kinds(report), report.apart.counts) == ({}, {})
    assert report.totals["lake_rows"] == 6


def test_a_difference_is_reported_even_if_pending_minutes_never_merge(good: Lab, writer) -> None:
    write(writer, event(minute(0), 9), touch=False)
    write(writer, event(datetime(2026, 3, 5, 10)))
    report = report_of(patience=1)
    assert (kinds(report), report.apart.counts) == ({"unread_rows": 1}, {"pending": 1})


# The command.


def test_verify_writes_nothing(good: Lab, writer) -> None:
    def all_rows():
        tables = ("etl.minute_ledger", "etl.day_cursors", "recruitment.events", "recruitment.events_by_minute")
        return [good.query(f"SELECT * FROM {table}") for table in tables]

    write(writer, event(minute(4)))
    before = all_rows()
    report_of()
    assert all_rows() == before


def test_verify_works_with_the_other_client_library(good: Lab, writer, monkeypatch) -> None:
    pytest.importorskip("mysql.connector")
    connection = json.loads(os.environ["AIRFLOW_CONN_WAREHOUSE_ETL"])
    connection["extra"] = {"client": "mysql-connector-python"}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_ETL", json.dumps(connection))
    assert kinds(report_of()) == {}
    write(writer, event(minute(0), 9), touch=False)
    good.query(f"UPDATE recruitment.events SET sources = 'by hand' WHERE {JOB_8}")
    report = report_of()
    assert kinds(report) == {"facts_events": 1, "unread_rows": 1}
    assert only_finding(report, "facts_events").found == {"sources": "by hand"}


def test_exit_status_and_report_for_people_and_programs(good: Lab, minutemark, capsys) -> None:
    assert minutemark("verify", "recruitment") == 0
    assert "recruitment, all minutes: nothing differs" in capsys.readouterr().out
    good.query("UPDATE recruitment.events SET clicks = 40")
    assert minutemark("verify", "--lines", "1") == 1
    text = capsys.readouterr().out
    assert "found clicks=40" in text
    assert "… and 1 more" in text
    assert minutemark("verify", "--json", "--from", "2026-03-01T10:00", "--to", "2026-03-01T10:01") == 1
    result = json.loads(capsys.readouterr().out)["pipelines"]["recruitment"]
    assert (result["totals"]["minutes"], result["totals"]["lake_rows"], result["totals"]["differences"]) == (1, 2, 2)
    assert result["differences"][0]["first"][0]["found"] == {"clicks": 40}


@pytest.mark.usefixtures("stores")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "`pipeline` is 'nothing'. Choose one of ecommerce, recruitment."),
        (["--from", "2026-03-01T10:00"], "`to` is empty"),
        (["--from", "2026-03-01T10:00", "--to", "2026-03-01T10:00"], "must be before"),
    ],
)
def test_invalid_arguments_give_no_verdict(arguments: list[str], message: str, minutemark, capsys) -> None:
    assert minutemark("verify", *arguments) == 2
    assert message in capsys.readouterr().err


def test_an_unreachable_store_gives_no_verdict(good: Lab, minutemark, capsys, monkeypatch) -> None:
    for name in ("AIRFLOW_CONN_LAKE_READER", "AIRFLOW_CONN_WAREHOUSE_ETL"):
        with monkeypatch.context() as patch:
            patch.setenv(name, json.dumps(json.loads(os.environ[name]) | {"port": 1}))
            assert minutemark("verify") == 2
        assert "cannot be reached" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("known", "in_lake", "state"),
    [
        (Known(), (0, 0), MinuteState.SAME),  # never written, in a range
        (Known(), (1, 5), MinuteState.DIFFERENT),
        (Known(touched="t", day_is_due=True), (0, 0), MinuteState.PENDING),  # the next poll finds it
        (Known(touched="t"), (0, 0), MinuteState.DIFFERENT),  # no poll will find it
        (Known("merged", read=(1, 5), seen="t", touched="t"), (1, 5), MinuteState.SAME),
        (Known("merged", read=(1, 5), seen="t", touched="t"), (1, 6), MinuteState.DIFFERENT),
        (Known("merged", pending=True, read=(1, 5), seen="t", touched="t"), (2, 6), MinuteState.PENDING),
        (Known("merged", read=(1, 5), seen="t", touched="u", day_is_due=True), (2, 6), MinuteState.PENDING),
        (Known("merged", read=(1, 5), seen="t", touched="u"), (2, 6), MinuteState.DIFFERENT),
        (Known("held", seen="t", touched="t"), (2, 6), MinuteState.HELD),
        (Known("held", pending=True, seen="u", touched="u"), (2, 6), MinuteState.PENDING),  # touched after the hold
        (Known("closed", read=(1, 5)), (0, 0), MinuteState.CLOSED),
    ],
)
def test_the_state_of_a_minute(known: Known, in_lake, state: MinuteState) -> None:
    assert classify(known, in_lake, is_open=False, is_closed=False, is_unreadable=False) is state


def test_files_of_rules_state_their_purpose_and_every_pipeline_compares_its_facts() -> None:
    from include import pipelines

    for pipeline in pipelines.all_pipelines().values():
        for kind in ("minutes", "facts", "total"):
            result = rules.rules(pipeline, kind)
            assert result, f"include/sql/{pipeline.name}/verify has no {kind}_*.sql."
            assert all(rule.purpose and "." in rule.table for rule in result if kind != "total")


def test_a_file_that_is_not_a_rule_is_refused(tmp_path) -> None:
    path = tmp_path / "minutes_x.sql"
    path.write_text("-- Nothing.\nSELECT 1; SELECT 2;")
    with pytest.raises(rules.InvalidRule, match="2 statements"):
        rules._rule(SqlFile(path.stem, path, path.read_text()))
