"""The faults. Each waits for its moment, injects the fault, and leaves the verdict to System.must_be_right."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from include.kafka.ingest import consume
from include.lake import keys
from include.lake.session import lake
from include.operations.held import accept_drift
from include.pipelines import Pipeline
from local import supervisor
from tests.e2e import runs
from tests.faults import backups, disk
from tests.faults.system import BACK_WITHIN, RECRUITMENT, SHOP, CannotInject, GuaranteeBroken, System, meanwhile, now


@dataclass(frozen=True)
class Scenario:
    """One fault; `checks` summarizes what it checks in addition to System.must_be_right."""

    name: str
    checks: str
    do: Callable[[System], None]


SCENARIOS: dict[str, Scenario] = {}


def scenario(checks: str = "", registry: dict[str, Scenario] = SCENARIOS) -> Callable:
    def register(do: Callable[[System], None]) -> Callable:
        registry[do.__name__] = Scenario(do.__name__, checks, do)
        return do

    return register


# Spark driver


@scenario()
def driver_killed_while_it_starts(system: System) -> None:
    for driver in system.kill_drivers():
        driver.wait(10)
    system.send(system.events(200))
    run = system.trigger()
    killed, driver = system.driver_of_transform()
    driver.kill()
    must_succeed(system, killed)
    must_succeed(system, run)


@scenario()
def driver_killed_before_it_stages(system: System) -> None:
    _kill_driver_at(system, "recruitment.events_staged")


@scenario()
def driver_killed_between_contributions_and_counts(system: System) -> None:
    _kill_driver_at(system, "etl.staged_counts")


@scenario()
def driver_killed_after_the_counts(system: System) -> None:
    system.send(system.events(200))
    run = system.trigger()
    system.until(lambda: runs.count("etl.staged_counts"), "counts in staging", every=0.002)
    system.kill_drivers()
    must_succeed(system, run)


def _kill_driver_at(system: System, table: str) -> None:
    system.send(system.events(200))
    with system.locked(f"LOCK TABLES {table} WRITE"):
        run = system.trigger()
        system.session_of_etl(table)
        if not system.kill_drivers():
            raise GuaranteeBroken("there was no Spark driver to kill")
    must_succeed(system, run)


# Backups that are restored after newer events


@scenario(
    "minutes merged after the dump are merged again, and messages that ingest has since rejected are rejected again"
)
def the_warehouse_is_restored_from_a_dump(system: System) -> None:
    early = system.events(200, at=now() - timedelta(hours=3))
    system.send(early)
    system.must_be_right()
    with _one_more_rejected():
        with backups.folder() as folder, system.quiet:
            backups.dump_warehouse(system, folder / "warehouse.sql")
            with system.followed_topic():
                system.send(system.events(200), by_topic=True)
                system.send_poison()
            system.correct({**early[0], "bid": "7.25"})  # in a minute that is in the dump
            system.visit_shop(50)
            system.must_be_right()
            with _idle_airflow(system):
                backups.restore_warehouse(system, folder / "warehouse.sql")
        consume(RECRUITMENT.name, again=True)


@scenario("events sent by topic after the copy come back, because the topic is read again")
def the_lake_is_restored_from_a_copy(system: System) -> None:
    with _restored_lake(system):
        system.send(system.events(300), by_topic=True)
        system.send(system.events(50, pipeline=SHOP), pipeline=SHOP, by_topic=True)


@scenario("60 minutes of events and a message that is not an event come back, because both topics are read again")
def both_stores_are_restored_from_backups(system: System) -> None:
    with _one_more_rejected(), _restored_lake(system, with_warehouse=True):
        for pipeline in (RECRUITMENT, SHOP):
            rows = system.events(3_000, spread=3600, pipeline=pipeline)
            system.send(rows, pipeline=pipeline, by_topic=True)
        system.send_poison()


@contextlib.contextmanager
def _restored_lake(system: System, *, with_warehouse: bool = False) -> Iterator[None]:
    """Follow both topics during the block; then restore the lake as it was before, and read the topics again."""
    system.send(system.events(200, at=now() - timedelta(hours=3)))
    system.must_be_right()
    with backups.folder() as folder, system.quiet:
        if with_warehouse:
            backups.dump_warehouse(system, folder / "warehouse.sql")
        backups.copy_lake(system, folder / "lake")
        with system.followed_topic(), system.followed_topic(SHOP):
            yield
        system.must_be_right()
        with _idle_airflow(system):
            if with_warehouse:
                backups.restore_warehouse(system, folder / "warehouse.sql")
            backups.restore_lake(system, folder / "lake")
            for pipeline in (RECRUITMENT, SHOP):
                consume(pipeline.name, again=True)


@contextlib.contextmanager
def _one_more_rejected() -> Iterator[None]:
    """Check that after the block there is one more rejected message than before."""
    messages = "etl.rejected_events WHERE origin = 'kafka'"
    before = runs.count(messages)
    yield
    if runs.count(messages) != before + 1:
        raise GuaranteeBroken("the message that is not an event is not among the rejected events")


@contextlib.contextmanager
def _idle_airflow(system: System) -> Iterator[None]:
    """Pause every DAG during the block, which starts when no task is active; a task may wait in the triggerer."""
    dags = [dag_id for dag_id, is_paused in system.airflow.dags().items() if not is_paused]
    for dag_id in dags:
        system.airflow.pause(dag_id)
    try:
        system.until(lambda: not any(map(system.has_active_task, dags)), "tasks to end", 120, every=1)
        yield
    finally:
        for dag_id in dags:
            system.airflow.unpause(dag_id)


# Merge


@scenario()
def merge_killed_before_its_first_change(system: System) -> None:
    _kill_merge(system, "SELECT * FROM etl.pipelines FOR UPDATE", "etl.pipelines WHERE")


@scenario()
def merge_killed_in_the_middle(system: System) -> None:
    _kill_merge(system, "LOCK TABLES recruitment.events WRITE", "recruitment.events", "metadata lock")


@scenario()
def merge_killed_after_its_commit(system: System) -> None:
    system.send(system.events(200))
    merged = runs.count("etl.batches WHERE state = 'merged'")
    with system.locked("SELECT * FROM etl.pipelines FOR UPDATE"):
        run = system.trigger()
        process = system.session_of_etl("etl.pipelines WHERE")
    system.until(lambda: runs.count("etl.batches WHERE state = 'merged'") > merged, "the commit", every=0.001)
    process.kill()
    must_succeed(system, run)


def _kill_merge(system: System, lock: str, text: str, state: str = "") -> None:
    system.send(system.events(200))
    with system.locked(lock):
        run = system.trigger()
        system.session_of_etl(text, state).kill()
    must_succeed(system, run)


@scenario("a zombie merge changes nothing when it resumes")
def task_suspended_beyond_its_heartbeat(system: System) -> None:
    system.send(system.events(200))
    with system.locked("SELECT * FROM etl.pipelines FOR UPDATE"):
        run = system.trigger()
        zombies = system.suspend(system.session_of_etl("etl.pipelines WHERE"))
    with zombies:
        system.wait_for_end(run)
    must_succeed(system, run)


# Airflow and stores


@scenario()
def scheduler_killed(system: System) -> None:
    _kill_program(system, "scheduler")


@scenario()
def api_server_killed(system: System) -> None:
    _kill_program(system, "api-server")


@scenario("a waiting sensor still wakes up")
def triggerer_killed(system: System) -> None:
    with system.quiet:
        system.must_be_right()
        run = system.waiting_run()
        system.kill("triggerer")
    system.send(system.events(100))
    system.wait_for_end(run)


@scenario()
def cassandra_killed_under_load(system: System) -> None:
    system.visit_shop(200)
    run = system.trigger()
    system.kill("cassandra")
    system.send(system.events(500))  # waits until Cassandra is back
    system.wait_for_end(run)


@scenario()
def warehouse_killed_under_load(system: System) -> None:
    system.send(system.events(500))
    system.visit_shop(200)
    run = system.trigger()
    system.kill(system.stack.warehouse)
    system.send(system.events(500))
    system.wait_for_end(run)


def _kill_program(system: System, name: str) -> None:
    system.send(system.events(200))
    system.visit_shop(200)
    run = system.trigger()
    system.until(lambda: runs.count("etl.batches WHERE state = 'open'"), "an open batch")
    system.kill(name)
    system.until(lambda: system.airflow.health() and True, "Airflow's answer", 120)
    system.wait_for_end(run)


@scenario("three minutes without a warehouse; events continue")
def warehouse_away_for_three_minutes(system: System) -> None:
    supervisor.stop(system.stack.warehouse)
    for _ in range(18):
        system.send(system.events(30))
        time.sleep(10)
    supervisor.start(system.stack.warehouse)
    system.until(lambda: runs.count("etl.batches") >= 0, "the warehouse", 60)


@scenario(
    "the warehouse's disk is full; the batch that does not fit is merged once there is space; a waiting commit is killed"
)
def disk_of_the_warehouse_full(system: System) -> None:
    if not disk.is_small(system.warehouse_data):
        raise CannotInject("it requires root with permission to mount a file system")
    large = {"ev": "2", "custom_track": "click", "job_id": "900001", "bid": "-1", "ed": "x" * 1_000_000}
    rows = system.events(200)
    server = system.program(system.stack.warehouse)
    with disk.full(system.warehouse_data):
        system.send([*rows, *({**row, **large} for row in system.events(40))])
        run = system.trigger()
        # InnoDB aborts if it lacks the space even for a rollback. With a binary log, MariaDB waits instead.
        system.until(
            lambda: not server.is_running() or system.has_failed_try(run) or _sessions_waiting_for_space(system),
            "a failure",
            120,
        )
    system.until(lambda: runs.count("etl.batches") >= 0, "the warehouse", 120)
    for session in _sessions_waiting_for_space(system):  # docs/operations.md: MariaDB may not notice the free space
        with system.admin() as cursor:
            cursor.execute("KILL %s", (session,))
    system.wait_for_end(run)


def _sessions_waiting_for_space(system: System) -> list[int]:
    """Ids of the warehouse's sessions that wait until the disk has space."""
    with system.admin() as cursor:
        cursor.execute("SHOW PROCESSLIST")  # a SELECT from information_schema would need space for a temporary table
        return [session for session, *rest in cursor.fetchall() if "Waiting for someone to free space" in rest]


