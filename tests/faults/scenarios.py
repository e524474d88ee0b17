"""The faults. Each waits for its moment, injects the fault, and leaves the verdict to World.must_be_right."""

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
from tests.faults.world import BACK_WITHIN, RECRUITMENT, SHOP, Broken, CannotInject, World, meanwhile, now


@dataclass(frozen=True)
class Scenario:
    """One fault; `checks` summarizes what it checks in addition to World.must_be_right."""

    name: str
    checks: str
    do: Callable[[World], None]


SCENARIOS: dict[str, Scenario] = {}


def scenario(checks: str = "", registry: dict[str, Scenario] = SCENARIOS) -> Callable:
    def register(do: Callable[[World], None]) -> Callable:
        registry[do.__name__] = Scenario(do.__name__, checks, do)
        return do

    return register


# Spark driver


@scenario()
def driver_killed_while_it_starts(world: World) -> None:
    for driver in world.kill_drivers():
        driver.wait(10)
    world.send(world.events(200))
    run = world.trigger()
    killed, driver = world.driver_of_transform()
    driver.kill()
    must_succeed(world, killed)
    must_succeed(world, run)


@scenario()
def driver_killed_before_it_stages(world: World) -> None:
    _kill_driver_at(world, "recruitment.events_staged")


@scenario()
def driver_killed_between_contributions_and_counts(world: World) -> None:
    _kill_driver_at(world, "etl.staged_counts")


@scenario()
def driver_killed_after_the_counts(world: World) -> None:
    world.send(world.events(200))
    run = world.trigger()
    world.until(lambda: runs.count("etl.staged_counts"), "counts in staging", every=0.002)
    world.kill_drivers()
    must_succeed(world, run)


def _kill_driver_at(world: World, table: str) -> None:
    world.send(world.events(200))
    with world.locked(f"LOCK TABLES {table} WRITE"):
        run = world.trigger()
        world.session_of_etl(table)
        if not world.kill_drivers():
            raise Broken("there was no Spark driver to kill")
    must_succeed(world, run)


# Backups that are restored after newer events


@scenario(
    "minutes merged after the dump are merged again, and messages that ingest has since rejected are rejected again"
)
def the_warehouse_is_restored_from_a_dump(world: World) -> None:
    early = world.events(200, at=now() - timedelta(hours=3))
    world.send(early)
    world.must_be_right()
    with _one_more_rejected():
        with backups.folder() as folder, world.quiet:
            backups.dump_warehouse(world, folder / "warehouse.sql")
            with world.followed_topic():
                world.send(world.events(200), by_topic=True)
                world.send_poison()
            world.correct({**early[0], "bid": "7.25"})  # in a minute that is in the dump
            world.visit_shop(50)
            world.must_be_right()
            with _idle_airflow(world):
                backups.restore_warehouse(world, folder / "warehouse.sql")
        consume(RECRUITMENT.name, again=True)


@scenario("events sent by topic after the copy come back, because the topic is read again")
def the_lake_is_restored_from_a_copy(world: World) -> None:
    with _restored_lake(world):
        world.send(world.events(300), by_topic=True)
        world.send(world.events(50, pipeline=SHOP), pipeline=SHOP, by_topic=True)


@scenario("60 minutes of events and a message that is not an event come back, because both topics are read again")
def both_stores_are_restored_from_backups(world: World) -> None:
    with _one_more_rejected(), _restored_lake(world, with_warehouse=True):
        for pipeline in (RECRUITMENT, SHOP):
            rows = world.events(3_000, spread=3600, pipeline=pipeline)
            world.send(rows, pipeline=pipeline, by_topic=True)
        world.send_poison()


@contextlib.contextmanager
def _restored_lake(world: World, *, with_warehouse: bool = False) -> Iterator[None]:
    """Follow both topics during the block; then restore the lake as it was before, and read the topics again."""
    world.send(world.events(200, at=now() - timedelta(hours=3)))
    world.must_be_right()
    with backups.folder() as folder, world.quiet:
        if with_warehouse:
            backups.dump_warehouse(world, folder / "warehouse.sql")
        backups.copy_lake(world, folder / "lake")
        with world.followed_topic(), world.followed_topic(SHOP):
            yield
        world.must_be_right()
        with _idle_airflow(world):
            if with_warehouse:
                backups.restore_warehouse(world, folder / "warehouse.sql")
            backups.restore_lake(world, folder / "lake")
            for pipeline in (RECRUITMENT, SHOP):
                consume(pipeline.name, again=True)


