"""The faults of a cluster: one of several nodes, brokers or workers is down, and the others continue."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import psutil

from include.connections import endpoint
from include.errors import MinutemarkError
from include.kafka import clients
from include.lake.presence import Presence
from include.lake.session import lake
from local import supervisor
from local.cluster.servers import group_of
from local.servers import cassandra
from local.servers.server import ADMIN
from tests.e2e import runs
from tests.faults import partition
from tests.faults.scenarios import SCENARIOS as SINGLE_NODE_SCENARIOS
from tests.faults.scenarios import must_succeed, scenario
from tests.faults.system import BACK_WITHIN, DAG, RECRUITMENT, CannotInject, GuaranteeBroken, System, kill_with_children

AWAY = 120  # seconds
NOTICED_WITHIN = 60  # seconds until the failure detector has noticed that a node is down
# Backups copy the data folder of the only node.
_SINGLE_NODE_ONLY = (
    "the_warehouse_is_restored_from_a_dump",
    "the_lake_is_restored_from_a_copy",
    "both_stores_are_restored_from_backups",
)
SCENARIOS = {name: fault for name, fault in SINGLE_NODE_SCENARIOS.items() if name not in _SINGLE_NODE_ONLY}


# Nodes of the stores


@scenario("quorum reads and writes continue without it; once back, it has the rows that it missed", SCENARIOS)
def a_cassandra_node_away_for_two_minutes(system: System) -> None:
    name = system.rng.choice(system.programs("cassandra"))
    supervisor.stop(name)
    try:
        rows = _load_for(system, AWAY)
        must_succeed(system, system.trigger())
    finally:
        supervisor.start(name)
    system.until(every_node_answers, f"{name} to be back", BACK_WITHIN, every=1)
    if not _problem_of_partition(system, name):
        _must_have_alone(system, name, rows)


@scenario("it accepts requests but reaches no other node; afterwards, it has the rows that it missed", SCENARIOS)
def a_cassandra_node_partitioned_for_two_minutes(system: System) -> None:
    name = system.rng.choice(system.programs("cassandra"))
    with _partitioned(system, name):
        rows = _load_for(system, AWAY)
        must_succeed(system, system.trigger())
    system.until(every_node_answers, f"{name} to be back", BACK_WITHIN, every=1)
    _must_have_alone(system, name, rows)


@scenario("nothing that was acknowledged is lost, and every replica is in sync afterwards", SCENARIOS)
def a_broker_away_for_two_minutes(system: System) -> None:
    name = system.rng.choice(system.programs("kafka"))
    with system.followed_topic():
        supervisor.stop(name)
        try:
            _load_for(system, AWAY, by_topic=True)
        finally:
            supervisor.start(name)
        system.until(every_replica_is_in_sync, f"the replicas of {name}", BACK_WITHIN, every=1)


@scenario("the boards' account reads old facts, the primary has the new ones; the replica catches up", SCENARIOS)
def the_replica_behind_by_two_minutes(system: System) -> None:
    replica = system.stack.servers.replica
    with contextlib.closing(replica.administrator()) as conn:
        conn.cursor().execute("STOP SLAVE SQL_THREAD")
        try:
            before = _published(REPLICA_ACCOUNT)
            _load_for(system, AWAY)
            must_succeed(system, system.trigger())
            system.until(lambda: _published(PRIMARY_ACCOUNT) > before, "a merge on the primary")
            system.must_be_right()
            if _published(REPLICA_ACCOUNT) != before:
                raise GuaranteeBroken("the replica applied changes, and was not behind")
        finally:
            conn.cursor().execute("START SLAVE SQL_THREAD")
    newest = _published(PRIMARY_ACCOUNT)
    system.until(lambda: _published(REPLICA_ACCOUNT) >= newest, "the replica to catch up", BACK_WITHIN)


# Spark's and Airflow's workers


@scenario("the worker whose executor writes the rows is killed; the run succeeds", SCENARIOS)
def a_spark_worker_killed_in_the_middle_of_a_job(system: System) -> None:
    system.send(system.events(200))
    with system.locked(STAGING_REFUSES_ROWS):
        run = system.trigger()
        executor = system.session_of_etl(INSERT_OF_EXECUTOR)
        kill_with_children(_program_above(executor.pid, "spark-worker"))
    must_succeed(system, run)


@scenario("both workers register at the new master; the run succeeds", SCENARIOS)
def the_spark_master_killed_in_the_middle_of_a_job(system: System) -> None:
    system.send(system.events(200))
    with system.locked(STAGING_REFUSES_ROWS):
        run = system.trigger()
        system.session_of_etl(INSERT_OF_EXECUTOR)
        system.kill("spark-master").wait(10)
        # The new master does not know the application: each worker that registers there ends its executors.
        system.until(
            lambda: every_spark_worker_is_registered(system),
            "Spark's workers at the new master",
            BACK_WITHIN,
            every=0.5,
        )
    must_succeed(system, run)


@scenario("the run of the killed task succeeds", SCENARIOS)
def a_celery_worker_killed_in_the_transform(system: System) -> None:
    _kill_worker_at(system, "transform_delta", "LOCK TABLES recruitment.events_staged WRITE")


@scenario("the run of the killed task succeeds", SCENARIOS)
def a_celery_worker_killed_in_the_gate_before_the_merge(system: System) -> None:
    _kill_worker_at(system, "check_staging", "LOCK TABLES etl.check_results WRITE")


@scenario("the run of the killed task succeeds", SCENARIOS)
def a_celery_worker_killed_in_the_merge(system: System) -> None:
    _kill_worker_at(system, "merge_into_warehouse", "SELECT * FROM etl.pipelines FOR UPDATE")


@scenario("the run of the killed task succeeds", SCENARIOS)
def a_celery_worker_killed_in_the_gate_after_the_merge(system: System) -> None:
    system.send(system.events(200))
    with contextlib.ExitStack() as later:
        with system.locked("SELECT * FROM etl.pipelines FOR UPDATE"):
            run = system.trigger()
            system.session_of_etl("etl.pipelines WHERE")
            later.enter_context(system.locked("LOCK TABLES etl.check_results WRITE"))
        killed = _kill_worker_of(system, "check_warehouse")
    must_succeed(system, killed)
    must_succeed(system, run)


@scenario("the run of the killed task succeeds", SCENARIOS)
def a_celery_worker_killed_in_the_sensor(system: System) -> None:
    _kill_worker_at(system, "wait_for_changes", "LOCK TABLES etl.minute_ledger WRITE")


@scenario("its successor on the other worker follows the topic", SCENARIOS)
def a_celery_worker_killed_while_it_follows_a_topic(system: System) -> None:
    with system.followed_topic():
        system.send(system.events(300), by_topic=True)
        system.follower()
        worker = system.until(lambda: _program_above(system.follower().pid, WORKER), "the worker of a follower", 90)
        kill_with_children(worker)
        system.send(system.events(300), by_topic=True)


def _kill_worker_at(system: System, task: str, lock: str) -> None:
    """Kill the worker of that task while a lock blocks the task."""
    system.send(system.events(200))
    with system.locked(lock):
        run = system.trigger()
        killed = _kill_worker_of(system, task)
    must_succeed(system, killed)
    must_succeed(system, run)


def _kill_worker_of(system: System, task: str) -> str:
    """Kill the worker of the run, scheduled or triggered here, that has reached this task; returns the run's id."""

    def find() -> tuple[str, psutil.Process] | None:
        running = system.airflow.running_task(DAG, task)
        # A task that has just ended has no process: `until` repeats the search after its error.
        return running and (running[0], _program_above(running[1], WORKER))

    run, worker = system.until(find, f"{task} to run", 90, every=0.1)
    kill_with_children(worker)
    return run