# Ingest from the topic


@scenario("events that producers could not send arrive later, once")
def broker_killed_under_load(system: System) -> None:
    with system.followed_topic():
        system.send(system.events(300), by_topic=True)
        system.follower()
        system.kill("kafka")
        system.send(system.events(300), by_topic=True)  # waits until the broker is back


@scenario("uncommitted messages are read again and give the same rows; some messages are not events")
def followers_killed_under_load(system: System) -> None:
    with system.followed_topic(), meanwhile(0.5, lambda: system.send(system.events(50), by_topic=True)):
        for _ in range(2):
            system.send_poison()
            follower = system.follower()
            follower.kill()
            system.until(lambda killed=follower: not killed.is_running(), "the follower's end")
        system.follower()


@scenario("no offset is committed before the lake has its event")
def cassandra_killed_while_a_topic_is_followed(system: System) -> None:
    with system.followed_topic(), meanwhile(0.5, lambda: system.send(system.events(50), by_topic=True)):
        system.follower()
        system.kill("cassandra")
        system.send(system.events(1))  # waits until Cassandra is back
        system.follower()


@scenario("a correction that the follower's successor wrote stays when the follower resumes with the older version")
def a_follower_suspended_between_reading_and_writing(system: System) -> None:
    with system.followed_topic():
        system.send(system.events(50), by_topic=True)
        follower = system.lone_follower()
        first, corrected = system.events(1), {"ev": "2", "custom_track": "click", "job_id": "900002", "bid": "2"}
        system.send([{**first[0], **corrected, "bid": "1"}], by_topic=True)
        time.sleep(0.2)  # the follower has the message, and gathers others for half a second
        with system.suspend(follower):
            system.correct({**first[0], **corrected}, by_topic=True)
            system.until(system.topic_is_consumed, "the successor to consume the correction", BACK_WITHIN)