@contextlib.contextmanager
def _one_more_rejected() -> Iterator[None]:
    """Check that after the block there is one more rejected message than before."""
    messages = "etl.rejected_events WHERE origin = 'kafka'"
    before = runs.count(messages)
    yield
    if runs.count(messages) != before + 1:
        raise Broken("the message that is not an event is not among the rejected events")


@contextlib.contextmanager
def _idle_airflow(world: World) -> Iterator[None]:
    """Pause every DAG during the block, which starts when no task is active; a task may wait in the triggerer."""
    dags = [dag_id for dag_id, is_paused in world.airflow.dags().items() if not is_paused]
    for dag_id in dags:
        world.airflow.pause(dag_id)
    try:
        world.until(lambda: not any(map(world.has_active_task, dags)), "tasks to end", 120, every=1)
        yield
    finally:
        for dag_id in dags:
            world.airflow.unpause(dag_id)


# Merge


@scenario()
def merge_killed_before_its_first_change(world: World) -> None:
    _kill_merge(world, "SELECT * FROM etl.pipelines FOR UPDATE", "etl.pipelines WHERE")


@scenario()
def merge_killed_in_the_middle(world: World) -> None:
    _kill_merge(world, "LOCK TABLES recruitment.events WRITE", "recruitment.events", "metadata lock")


@scenario()
def merge_killed_after_its_commit(world: World) -> None:
    world.send(world.events(200))
    merged = runs.count("etl.batches WHERE state = 'merged'")
    with world.locked("SELECT * FROM etl.pipelines FOR UPDATE"):
        run = world.trigger()
        process = world.session_of_etl("etl.pipelines WHERE")
    world.until(lambda: runs.count("etl.batches WHERE state = 'merged'") > merged, "the commit", every=0.001)
    process.kill()
    must_succeed(world, run)


def _kill_merge(world: World, lock: str, text: str, state: str = "") -> None:
    world.send(world.events(200))
    with world.locked(lock):
        run = world.trigger()
        world.session_of_etl(text, state).kill()
    must_succeed(world, run)


@scenario("a zombie merge changes nothing when it resumes")
def task_suspended_beyond_its_heartbeat(world: World) -> None:
    world.send(world.events(200))
    with world.locked("SELECT * FROM etl.pipelines FOR UPDATE"):
        run = world.trigger()
        zombies = world.suspend(world.session_of_etl("etl.pipelines WHERE"))
    with zombies:
        world.wait_for_end(run)
    must_succeed(world, run)


# Airflow and stores


@scenario()
def scheduler_killed(world: World) -> None:
    _kill_program(world, "scheduler")


@scenario()
def api_server_killed(world: World) -> None:
    _kill_program(world, "api-server")


@scenario("a waiting sensor still wakes up")
def triggerer_killed(world: World) -> None:
    with world.quiet:
        world.must_be_right()
        run = world.waiting_run()
        world.kill("triggerer")
    world.send(world.events(100))
    world.wait_for_end(run)


@scenario()
def cassandra_killed_under_load(world: World) -> None:
    world.visit_shop(200)
    run = world.trigger()
    world.kill("cassandra")
    world.send(world.events(500))  # waits until Cassandra is back
    world.wait_for_end(run)


@scenario()
def warehouse_killed_under_load(world: World) -> None:
    world.send(world.events(500))
    world.visit_shop(200)
    run = world.trigger()
    world.kill(world.stack.warehouse)
    world.send(world.events(500))
    world.wait_for_end(run)


def _kill_program(world: World, name: str) -> None:
    world.send(world.events(200))
    world.visit_shop(200)
    run = world.trigger()
    world.until(lambda: runs.count("etl.batches WHERE state = 'open'"), "an open batch")
    world.kill(name)
    world.until(lambda: world.airflow.health() and True, "Airflow's answer", 120)
    world.wait_for_end(run)


@scenario("three minutes without a warehouse; events continue")
def warehouse_away_for_three_minutes(world: World) -> None:
    supervisor.stop(world.stack.warehouse)
    for _ in range(18):
        world.send(world.events(30))
        time.sleep(10)
    supervisor.start(world.stack.warehouse)
    world.until(lambda: runs.count("etl.batches") >= 0, "the warehouse", 60)