def _program_above(pid: int, kind: str) -> psutil.Process:
    """The program of that kind that a process belongs to. Raises psutil.NoSuchProcess or GuaranteeBroken."""
    programs = {process["pid"] for process in supervisor.processes() if supervisor.kind_of(process["name"]) == kind}
    for process in psutil.Process(pid).parents():
        if process.pid in programs:
            return process
    raise GuaranteeBroken(f"process {pid} belongs to none of the {kind} processes {programs}")


# Everything


@scenario("every program is stopped and started again, one after the other, while events arrive", SCENARIOS)
def a_rolling_restart_under_load(system: System) -> None:
    with system.traffic(), system.followed_topic():
        for process in supervisor.processes():
            name = process["name"]
            if process["statename"] != "RUNNING":
                continue  # a one-off program that has ended
            supervisor.stop(name)
            supervisor.start(name)
            server = system.stack.programs.get(name)
            if server:
                server.wait_until_ready(seconds=BACK_WITHIN)
            for what, is_ready in _parts(system).items():
                system.until(is_ready, f"{what} after the restart of {name}", BACK_WITHIN, every=1)
        system.send(system.events(100), by_topic=True)


# Helpers of the scenarios

WORKER = "celery-worker"
REPLICA_ACCOUNT, PRIMARY_ACCOUNT = "warehouse_bi", "warehouse_etl"
# A READ lock: the driver reads the table before executors write to it, and would otherwise be the one that waits.
STAGING_REFUSES_ROWS = "LOCK TABLES recruitment.events_staged READ"
INSERT_OF_EXECUTOR = "INSERT INTO recruitment.events_staged"