@scenario("the lost messages are among the rejected events, with partition, offset and count")
def retention_overtakes_a_running_follower(system: System) -> None:
    with system.followed_topic():
        system.send(system.events(50), by_topic=True)
        follower = system.lone_follower()
        system.until(system.topic_is_consumed, "the topic to be consumed")
        with system.suspend(follower):
            system.send_and_remove(30)
            system.send(system.events(50), by_topic=True)
    lost = runs.query("SELECT reason FROM etl.rejected_events WHERE reason LIKE '%%retention%%' ORDER BY rejected_id")
    if not lost or ": 30 from offset" not in lost[-1][0]:
        raise GuaranteeBroken(f"for 30 messages that were removed unread, the rejected events have {lost}")


@scenario("an event in a partition beyond the shards is in the lake within two minutes, in the shard of its id")
def a_topic_that_gains_partitions(system: System) -> None:
    with system.followed_topic():
        system.send(system.events(20), by_topic=True)
        system.follower()
        partition = system.add_partition()
        system.send(system.events(20), by_topic=True, partition=partition)
        system.until(system.topic_is_consumed, f"partition {partition} to be read", 120)


@scenario("poison waits in the dead-letter topic, and stops no event")
def poison_while_the_warehouse_is_away(system: System) -> None:
    with system.followed_topic():
        system.follower()
        supervisor.stop(system.stack.warehouse)
        try:
            system.send_poison()
            rows = system.events(20)
            system.send(rows, by_topic=True)
            system.until(lambda: system.are_in_lake(rows), "the events after the poison to be in the lake", 120)
        finally:
            supervisor.start(system.stack.warehouse)
        system.until(lambda: runs.count("etl.batches") >= 0, "the warehouse", 60)
        system.until(system.dead_letters_are_consumed, "the dead letter to be kept", BACK_WITHIN)