@scenario(
    "the warehouse's disk is full; the batch that does not fit is merged once there is space; a waiting commit is killed"
)
def disk_of_the_warehouse_full(world: World) -> None:
    if not disk.is_small(world.warehouse_data):
        raise CannotInject("it requires root with permission to mount a file system")
    large = {"ev": "2", "custom_track": "click", "job_id": "900001", "bid": "-1", "ed": "x" * 1_000_000}
    rows = world.events(200)
    server = world.program(world.stack.warehouse)
    with disk.full(world.warehouse_data):
        world.send([*rows, *({**row, **large} for row in world.events(40))])
        run = world.trigger()
        # InnoDB aborts if there is no space even for a rollback. With a binary log, MariaDB waits instead.
        world.until(
            lambda: not server.is_running() or world.has_failed_try(run) or _sessions_waiting_for_space(world),
            "a failure",
            120,
        )
    world.until(lambda: runs.count("etl.batches") >= 0, "the warehouse", 120)
    for session in _sessions_waiting_for_space(world):  # docs/operations.md: MariaDB may not notice the free space
        with world.admin() as cursor:
            cursor.execute("KILL %s", (session,))
    world.wait_for_end(run)


def _sessions_waiting_for_space(world: World) -> list[int]:
    """Ids of the warehouse's sessions that wait until the disk has space."""
    with world.admin() as cursor:
        cursor.execute("SHOW PROCESSLIST")  # a SELECT from information_schema would need space for a temporary table
        return [session for session, *rest in cursor.fetchall() if "Waiting for someone to free space" in rest]


# Ingest from the topic


@scenario("events that producers could not send arrive later, once")
def broker_killed_under_load(world: World) -> None:
    with world.followed_topic():
        world.send(world.events(300), by_topic=True)
        world.follower()
        world.kill("kafka")
        world.send(world.events(300), by_topic=True)  # waits until the broker is back


@scenario("uncommitted messages are read again and give the same rows; some messages are not events")
def followers_killed_under_load(world: World) -> None:
    with world.followed_topic(), meanwhile(0.5, lambda: world.send(world.events(50), by_topic=True)):
        for _ in range(2):
            world.send_poison()
            follower = world.follower()
            follower.kill()
            world.until(lambda killed=follower: not killed.is_running(), "the follower's end")
        world.follower()


@scenario("no offset is committed before the lake has its event")
def cassandra_killed_while_a_topic_is_followed(world: World) -> None:
    with world.followed_topic(), meanwhile(0.5, lambda: world.send(world.events(50), by_topic=True)):
        world.follower()
        world.kill("cassandra")
        world.send(world.events(1))  # waits until Cassandra is back
        world.follower()


@scenario("a correction that the follower's successor wrote stays when the follower resumes with the older version")
def a_follower_suspended_between_reading_and_writing(world: World) -> None:
    with world.followed_topic():
        world.send(world.events(50), by_topic=True)
        follower = world.lone_follower()
        first, corrected = world.events(1), {"ev": "2", "custom_track": "click", "job_id": "900002", "bid": "2"}
        world.send([{**first[0], **corrected, "bid": "1"}], by_topic=True)
        time.sleep(0.2)  # the follower has the message, and gathers others for half a second
        with world.suspend(follower):
            world.correct({**first[0], **corrected}, by_topic=True)
            world.until(world.topic_is_consumed, "the successor to consume the correction", BACK_WITHIN)


@scenario("the lost messages are among the rejected events, with partition, offset and count")
def retention_overtakes_a_running_follower(world: World) -> None:
    with world.followed_topic():
        world.send(world.events(50), by_topic=True)
        follower = world.lone_follower()
        world.until(world.topic_is_consumed, "the topic to be consumed")
        with world.suspend(follower):
            world.send_and_remove(30)
            world.send(world.events(50), by_topic=True)
    lost = runs.query("SELECT reason FROM etl.rejected_events WHERE reason LIKE '%%retention%%' ORDER BY rejected_id")
    if not lost or ": 30 from offset" not in lost[-1][0]:
        raise Broken(f"for 30 messages that were removed unread, the rejected events have {lost}")


@scenario("an event in a partition beyond the shards is in the lake within two minutes, in the shard of its id")
def a_topic_that_gains_partitions(world: World) -> None:
    with world.followed_topic():
        world.send(world.events(20), by_topic=True)
        world.follower()
        partition = world.add_partition()
        world.send(world.events(20), by_topic=True, partition=partition)
        world.until(world.topic_is_consumed, f"partition {partition} to be read", 120)


