"""The faults of a cluster: one of several nodes, brokers or workers is away, and the others continue."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator

import psutil

from include.connections import endpoint
from include.kafka import clients
from include.lake.session import lake
from local import supervisor
from local.cluster.servers import group_of
from tests.faults.scenarios import SCENARIOS as OF_ONE_NODE
from tests.faults.scenarios import must_succeed, scenario
from tests.faults.world import BACK_WITHIN, DAG, RECRUITMENT, Broken, NotHere, World, kill_with_children

AWAY = 120  # seconds
# Backups copy the data folder of the only node.
_ONLY_OF_ONE_NODE = ("the_warehouse_is_restored_from_a_dump", "the_lake_is_restored_from_a_copy")
SCENARIOS = {name: one for name, one in OF_ONE_NODE.items() if name not in _ONLY_OF_ONE_NODE}


# Nodes of the stores


@scenario("reads and writes of a quorum continue without it; the others keep hints for it", SCENARIOS)
def a_cassandra_node_away_for_two_minutes(world: World) -> None:
    name = world.rng.choice(world.programs("cassandra"))
    supervisor.stop(name)
    try:
        _load_for(world, AWAY)
        must_succeed(world, world.trigger())
    finally:
        supervisor.start(name)
    world.until(every_node_answers, f"{name} to be back", BACK_WITHIN, every=1)


@scenario("it takes requests and reaches no other node; after that the others give it their hints", SCENARIOS)
def a_cassandra_node_partitioned_for_two_minutes(world: World) -> None:
    name = world.rng.choice(world.programs("cassandra"))
    with _partitioned(world, name):
        _load_for(world, AWAY)
        must_succeed(world, world.trigger())
    world.until(every_node_answers, f"{name} to be back", BACK_WITHIN, every=1)


@scenario("its partitions get another leader, and nothing that was acknowledged is lost", SCENARIOS)
def a_broker_away_for_two_minutes(world: World) -> None:
    name = world.rng.choice(world.programs("kafka"))
    with world.followed_topic():
        supervisor.stop(name)
        try:
            _load_for(world, AWAY, by_topic=True)
        finally:
            supervisor.start(name)
        world.until(every_replica_is_in_sync, f"the replicas of {name}", BACK_WITHIN, every=1)


@scenario("the boards' account reads old facts, the rest goes by the primary; it catches up", SCENARIOS)
def the_replica_behind_by_two_minutes(world: World) -> None:
    replica = world.stack.servers.replica
    with contextlib.closing(replica.administrator()) as conn:
        conn.cursor().execute("STOP SLAVE SQL_THREAD")
        before = _published(REPLICA_ACCOUNT)
        _load_for(world, AWAY)
        must_succeed(world, world.trigger())
        world.until(lambda: _published(PRIMARY_ACCOUNT) > before, "a merge on the primary")
        if _published(REPLICA_ACCOUNT) != before:
            raise Broken("the replica applied changes, and was not behind")
        conn.cursor().execute("START SLAVE SQL_THREAD")
    world.must_be_right()
    world.until(lambda: _published(REPLICA_ACCOUNT) == _published(PRIMARY_ACCOUNT), "the replica to catch up")


# Spark's and Airflow's workers


@scenario("the attempt continues on the other one, or fails alone", SCENARIOS)
def a_spark_worker_killed_in_the_middle_of_a_job(world: World) -> None:
    world.send(world.events(200))
    with world.locked("LOCK TABLES recruitment.events_staged WRITE"):
        run = world.trigger()
        world.session_of_etl("recruitment.events_staged")
        world.kill("spark-worker")
    must_succeed(world, run)


@scenario("the next attempt starts another application when it is back", SCENARIOS)
def the_spark_master_killed_in_the_middle_of_a_job(world: World) -> None:
    world.send(world.events(200))
    with world.locked("LOCK TABLES recruitment.events_staged WRITE"):
        run = world.trigger()
        world.session_of_etl("recruitment.events_staged")
        world.kill("spark-master")
    must_succeed(world, run)


@scenario("the scheduler notices that its heartbeats end", SCENARIOS)
def a_celery_worker_killed_in_the_transform(world: World) -> None:
    _worker_killed(world, "transform_delta", "LOCK TABLES recruitment.events_staged WRITE")


@scenario("the scheduler notices that its heartbeats end", SCENARIOS)
def a_celery_worker_killed_in_the_gate_before_the_merge(world: World) -> None:
    _worker_killed(world, "check_staging", "LOCK TABLES etl.check_results WRITE")


@scenario("the scheduler notices that its heartbeats end", SCENARIOS)
def a_celery_worker_killed_in_the_merge(world: World) -> None:
    _worker_killed(world, "merge_into_warehouse", "SELECT * FROM etl.pipelines FOR UPDATE")


@scenario("the scheduler notices that its heartbeats end", SCENARIOS)
def a_celery_worker_killed_in_the_gate_after_the_merge(world: World) -> None:
    world.send(world.events(200))
    with contextlib.ExitStack() as later:
        with world.locked("SELECT * FROM etl.pipelines FOR UPDATE"):
            run = world.trigger()
            world.session_of_etl("etl.pipelines WHERE")
            later.enter_context(world.locked("LOCK TABLES etl.check_results WRITE"))
        killed = _kill_worker_of(world, "check_warehouse")
    must_succeed(world, killed)
    must_succeed(world, run)


@scenario("the scheduler notices that its heartbeats end", SCENARIOS)
def a_celery_worker_killed_in_the_sensor(world: World) -> None:
    _worker_killed(world, "wait_for_changes", "LOCK TABLES etl.minute_ledger WRITE")


@scenario("what it followed is followed by its successor on the other one", SCENARIOS)
def a_celery_worker_killed_while_it_follows_a_topic(world: World) -> None:
    with world.followed_topic():
        world.send(world.events(300), by_topic=True)
        follower = world.follower()
        kill_with_children(_worker_above(follower.pid))
        world.send(world.events(300), by_topic=True)


def _worker_killed(world: World, task: str, lock: str) -> None:
    """The worker of that task of a run is killed while something locked holds the task up."""
    world.send(world.events(200))
    with world.locked(lock):
        run = world.trigger()
        killed = _kill_worker_of(world, task)
    must_succeed(world, killed)
    must_succeed(world, run)


def _kill_worker_of(world: World, task: str) -> str:
    """Kill the worker of the run that has come to this task, a scheduled one or ours; returns the run's id."""
    run, pid = world.until(lambda: world.airflow.running_task(DAG, task), f"{task} to run", 90, every=0.1)
    kill_with_children(_worker_above(pid))
    return run