# All writers at once


@scenario(
    "a backfill, a reconcile backfill, a manual run, an import of jobs and live runs on the same minutes and facts"
)
def all_writers_on_the_same_minutes(system: System) -> None:
    hour = now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    for minute in range(6):
        system.send(system.events(100, at=hour + timedelta(minutes=minute, seconds=59)))
    system.must_be_right()
    backfills = [
        system.airflow.backfill("recruitment_minute", hour, hour + timedelta(minutes=3)),
        system.airflow.backfill("recruitment_reconcile", hour, hour),
    ]
    manual = system.trigger(**{"from": runs.text(hour), "to": runs.text(hour + timedelta(minutes=6))})
    system.change_jobs()
    for minute in range(6):  # late events of the same fact keys, some in other minutes
        late = system.events(30, at=hour + timedelta(minutes=minute, seconds=30))
        system.send([*late[:15], *({**row, "create_time": system.event_id(now())} for row in late[15:])])
    system.wait_for_end(manual)
    for backfill in backfills:
        system.until(lambda id_=backfill: system.airflow.backfill_is_over(id_), f"backfill {backfill}", 240, every=1)


@scenario("the newer version, which a live run published after the zombie had read an older one, stays")
def a_zombie_on_the_minutes_of_live_runs(system: System) -> None:
    minute = now().replace(second=0, microsecond=0) - timedelta(hours=2, minutes=30)
    system.send(system.events(100, at=minute + timedelta(seconds=59)))
    system.must_be_right()
    span = {"from": runs.text(minute), "to": runs.text(minute + timedelta(minutes=1))}
    with system.locked("SELECT * FROM etl.pipelines FOR UPDATE"):
        zombie_run = system.trigger(dag_id="recruitment_reconcile", **span)
        zombies = system.suspend(system.session_of_etl("etl.pipelines WHERE"))
    with zombies:
        system.send(system.events(50, at=minute + timedelta(seconds=30)))
        read_later = f"etl.minute_ledger WHERE minute = '{minute}' AND raw_rows >= 150"
        system.until(lambda: runs.count(read_later), f"a live run to publish {minute} again", BACK_WITHIN, every=0.5)
    system.wait_for_end(zombie_run)