@scenario("poison waits in the dead-letter topic, and stops no event")
def poison_while_the_warehouse_is_away(world: World) -> None:
    with world.followed_topic():
        world.follower()
        supervisor.stop(world.stack.warehouse)
        try:
            world.send_poison()
            rows = world.events(20)
            world.send(rows, by_topic=True)
            world.until(lambda: world.are_in_lake(rows), "the events after the poison to be in the lake", 120)
        finally:
            supervisor.start(world.stack.warehouse)
        world.until(lambda: runs.count("etl.batches") >= 0, "the warehouse", 60)
        world.until(world.dead_letters_are_consumed, "the dead letter to be kept", BACK_WITHIN)


# All writers at once


@scenario(
    "a backfill, a reconcile backfill, a manual run, an import of jobs and live runs on the same minutes and facts"
)
def everybody_on_the_same_minutes(world: World) -> None:
    hour = now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    for minute in range(6):
        world.send(world.events(100, at=hour + timedelta(minutes=minute, seconds=59)))
    world.must_be_right()
    backfills = [
        world.airflow.backfill("recruitment_minute", hour, hour + timedelta(minutes=3)),
        world.airflow.backfill("recruitment_reconcile", hour, hour),
    ]
    manual = world.trigger(**{"from": runs.text(hour), "to": runs.text(hour + timedelta(minutes=6))})
    world.change_jobs()
    for minute in range(6):  # late events of the same fact keys, some in other minutes
        late = world.events(30, at=hour + timedelta(minutes=minute, seconds=30))
        world.send([*late[:15], *({**row, "create_time": world.event_id(now())} for row in late[15:])])
    world.wait_for_end(manual)
    for backfill in backfills:
        world.until(lambda id_=backfill: world.airflow.backfill_is_over(id_), f"backfill {backfill}", 240, every=1)


@scenario("the newer version, which a live run published after the zombie had read an older one, stays")
def a_zombie_on_the_minutes_of_live_runs(world: World) -> None:
    minute = now().replace(second=0, microsecond=0) - timedelta(hours=2, minutes=30)
    world.send(world.events(100, at=minute + timedelta(seconds=59)))
    world.must_be_right()
    span = {"from": runs.text(minute), "to": runs.text(minute + timedelta(minutes=1))}
    with world.locked("SELECT * FROM etl.pipelines FOR UPDATE"):
        zombie_run = world.trigger(dag_id="recruitment_reconcile", **span)
        zombies = world.suspend(world.session_of_etl("etl.pipelines WHERE"))
    with zombies:
        world.send(world.events(50, at=minute + timedelta(seconds=30)))
        read_later = f"etl.minute_ledger WHERE minute = '{minute}' AND raw_rows >= 150"
        world.until(lambda: runs.count(read_later), f"a live run to publish {minute} again", BACK_WITHIN, every=0.5)
    world.wait_for_end(zombie_run)


# Events


@scenario()
def events_one_second_ten_minutes_and_three_hours_late(world: World) -> None:
    world.send(world.events(100))
    world.run()
    for lag in (timedelta(seconds=1), timedelta(minutes=10), timedelta(hours=3)):
        world.send(world.events(20, at=now() - lag))


@scenario()
def a_thousand_events_of_one_instant_across_a_batch_border(world: World) -> None:
    instant = now()
    rows = world.events(1_000, at=instant, spread=0.0)
    world.send(rows[:500])
    run = world.trigger()
    world.send(rows[500:])
    world.wait_for_end(run)


@scenario("events more than a day ahead are rejected, the others counted")
def writers_whose_clocks_are_wrong(world: World) -> None:
    for at in (now() - timedelta(minutes=5), now() + timedelta(minutes=5)):
        world.send(world.events(50, at=at))
    world.send(world.events(5, at=now().replace(year=2099, month=6, day=1)))


@scenario()
def three_in_ten_events_twice_and_out_of_order(world: World) -> None:
    rows = world.events(500)
    again = [row for row in rows if world.rng.random() < 0.3]
    shuffled = rows + again
    world.rng.shuffle(shuffled)
    world.send(shuffled[:300])
    world.run()
    world.send(shuffled[300:])


@scenario("each broken row is rejected with a reason, or its values are used as they are")
def broken_rows_of_many_kinds(world: World) -> None:
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
    rows = world.events(200, at=at, spread=0)
    base = {"ev": "2", "custom_track": "click", "job_id": "900001", "ts": f"{at:%Y-%m-%d %H:%M:%S}"}
    world.send([*rows, *({**base, "create_time": world.event_id(at), **change} for change in odd)])