def _worker_above(pid: int) -> psutil.Process:
    """The Celery worker that a process belongs to."""
    workers = {process["pid"] for process in supervisor.processes() if supervisor.kind_of(process["name"]) == WORKER}
    for process in psutil.Process(pid).parents():
        if process.pid in workers:
            return process
    raise Broken(f"process {pid} belongs to none of the workers {workers}")


# Everything


@scenario("every program is stopped and started again, one after the other, while events come", SCENARIOS)
def a_rolling_restart_under_load(world: World) -> None:
    with world.traffic(), world.followed_topic():
        for process in supervisor.processes():
            name = process["name"]
            if process["statename"] != "RUNNING":
                continue  # an errand that is over
            supervisor.stop(name)
            supervisor.start(name)
            server = world.stack.programs.get(name)
            if server:
                server.wait_until_ready(seconds=BACK_WITHIN)
            world.until(every_node_answers, f"every node after the restart of {name}", BACK_WITHIN, every=1)
            world.until(every_replica_is_in_sync, f"every replica after the restart of {name}", BACK_WITHIN, every=1)
            world.until(lambda: world.airflow.health() and True, f"Airflow after the restart of {name}", 120)
        world.send(world.events(100), by_topic=True)


# What the scenarios are made of

WORKER = "celery-worker"
REPLICA_ACCOUNT, PRIMARY_ACCOUNT = "warehouse_bi", "warehouse_etl"


def _load_for(world: World, seconds: float, *, by_topic: bool = False) -> None:
    """Some events every few seconds, all of which are accepted."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        world.send(world.events(30), by_topic=by_topic)
        time.sleep(5)


def every_node_answers() -> bool:
    """Whether all replicas of the change log answer, as any coordinator sees it."""
    from cassandra import ConsistencyLevel
    from cassandra.query import SimpleStatement

    with lake("lake_reader") as session:
        statement = f"SELECT day FROM minutemark.changed_days WHERE lake_table = '{RECRUITMENT.lake_table}'"
        session.execute(SimpleStatement(statement, consistency_level=ConsistencyLevel.ALL))
    return True


def every_replica_is_in_sync() -> bool:
    """Whether no partition of any topic lacks a replica."""
    listed = clients.admin().list_topics(timeout=10)
    return all(
        len(partition.isrs) == len(partition.replicas)
        for topic in listed.topics.values()
        for partition in topic.partitions.values()
    )


def _published(account: str) -> int:
    """The newest merged batch, as that account's server has it."""
    import MySQLdb

    target = endpoint(account)
    with contextlib.closing(
        MySQLdb.connect(host=target.host, port=target.port, user=target.login, passwd=target.password)
    ) as conn:
        cursor = conn.cursor()
        cursor.execute("SELECT COALESCE(MAX(batch_id), 0) FROM etl.batches WHERE state = 'merged'")
        return int(cursor.fetchone()[0])


@contextlib.contextmanager
def _partitioned(world: World, name: str) -> Iterator[None]:
    """The node exchanges nothing with the others, by rules for the port between nodes; clients still reach it."""
    server = world.stack.programs[name]
    group = group_of(server)
    if not shutil.which("iptables") or group is None:
        raise NotHere("it takes root and iptables")
    port = ("-p", "tcp", "--dport", str(server.storage_port), "-j", "DROP")
    rules = [("INPUT", "-d", server.host, *port), ("OUTPUT", "-m", "owner", "--gid-owner", str(group), *port)]
    with contextlib.ExitStack() as undo:
        for chain, *rule in rules:
            done = subprocess.run(["iptables", "-I", chain, *rule], capture_output=True, text=True)
            if done.returncode:
                raise NotHere(f"iptables refuses a rule: {done.stderr.strip()}")
            undo.callback(subprocess.run, ["iptables", "-D", chain, *rule], check=True)
        yield
