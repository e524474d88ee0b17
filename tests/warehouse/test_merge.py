"""The merge on a real server: what it publishes, what it leaves alone, and what it refuses."""

from __future__ import annotations

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from include.warehouse import batches, merge
from include.warehouse.errors import BatchRefused
from include.warehouse.session import in_transaction, rows, warehouse
from include.warehouse.sql import control, files
from tests.kafka.conftest import until
from tests.warehouse.lab import KEY, RECRUITMENT, SECOND, Lab, contribution, minute


def test_contributions_become_facts_with_sums_average_and_company(lab: Lab) -> None:
    lab.query("INSERT INTO recruitment.job (id, company_id) VALUES (7, 70)")
    lab.publish(
        {
            minute(0): [
                # one bid is absent
                contribution(7, clicks=2, event_count=2, bid_sum=Decimal("0.5"), bid_count=1)
            ],
            minute(1): [
                contribution(7, qualified=1, unqualified=2, conversions=3, impressions=4, event_count=11, bid_sum=1),
                contribution(8),  # its job is unknown
            ],
        }
    )
    columns = (
        "clicks, impressions, conversion, qualified_application, disqualified_application, "
        "bid_set, spend_hour, company_id, sources, latest_update_time"
    )
    facts = lab.facts(columns)
    newest = minute(1).replace(second=30)
    assert facts[7, 0] == (3, 4, 3, 1, 2, Decimal("0.75"), Decimal("1.5"), 70, "Cassandra", newest)
    assert facts[8, 0] == (1, 0, 0, 0, 0, Decimal("0.5"), Decimal("0.5"), None, "Cassandra", newest)


def test_average_bid_is_null_without_bids(lab: Lab) -> None:
    lab.publish({minute(0): [contribution(bid_sum=0, bid_count=0)]})
    assert lab.facts("bid_set, spend_hour") == {(7, 0): (None, 0)}


def test_a_minute_read_again_replaces_what_it_contributed(lab: Lab) -> None:
    lab.publish({minute(0): [contribution(7), contribution(8)], minute(1): [contribution(7)]})
    lab.publish({minute(0): [contribution(7, clicks=5, event_count=5, bid_count=5), contribution(9)]}, run_id="run-2")
    # job 7 has five clicks of minute 0 and one of minute 1; job 8 lost its only contribution; job 9 is new
    assert lab.facts() == {(7, 0): 6, (9, 0): 1}
    assert lab.one("SELECT COUNT(*) FROM recruitment.events_by_minute") == 3


def test_an_empty_minute_clears_its_contributions_and_writes_zeros(lab: Lab) -> None:
    lab.publish({minute(0): [contribution()]})
    lab.publish({minute(0): []}, run_id="run-2", allow_shrink=True)
    assert lab.facts() == {}
    assert lab.ledger(minute(0))["raw_rows"] == 0
    assert lab.ledger(minute(0))["state"] == "merged"


def test_merging_again_changes_nothing(lab: Lab) -> None:
    batch_id = lab.publish({minute(0): [contribution()]})
    before = lab.query("SELECT * FROM etl.minute_ledger"), lab.query("SELECT * FROM etl.batches")
    repeated = merge.merge(batch_id)
    assert (repeated.state, repeated.changed, repeated.minutes) == ("merged", False, 1)
    assert (lab.query("SELECT * FROM etl.minute_ledger"), lab.query("SELECT * FROM etl.batches")) == before
    assert lab.check(batch_id, "staging").passed


def test_ledger_and_batch_record_the_fates_of_all_rows(lab: Lab) -> None:
    batch_id = lab.publish(
        {minute(0): [contribution(event_count=3)], minute(1): []}, ignored=20, rejects=[(minute(1), "bid is negative")]
    )
    totals = "SELECT raw_rows, counted_rows, ignored_rows, rejected_rows FROM"
    assert lab.query(f"{totals} etl.minute_ledger ORDER BY minute") == [(23, 3, 20, 0), (21, 0, 20, 1)]
    assert lab.query(f"{totals} etl.batches WHERE batch_id = %s", batch_id) == [(44, 3, 40, 1)]