@scenario("an undeclared field is kept and changes no fact")
def a_new_field_in_the_events(world: World) -> None:
    world.send([{**row, "novelty": "x"} for row in world.events(100)])
    world.run()


@scenario(
    "by topic and by file: only these minutes are held, the reason names the field, and an acceptance publishes them"
)
def a_producer_renames_a_field(world: World) -> None:
    def renamed(row: dict) -> dict:
        return {"jobId" if name == "job_id" else name: value for name, value in row.items()}

    _drift(world, renamed, "staging_field_disappeared: job_id is in none of")
    _accept(world, "job_id")
    if runs.count("etl.drifts WHERE kind = 'appeared' AND field = 'jobId'") < 1:
        raise Broken("the new name is not on record")


@scenario(
    "by topic and by file: only these minutes are held, the reason names the field, and fixed events publish them"
)
def a_producer_drops_a_field(world: World) -> None:
    def without(row: dict) -> dict:
        return {name: value for name, value in row.items() if name != "campaign_id"}

    drifted = _drift(world, without, "staging_field_disappeared: campaign_id is in none of")
    with world.followed_topic():
        for good, sent in drifted:
            world.replace(sent, good)


@scenario("by topic and by file: minutes whose values would count as 0 are held; an acceptance publishes them")
def a_producer_changes_a_type(world: World) -> None:
    def retyped(row: dict) -> dict:
        return {**row, "publisher_id": f"p-{row['publisher_id']}"} if row.get("publisher_id") else row

    _drift(world, retyped, r"staging_field_unreadable: \d+ of \d+ values of publisher_id are not numbers")
    _accept(world, "publisher_id")


@scenario("by topic and by file: the field is reported once, and the minutes are published")
def a_producer_adds_a_field(world: World) -> None:
    name = f"added{world.rng.getrandbits(40):x}"
    day = world.other_day()
    with world.followed_topic():
        world.send([{**row, name: "x"} for row in world.events(150, at=day)], by_topic=True)
        world.send([{**row, name: "x"} for row in world.events(150, at=day + timedelta(minutes=5))], by_file=True)
    world.must_be_right()
    if (known := runs.count(f"etl.drifts WHERE kind = 'appeared' AND field = '{name}'")) != 1:
        raise Broken(f"the field is on record {known} times")
    warned = (
        f"etl.check_results WHERE check_name = 'staging_new_field' AND outcome = 'warn' AND LOCATE('{name}', sample)"
    )
    if (warnings := runs.count(warned)) != 1:
        raise Broken(f"{warnings} warnings name the field")


@scenario(
    "by topic and by file, to a shop that holds undeclared fields: only these minutes are held; an acceptance publishes them"
)
def a_producer_adds_a_field_that_is_held(world: World) -> None:
    name, day = f"added{world.rng.getrandbits(40):x}", world.other_day()
    with world.followed_topic(SHOP):
        for at, route in ((0, {"by_topic": True}), (10, {"by_file": True})):
            first, *others = world.events(20, at=day + timedelta(minutes=at), pipeline=SHOP)
            world.send([{**first, name: "x"}, *others], pipeline=SHOP, **route)
            world.send(world.events(20, at=day + timedelta(minutes=at + 5), pipeline=SHOP), pipeline=SHOP, **route)
    _must_hold_two(world, SHOP, day, merged=2, reason=f"staging_unknown_field: {name} is not declared, and 1 rows")
    _accept(world, name, SHOP)
    world.send(
        [{**row, name: "y"} for row in world.events(20, at=day + timedelta(minutes=20), pipeline=SHOP)], pipeline=SHOP
    )


def _drift(world: World, changed: Callable[[dict], dict], reason: str) -> list[tuple[list[dict], list[dict]]]:
    """Send changed events, of one minute by topic and of another by file, among good minutes.

    Check that only these two are held, for that reason. Returns the events of each: unchanged, and as they were sent.
    """
    day = world.other_day()
    for at in range(4):
        world.send(world.events(200, at=day + timedelta(minutes=at)))
    world.must_be_right()
    drifted = []
    with world.followed_topic():
        for at, route in ((10, {"by_topic": True}), (20, {"by_file": True})):
            good = world.events(200, at=day + timedelta(minutes=at))
            sent = [changed(row) for row in good]
            drifted.append((good, sent))
            world.send(sent, **route)
            world.send(world.events(200, at=day + timedelta(minutes=at + 5)), **route)
    _must_hold_two(world, RECRUITMENT, day, merged=6, reason=reason)
    return drifted