# Events


@scenario()
def events_one_second_ten_minutes_and_three_hours_late(system: System) -> None:
    system.send(system.events(100))
    system.run()
    for lag in (timedelta(seconds=1), timedelta(minutes=10), timedelta(hours=3)):
        system.send(system.events(20, at=now() - lag))


@scenario()
def a_thousand_events_of_one_instant_across_a_batch_boundary(system: System) -> None:
    instant = now()
    rows = system.events(1_000, at=instant, spread=0.0)
    system.send(rows[:500])
    run = system.trigger()
    system.send(rows[500:])
    system.wait_for_end(run)


@scenario("events more than a day ahead are rejected, the others counted")
def writers_whose_clocks_are_wrong(system: System) -> None:
    for at in (now() - timedelta(minutes=5), now() + timedelta(minutes=5)):
        system.send(system.events(50, at=at))
    system.send(system.events(5, at=now().replace(year=2099, month=6, day=1)))


@scenario()
def three_in_ten_events_twice_and_out_of_order(system: System) -> None:
    rows = system.events(500)
    again = [row for row in rows if system.rng.random() < 0.3]
    shuffled = rows + again
    system.rng.shuffle(shuffled)
    system.send(shuffled[:300])
    system.run()
    system.send(shuffled[300:])


@scenario("each broken row is rejected with a reason, or its values are used as they are")
def broken_rows_of_many_kinds(system: System) -> None:
    odd = [
        {"ts": "yesterday"},
        {"ts": "2022-02-30 10:00:00"},
        {"job_id": "job-17"},
        {"job_id": "9" * 40},
        {"bid": "-1"},
        {"bid": "NaN"},
        {"bid": "1e-2000000000"},
        {"bid": "9" * 25},
        {"custom_track": "'; DROP TABLE recruitment.events; --"},
        {"ed": '{"jobId": '},
        {"uid": "\x00nul"},
        {"dt": "😀" * 50, "job_id": "😀"},
        {"ed": "x" * 1_000_000, "bid": "-2"},
    ]
    at = now()  # one minute: a minute of broken rows alone would wait for its hour
    rows = system.events(200, at=at, spread=0)
    base = {"ev": "2", "custom_track": "click", "job_id": "900001", "ts": f"{at:%Y-%m-%d %H:%M:%S}"}
    system.send([*rows, *({**base, "create_time": system.event_id(at), **change} for change in odd)])


@scenario("an undeclared field is kept and changes no fact")
def a_new_field_in_the_events(system: System) -> None:
    system.send([{**row, "novelty": "x"} for row in system.events(100)])
    system.run()


@scenario(
    "by topic and by file: only these minutes are held, the reason names the field, and an acceptance publishes them"
)
def a_producer_renames_a_field(system: System) -> None:
    def renamed(row: dict) -> dict:
        return {"jobId" if name == "job_id" else name: value for name, value in row.items()}

    _drift(system, renamed, "staging_field_disappeared: job_id is in none of")
    _accept(system, "job_id")
    if runs.count("etl.drifts WHERE kind = 'appeared' AND field = 'jobId'") < 1:
        raise GuaranteeBroken("the new name is not on record")


@scenario(
    "by topic and by file: only these minutes are held, the reason names the field, and fixed events publish them"
)
def a_producer_drops_a_field(system: System) -> None:
    def without(row: dict) -> dict:
        return {name: value for name, value in row.items() if name != "campaign_id"}

    drifted = _drift(system, without, "staging_field_disappeared: campaign_id is in none of")
    with system.followed_topic():
        for good, sent in drifted:
            system.replace(sent, good)