# ⚑ a merge replaces only rejected events of origin lake
def test_rejects_of_an_import_survive_the_merge_of_their_minute(lab: Lab) -> None:
    lab.query(
        "INSERT INTO etl.rejected_events (pipeline, origin, origin_key, minute, reason, payload) "
        "VALUES ('recruitment', 'import', 'sha:12', %s, 'no usable id', 'a,b'), "
        "('recruitment', 'lake', 'from-an-older-read', %s, 'bid is negative', '{}')",
        minute(0),
        minute(0),
    )
    lab.publish({minute(0): []}, ignored=5, rejects=[(minute(0), "job_id is not a whole number")])
    result = lab.query("SELECT origin, reason FROM etl.rejected_events ORDER BY origin")
    assert result == [("import", "no usable id"), ("lake", "job_id is not a whole number")]


# ⚑ drop the minutes that a newer attempt has already merged and keep the rest
def test_a_late_merge_leaves_newer_reads_alone_and_publishes_the_rest(lab: Lab) -> None:
    slow = lab.open(minute(0), minute(1), run_id="slow")
    lab.stage(slow, {minute(0): [contribution(clicks=1)], minute(1): [contribution(8)]})
    assert lab.check(slow).passed
    lab.publish({minute(0): [contribution(clicks=9, event_count=9)]}, run_id="fast", kind="backfill", is_delta=False)
    result = merge.merge(slow)
    assert (result.state, result.minutes, result.left_out) == ("merged", 1, 1)
    assert lab.facts() == {(7, 0): 9, (8, 0): 1}
    assert lab.check(slow, "warehouse").passed


# ⚑ a batch without minutes left is skipped
def test_a_batch_of_superseded_minutes_is_skipped(lab: Lab) -> None:
    slow = lab.open(minute(0), run_id="slow")
    lab.stage(slow, {minute(0): [contribution(clicks=1)]})
    assert lab.check(slow).passed
    lab.publish({minute(0): [contribution(clicks=9, event_count=9)]}, run_id="fast", kind="backfill", is_delta=False)
    assert merge.merge(slow).state == "skipped"
    assert merge.merge(slow).state == "skipped"
    assert lab.facts() == {(7, 0): 9}
    assert lab.check(slow, "warehouse").passed


# ⚑ the staging key begins with the attempt, because a driver that seemed dead may still write
def test_rows_of_another_attempt_never_reach_the_facts(lab: Lab) -> None:
    batch_id = lab.open(minute(0))
    zombie = batches.new_attempt(lab.conn, batch_id)
    attempt = lab.stage(batch_id, {minute(0): [contribution(clicks=2, event_count=2)]})
    row = contribution(clicks=100, event_count=100)
    lab.query(
        f"INSERT INTO recruitment.events_staged (attempt, minute, {', '.join(row)}, newest_create_time) "
        f"VALUES (%s, %s, {', '.join(['%s'] * len(row))}, %s)",
        zombie, minute(0), *row.values(), minute(0),
    )  # fmt: skip
    assert lab.check(batch_id).attempt == attempt
    merge.merge(batch_id)
    assert lab.facts() == {(7, 0): 2}
    assert lab.one("SELECT COUNT(*) FROM recruitment.events_staged") == 0


def test_staging_of_failed_batches_is_swept_and_that_of_open_ones_stays(lab: Lab) -> None:
    failed = lab.open(minute(0), run_id="given-up")
    lab.stage(failed, {minute(0): [contribution()]})
    lab.query("UPDATE etl.batches SET state = 'failed'")
    running = lab.open(minute(1), run_id="running", is_delta=False)
    lab.stage(running, {minute(1): [contribution()]})
    lab.publish({minute(2): [contribution()]}, run_id="other")
    assert lab.query("SELECT DISTINCT minute FROM recruitment.events_staged") == [(minute(1),)]
    assert lab.query("SELECT DISTINCT minute FROM etl.staged_counts") == [(minute(1),)]


# ⚑ two batches, one fact key: the pipeline's row is locked before anything is read
def test_a_merge_waits_for_every_other_writer_of_the_pipeline(lab: Lab) -> None:
    first = lab.open(minute(0), run_id="first")
    lab.stage(first, {minute(0): [contribution()]})
    second = lab.open(minute(1), run_id="second")
    lab.stage(second, {minute(1): [contribution()]})
    assert lab.check(first).passed
    assert lab.check(second).passed
    cursor = lab.conn.cursor()
    merge.lock(cursor, RECRUITMENT)
    other = threading.Thread(target=merge.merge, args=(second,))
    other.start()
    other.join(0.5)
    assert other.is_alive(), "The second merge did not wait for the pipeline's lock."
    merge._publish(cursor, RECRUITMENT, first)  # sees only its own contribution of this fact key
    lab.conn.commit()
    other.join(20)
    assert lab.facts() == {(7, 0): 2}