def _must_hold_two(world: World, pipeline: Pipeline, day: datetime, *, merged: int, reason: str) -> None:
    """Check that two minutes of the hour of `day` are held and `merged` are merged.

    The reason for the hold must match the regular expression `reason` from its start.
    """
    hour = (
        f"pipeline = '{pipeline.name}' AND minute >= '{day:%Y-%m-%d %H}:00' "
        f"AND minute < '{day + timedelta(hours=1):%Y-%m-%d %H}:00'"
    )
    held, published = (f"etl.minute_ledger WHERE state = '{state}' AND {hour}" for state in ("held", "merged"))

    def is_held() -> bool:
        world.run(dag_id=f"{pipeline.name}_minute")
        return runs.count(held) == 2 and runs.count(published) == merged

    world.until(is_held, "two minutes to be held, and their neighbors to be merged", BACK_WITHIN)
    for minute, why in runs.query(f"SELECT minute, reason FROM {held}"):
        if not re.match(reason, why):
            raise Broken(f"{minute} is held because of {why!r}")


def _accept(world: World, field: str, pipeline: Pipeline = RECRUITMENT) -> None:
    done = accept_drift(pipeline.name, field, None, user="fault injection", why="on purpose")
    if done.minutes != 2:
        raise Broken(f"the acceptance makes {done.minutes} minutes pending, not 2")
    world.run(dag_id=f"{pipeline.name}_minute")


@scenario("the batch fails and names the missing column; afterwards nothing is lost")
def a_lake_table_of_another_layout(world: World) -> None:
    rows = world.events(50)
    world.send(rows)
    with lake("lake_admin") as session:
        session.execute("ALTER TABLE bedan.tracking RENAME create_time TO created")
    try:
        if (state := world.wait_for_end(world.trigger(), 240)) != "failed":
            raise Broken(f"a run without the column ended as {state}")
        text = runs.query("SELECT reason FROM etl.batches WHERE reason IS NOT NULL ORDER BY batch_id DESC LIMIT 1")
        if "lacks create_time" not in text[0][0]:
            raise Broken(f"the batch's reason is {text[0][0]!r}")
    finally:
        with lake("lake_admin") as session:
            session.execute("ALTER TABLE bedan.tracking RENAME created TO create_time")


@scenario("two hours of minutes become pending while no run starts")
def a_backlog_of_two_hours(world: World) -> None:
    with world.paused():
        for minute in range(120):
            world.send(world.events(20, at=now() - timedelta(hours=5, minutes=minute), spread=20))
        world.send(world.events(50))
    world.run()


@scenario("the minute that lost a row is held, and others are published; once the row is back, the minute is published")
def a_minute_that_fails_its_gate_among_good_ones(world: World) -> None:
    rows = world.events(30, at=now() - timedelta(hours=7), spread=0.5)
    world.send(rows)
    world.must_be_right()
    world.drop_from_lake(rows[0])
    world.send(world.events(50))
    world.run()
    held = runs.query("SELECT reason FROM etl.minute_ledger WHERE state = 'held'")
    if len(held) != 1 or "shrink" not in held[0][0]:
        raise Broken(f"held minutes are {held}")
    world.send(rows[:1])


@scenario("the minute is split off and held while others continue; after its next touch it is published")
def a_minute_that_kills_the_spark_job(world: World) -> None:
    rows = world.events(30, at=now() - timedelta(hours=6), spread=0.5)
    minute = keys.minute_of(runs.as_events(rows[:1])[0].create_time)
    other = world.events(10, at=now() - timedelta(hours=6, minutes=5), spread=0.5)
    other_minute = keys.minute_of(runs.as_events(other[:1])[0].create_time)
    with world.driver_killed_whenever_it_reads(minute):
        world.send([*rows, *other])

        def is_held() -> bool:
            world.run()
            expected = f"(minute = '{minute}' AND state = 'held') OR (minute = '{other_minute}' AND state = 'merged')"
            return runs.count(f"etl.minute_ledger WHERE {expected}") == 2

        world.until(is_held, f"minute {minute} to be held, and {other_minute} to be merged", 420)
    if (held := runs.count("etl.minute_ledger WHERE state = 'held'")) != 1:
        raise Broken(f"{held} minutes are held")
    world.send(rows)


def must_succeed(world: World, run_id: str) -> None:
    """Check that the run itself succeeds, after retries if necessary."""
    if (state := world.wait_for_end(run_id)) != "success":
        raise Broken(f"the run ended as {state}")