@scenario("by topic and by file: minutes whose values would count as 0 are held; an acceptance publishes them")
def a_producer_changes_a_type(system: System) -> None:
    def retyped(row: dict) -> dict:
        return {**row, "publisher_id": f"p-{row['publisher_id']}"} if row.get("publisher_id") else row

    _drift(system, retyped, r"staging_field_unreadable: \d+ of \d+ values of publisher_id are not numbers")
    _accept(system, "publisher_id")


@scenario("by topic and by file: the field is reported once, and the minutes are published")
def a_producer_adds_a_field(system: System) -> None:
    name = f"added{system.rng.getrandbits(40):x}"
    day = system.other_day()
    with system.followed_topic():
        system.send([{**row, name: "x"} for row in system.events(150, at=day)], by_topic=True)
        system.send([{**row, name: "x"} for row in system.events(150, at=day + timedelta(minutes=5))], by_file=True)
    system.must_be_right()
    if (known := runs.count(f"etl.drifts WHERE kind = 'appeared' AND field = '{name}'")) != 1:
        raise GuaranteeBroken(f"the field is on record {known} times")
    warned = (
        f"etl.check_results WHERE check_name = 'staging_new_field' AND outcome = 'warn' AND LOCATE('{name}', sample)"
    )
    if (warnings := runs.count(warned)) != 1:
        raise GuaranteeBroken(f"{warnings} warnings name the field")


@scenario(
    "by topic and by file, to a shop that holds undeclared fields: only these minutes are held; an acceptance publishes them"
)
def a_producer_adds_a_field_that_is_held(system: System) -> None:
    name, day = f"added{system.rng.getrandbits(40):x}", system.other_day()
    with system.followed_topic(SHOP):
        for at, route in ((0, {"by_topic": True}), (10, {"by_file": True})):
            first, *others = system.events(20, at=day + timedelta(minutes=at), pipeline=SHOP)
            system.send([{**first, name: "x"}, *others], pipeline=SHOP, **route)
            system.send(system.events(20, at=day + timedelta(minutes=at + 5), pipeline=SHOP), pipeline=SHOP, **route)
    _must_hold_two(system, SHOP, day, merged=2, reason=f"staging_unknown_field: {name} is not declared, and 1 rows")
    _accept(system, name, SHOP)
    system.send(
        [{**row, name: "y"} for row in system.events(20, at=day + timedelta(minutes=20), pipeline=SHOP)], pipeline=SHOP
    )


def _drift(system: System, changed: Callable[[dict], dict], reason: str) -> list[tuple[list[dict], list[dict]]]:
    """Send changed events, of one minute by topic and of another by file, among good minutes.

    Check that only these two are held, for that reason. Returns the events of each: unchanged, and as they were sent.
    """
    day = system.other_day()
    for at in range(4):
        system.send(system.events(200, at=day + timedelta(minutes=at)))
    system.must_be_right()
    drifted = []
    with system.followed_topic():
        for at, route in ((10, {"by_topic": True}), (20, {"by_file": True})):
            good = system.events(200, at=day + timedelta(minutes=at))
            sent = [changed(row) for row in good]
            drifted.append((good, sent))
            system.send(sent, **route)
            system.send(system.events(200, at=day + timedelta(minutes=at + 5)), **route)
    _must_hold_two(system, RECRUITMENT, day, merged=6, reason=reason)
    return drifted


def _must_hold_two(system: System, pipeline: Pipeline, day: datetime, *, merged: int, reason: str) -> None:
    """Check that two minutes of the hour of `day` are held and `merged` are merged.

    The reason for the hold must match the regular expression `reason` from its start.
    """
    hour = (
        f"pipeline = '{pipeline.name}' AND minute >= '{day:%Y-%m-%d %H}:00' "
        f"AND minute < '{day + timedelta(hours=1):%Y-%m-%d %H}:00'"
    )
    held, published = (f"etl.minute_ledger WHERE state = '{state}' AND {hour}" for state in ("held", "merged"))

    def is_held() -> bool:
        system.run(dag_id=f"{pipeline.name}_minute")
        return runs.count(held) == 2 and runs.count(published) == merged

    system.until(is_held, "two minutes to be held, and their neighbors to be merged", BACK_WITHIN)
    for minute, why in runs.query(f"SELECT minute, reason FROM {held}"):
        if not re.match(reason, why):
            raise GuaranteeBroken(f"{minute} is held because of {why!r}")