# ⚑ wait_timeout 60 s in merge sessions
def test_an_idle_merge_session_is_ended_after_a_minute(warehouse_server: dict) -> None:
    with warehouse(merge=True) as conn:
        cursor = conn.cursor()
        cursor.execute("SELECT @@wait_timeout, @@time_zone, @@sql_mode")
        wait_timeout, time_zone, sql_mode = cursor.fetchone()
    assert (wait_timeout, time_zone) == (60, "+00:00")
    assert "ERROR_FOR_DIVISION_BY_ZERO" in sql_mode


def test_a_merge_whose_session_is_killed_starts_over_and_publishes_once(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = lab.open(minute(0))
    lab.stage(batch_id, {minute(0): [contribution()]})
    assert lab.check(batch_id).passed
    killed = []

    def publish_and_kill(cursor, pipeline, attempt_batch_id):
        result = publish(cursor, pipeline, attempt_batch_id)
        if not killed:
            cursor.execute("SELECT CONNECTION_ID()")
            killed.append(cursor.fetchone()[0])
            with warehouse("warehouse_admin") as admin:
                admin.cursor().execute(f"KILL {killed[0]}")
            time.sleep(0.2)
        return result

    publish = merge._publish
    monkeypatch.setattr(merge, "_publish", publish_and_kill)
    assert merge.merge(batch_id).changed
    assert killed
    assert lab.facts() == {(7, 0): 1}
    assert lab.one("SELECT merge_tries FROM etl.batches") == 1


def test_a_merge_that_waited_too_long_for_a_lock_starts_over(lab: Lab, waits) -> None:
    batch_id = lab.open(minute(0))
    lab.stage(batch_id, {minute(0): [contribution()]})
    assert lab.check(batch_id).passed
    before = waits()
    lab.conn.cursor().execute("SELECT * FROM etl.batches FOR UPDATE")
    with ThreadPoolExecutor(1) as other:
        merging = other.submit(merge.merge, batch_id)
        try:
            until(lambda: waits() == before + 2)
        finally:
            lab.conn.rollback()
        assert merging.result(30).changed
    assert lab.facts() == {(7, 0): 1}


def test_a_transaction_that_a_deadlock_undoes_is_repeated(lab: Lab) -> None:
    lab.see(minute(0), minute(1))
    lab.query("SELECT 1")
    both_hold_one = threading.Barrier(2, timeout=10)
    tries = []

    def add_one(first, second) -> None:
        def work(cursor) -> None:
            tries.append(first)
            change = "UPDATE etl.minute_ledger SET raw_rows = COALESCE(raw_rows, 0) + 1 WHERE minute = %s"
            cursor.execute(change, (first,))
            if len(tries) <= 2:
                both_hold_one.wait()
            cursor.execute(change, (second,))

        with warehouse() as conn:
            in_transaction(conn, work)

    others = [threading.Thread(target=add_one, args=pair) for pair in ((minute(0), minute(1)), (minute(1), minute(0)))]
    for other in others:
        other.start()
    for other in others:
        other.join(30)
    assert len(tries) == 3
    assert lab.query("SELECT raw_rows FROM etl.minute_ledger") == [(2,), (2,)]


def test_a_merge_is_refused_before_the_batch_has_passed_the_gate(lab: Lab) -> None:
    batch_id = lab.open(minute(0))
    lab.stage(batch_id, {minute(0): [contribution()]})
    with pytest.raises(BatchRefused, match="has passed the staging gate.*check_staging"):
        merge.merge(batch_id)
    assert lab.check(batch_id).passed
    lab.stage(batch_id, {minute(0): [contribution(clicks=2, event_count=2)]})  # a new attempt has to pass, too
    with pytest.raises(BatchRefused, match="has passed the staging gate"):
        merge.merge(batch_id)


# ⚑ the counts are the completion marker
def test_a_merge_is_refused_when_staging_is_no_longer_complete(lab: Lab) -> None:
    batch_id = lab.open(minute(0), minute(1))
    lab.stage(batch_id, {minute(0): [contribution()], minute(1): [contribution()]})
    assert lab.check(batch_id).passed
    lab.query("DELETE FROM etl.staged_counts WHERE minute = %s", minute(1))
    with pytest.raises(BatchRefused, match="1 of 2 minutes.*transform_delta"):
        merge.merge(batch_id)
    assert lab.facts() == {}


def test_a_replaced_or_unknown_batch_is_refused_with_the_reason(lab: Lab) -> None:
    old = lab.open(minute(0))
    new = lab.open(minute(0))  # the same run, cleared from its sensor
    with pytest.raises(BatchRefused, match=f"replaced by batch {new}.*wait_for_changes"):
        merge.merge(old)
    with pytest.raises(BatchRefused, match="Batch 999999999 is not in etl.batches"):
        merge.merge(999999999)


def test_only_facts_with_touched_keys_change(lab: Lab) -> None:
    lab.publish({minute(0): [contribution(7)]})
    lab.query("UPDATE recruitment.events SET clicks = 1000")  # a mark that only a recomputation removes
    lab.publish({minute(1): [contribution(8)]}, run_id="run-2")
    assert lab.facts() == {(7, 0): 1000, (8, 0): 1}


def test_keys_keep_apart_facts_that_differ_in_one_column(lab: Lab) -> None:
    variants = [{}, {"job_id": 8}, {"hours": 11}, {"publisher_id": 1}, {"campaign_id": 1}, {"group_id": 1}]
    lab.publish({minute(0): [contribution(**variant) for variant in variants]})
    assert lab.one("SELECT COUNT(*) FROM recruitment.events") == len(variants)
    assert lab.one(f"SELECT COUNT(*) FROM (SELECT DISTINCT {', '.join(KEY)} FROM recruitment.events) AS d") == len(
        variants
    )


def test_merging_works_with_the_other_client_library(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mysql.connector")
    connection = json.loads(os.environ["AIRFLOW_CONN_WAREHOUSE_ETL"])
    connection["extra"] = {"client": "mysql-connector-python"}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_ETL", json.dumps(connection))
    with warehouse() as conn:
        assert "mysql.connector" in type(conn).__module__
        other = Lab(conn)
        other.see(minute(0))
        other.publish({minute(0): [contribution()]}, rejects=[(minute(0), "größer als erlaubt")], ignored=9)
        assert other.pending() == []
        assert other.facts("bid_set") == {(7, 0): Decimal("0.5")}


def test_a_merge_uses_indexes_however_large_the_warehouse_is(lab: Lab) -> None:
    for number in range(20):
        past = [minute(-10 * number - offset) for offset in range(1, 11)]
        contributions = {at: [contribution(job, hours=number) for job in range(1, 21)] for at in past}
        lab.publish(contributions, run_id=f"past-{number}", rejects=[(at, "bid is negative") for at in past])
    batch_id = lab.open(minute(0), minute(1))
    attempt = lab.stage(batch_id, {minute(0): [contribution()], minute(1): [contribution()]})
    binds = {"pipeline": "recruitment", "batch_id": batch_id, "attempt": attempt}
    binds |= {"settle_microseconds": 1, "oldest_kept_batch": 0, "ahead_microseconds": 1, "set_options": None}
    now = lab.one("SELECT CURRENT_TIMESTAMP(6)")
    binds["oldest_kept_freshness"] = now - 7 * 86_400 * SECOND
    week = [now - 60 * number * SECOND for number in range(10_090)]
    lab.conn.cursor().executemany(
        "INSERT INTO etl.freshness (pipeline, published_at, newest_create_time) VALUES ('recruitment', %s, %s)",
        [(time, time) for time in week],
    )
    cursor = lab.conn.cursor()
    for file in (*files(lab.pipeline, "merge.sql"), *control("merge.sql")):
        for statement in file.statements:
            steps = rows(cursor, f"EXPLAIN FORMAT=TRADITIONAL {statement}", binds)
            scans = [
                step for step in steps if step["type"] in ("ALL", "index") and not str(step["table"]).startswith("<")
            ]
            assert not [step for step in scans if int(step["rows"] or 0) > 50], f"{statement}\n{steps}"
            cursor.execute(statement, binds)


def test_the_ledger_keeps_the_options_that_a_minute_was_read_with(lab: Lab) -> None:
    lab.publish({minute(0): [contribution()]}, run_id="scheduled")
    assert lab.ledger(minute(0))["set_options"] is None, "Default options are not stored."
    batch_id = lab.open(minute(0), run_id="manual", options={"recover": False}, allow_shrink=True)
    lab.stage(batch_id, {minute(0): [contribution()]})
    assert lab.check(batch_id).passed
    merge.merge(batch_id)
    assert json.loads(lab.ledger(minute(0))["set_options"]) == {"allow_shrink": True, "recover": False}
    lab.publish({minute(0): [contribution()]}, run_id="again")
    assert lab.ledger(minute(0))["set_options"] is None