def _load_for(system: System, seconds: float, *, by_topic: bool = False) -> list[dict[str, str | None]]:
    """Send some events every few seconds, all of which must be accepted; returns them."""
    sent = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        rows = system.events(30)
        system.send(rows, by_topic=by_topic)
        sent += rows
        time.sleep(5)
    return sent


def _parts(system: System) -> dict[str, Callable[[], bool]]:
    """Conditions that must hold before the next program is stopped. One that does not hold returns False or raises."""
    return {
        "every node": every_node_answers,
        "every replica": every_replica_is_in_sync,
        "Spark's workers": lambda: every_spark_worker_is_registered(system),
        "Airflow": lambda: system.stack.require_health() is None,
        "Celery's workers": lambda: system.stack.require_workers() is None,
    }


def every_node_answers() -> bool:
    """Whether a coordinator reaches all replicas of a partition of the change log; raises LakeError if not."""
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


def every_spark_worker_is_registered(system: System) -> bool:
    """Whether the master has all workers."""
    servers = system.stack.servers
    return len(servers.master.workers()) >= len(servers.workers)


def _published(account: str) -> int:
    """The id of the newest merged batch on that account's server."""
    import MySQLdb

    target = endpoint(account)
    with contextlib.closing(
        MySQLdb.connect(host=target.host, port=target.port, user=target.login, passwd=target.password)
    ) as conn:
        cursor = conn.cursor()
        cursor.execute("SELECT COALESCE(MAX(batch_id), 0) FROM etl.batches WHERE state = 'merged'")
        return int(cursor.fetchone()[0])


def _problem_of_partition(system: System, name: str) -> str | None:
    """Why this machine cannot partition that node; None if it can."""
    return partition.problem() if group_of(system.stack.programs[name]) else "it requires root"


@contextlib.contextmanager
def _partitioned(system: System, name: str) -> Iterator[None]:
    """Cut the node off from the others with rules for the port between nodes; clients still reach it.

    Raises CannotInject if this machine does not allow the rules, and GuaranteeBroken if a read of all replicas still
    succeeds when the nodes must have noticed.
    """
    if why := _problem_of_partition(system, name):
        raise CannotInject(why)
    server = system.stack.programs[name]
    rules = partition.rules(server.host, server.storage_port, group_of(server))
    system.until(every_node_answers, "every node before the partition", BACK_WITHIN, every=1)
    with contextlib.ExitStack() as undo:
        try:
            undo.enter_context(partition.applied(rules))
        except partition.Refused as error:
            raise CannotInject(str(error)) from None
        system.until(_a_node_is_unreachable, f"the partition of {name} to be noticed", NOTICED_WITHIN, every=1)
        yield


def _a_node_is_unreachable() -> bool:
    """Whether a read of all replicas fails."""
    try:
        return not every_node_answers()
    except MinutemarkError:
        return True


def _must_have_alone(system: System, name: str, rows: Sequence[Mapping[str, str | None]]) -> None:
    """Check that the node has these rows itself, from the hints that the others kept for it. Raises GuaranteeBroken.

    A coordinator may read from any replica. So the node is cut off for the check: it then returns only its own rows.
    """
    node, events = system.stack.programs[name], runs.as_events(rows)
    others = [server for server in system.stack.servers.nodes if server is not node]

    def has_all() -> bool:
        if any(file for other in others for file in (other.home / "hints").glob("*.hints")):
            return False  # not delivered yet
        cluster, session = cassandra.connect(node.port, ADMIN, node.passwords[ADMIN], node.host)  # reads at LOCAL_ONE
        try:
            with _partitioned(system, name):
                lookup = Presence(session, RECRUITMENT)
                return not system.until(lambda: (lookup.absent(events),), f"an answer of {name}", every=1)[0]
        finally:
            cluster.shutdown()

    system.until(has_all, f"{name} to have the rows that it missed", BACK_WITHIN, every=5)
    system.until(every_node_answers, f"{name} to be back", BACK_WITHIN, every=1)