def _accept(system: System, field: str, pipeline: Pipeline = RECRUITMENT) -> None:
    done = accept_drift(pipeline.name, field, None, user="fault injection", why="on purpose")
    if done.minutes != 2:
        raise GuaranteeBroken(f"the acceptance makes {done.minutes} minutes pending, not 2")
    system.run(dag_id=f"{pipeline.name}_minute")


@scenario("the batch fails and names the missing column; afterwards nothing is lost")
def a_lake_table_of_another_layout(system: System) -> None:
    rows = system.events(50)
    system.send(rows)
    with lake("lake_admin") as session:
        session.execute("ALTER TABLE bedan.tracking RENAME create_time TO created")
    try:
        if (state := system.wait_for_end(system.trigger(), 240)) != "failed":
            raise GuaranteeBroken(f"a run without the column ended as {state}")
        text = runs.query("SELECT reason FROM etl.batches WHERE reason IS NOT NULL ORDER BY batch_id DESC LIMIT 1")
        if "lacks create_time" not in text[0][0]:
            raise GuaranteeBroken(f"the batch's reason is {text[0][0]!r}")
    finally:
        with lake("lake_admin") as session:
            session.execute("ALTER TABLE bedan.tracking RENAME created TO create_time")


@scenario("two hours of minutes become pending while no run starts")
def a_backlog_of_two_hours(system: System) -> None:
    with system.paused():
        for minute in range(120):
            system.send(system.events(20, at=now() - timedelta(hours=5, minutes=minute), spread=20))
        system.send(system.events(50))
    system.run()


@scenario("the minute that lost a row is held, and others are published; once the row is back, the minute is published")
def a_minute_that_fails_its_gate_among_good_ones(system: System) -> None:
    rows = system.events(30, at=now() - timedelta(hours=7), spread=0.5)
    system.send(rows)
    system.must_be_right()
    system.drop_from_lake(rows[0])
    system.send(system.events(50))
    system.run()
    held = runs.query("SELECT reason FROM etl.minute_ledger WHERE state = 'held'")
    if len(held) != 1 or "shrink" not in held[0][0]:
        raise GuaranteeBroken(f"held minutes are {held}")
    system.send(rows[:1])


@scenario("the minute is split off and held while others continue; after its next touch it is published")
def a_minute_that_kills_the_spark_job(system: System) -> None:
    rows = system.events(30, at=now() - timedelta(hours=6), spread=0.5)
    minute = keys.minute_of(runs.as_events(rows[:1])[0].create_time)
    other = system.events(10, at=now() - timedelta(hours=6, minutes=5), spread=0.5)
    other_minute = keys.minute_of(runs.as_events(other[:1])[0].create_time)
    with system.driver_killed_whenever_it_reads(minute):
        system.send([*rows, *other])

        def is_held() -> bool:
            system.run()
            expected = f"(minute = '{minute}' AND state = 'held') OR (minute = '{other_minute}' AND state = 'merged')"
            return runs.count(f"etl.minute_ledger WHERE {expected}") == 2

        system.until(is_held, f"minute {minute} to be held, and {other_minute} to be merged", 420)
    if (held := runs.count("etl.minute_ledger WHERE state = 'held'")) != 1:
        raise GuaranteeBroken(f"{held} minutes are held")
    system.send(rows)


def must_succeed(system: System, run_id: str) -> None:
    """Check that the run itself succeeds, after retries if necessary."""
    if (state := system.wait_for_end(run_id)) != "success":
        raise GuaranteeBroken(f"the run ended as {state}")
