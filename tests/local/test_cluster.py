"""The servers of a cluster, started for real on loopback: brokers that replicate, a warehouse with a replica, Redis."""

import contextlib

import pytest

from include.demo.traffic import foreign_hosts
from local import connections, waiting
from local.cluster.servers import NODES
from local.layout import KAFKA_JARS
from local.process import Child, free_port
from local.servers import cassandra, kafka, mariadb, redis

PASSWORDS = connections.new_passwords()


@pytest.fixture
def start(tmp_path):
    """Start servers at the same time, because those of a quorum need each other; they end with the test."""
    with contextlib.ExitStack() as children:

        def start_all(*servers):
            started = {}
            for server in servers:
                log = tmp_path / f"{server.home.name}.log"
                started[server.home.name] = child = Child(server.prepare(), log)
                children.callback(child.stop, 5)
            for server in servers:
                child = started[server.home.name]
                server.wait_until_ready(alive=child.alive, log=str(child.log))
            return started

        yield start_all


def test_two_of_three_brokers_acknowledge_messages_after_their_leader_was_killed(start, tmp_path):
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic

    if not list(KAFKA_JARS.glob("kafka_*.jar")):
        pytest.skip(f"Kafka's jars are not in {KAFKA_JARS}: `make setup` fetches them.")
    quorum = kafka.Quorum(kafka.new_cluster_id(), (free_port(), free_port(), free_port()))
    accounts = connections.broker_passwords(PASSWORDS)
    brokers = [
        kafka.Broker(
            tmp_path / f"kafka-{node}", free_port(), accounts, controller_port=port, quorum=quorum, node_id=node
        )
        for node, port in enumerate(quorum.controller_ports, 1)
    ]
    started = start(*brokers)
    settings = kafka.client_settings(brokers[0].port, accounts[kafka.ACCOUNT], *[broker.port for broker in brokers[1:]])
    admin = AdminClient(settings)
    admin.create_topics([NewTopic("events", num_partitions=1)])["events"].result(30)

    def partition():
        return admin.list_topics("events", timeout=10).topics["events"].partitions[0]

    errors = (_NotYet, KeyError)  # a broker that does not know the topic yet lists no partition
    waiting.until(
        lambda: len(partition().isrs) == 3 or _raise(), what="the replicas of the topic", seconds=30, errors=errors
    )
    leader = partition().leader
    started[f"kafka-{leader}"].stop(0)
    errors = []
    producer = Producer({**settings, "acks": "all"})
    producer.produce("events", b"after the kill", on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(60) == 0 and errors == [None]
    assert partition().leader != leader


def test_the_replica_gets_accounts_and_rows_from_the_primary_and_refuses_other_writes(start, tmp_path):
    import MySQLdb

    accounts = connections.warehouse_passwords(PASSWORDS)
    primary = mariadb.Server(tmp_path / "primary", free_port(), accounts, replication="primary", throw_away=True)
    replica = mariadb.Server(tmp_path / "replica", free_port(), accounts, replication="replica", throw_away=True)
    start(primary, replica)
    replica.replicate_from(primary)
    with contextlib.closing(primary.administrator()) as conn:
        cursor = conn.cursor()
        cursor.execute("CREATE DATABASE facts")
        cursor.execute("CREATE TABLE facts.clicks (minute INT PRIMARY KEY, count INT)")
        cursor.execute("INSERT INTO facts.clicks VALUES (1, 17)")
        cursor.execute("GRANT SELECT, INSERT ON facts.* TO 'bi'@'127.0.0.1'")

    def rows_of_bi():
        with contextlib.closing(
            MySQLdb.connect(host="127.0.0.1", port=replica.port, user="bi", passwd=accounts["bi"], autocommit=True)
        ) as conn:
            cursor = conn.cursor()
            cursor.execute("SELECT minute, count FROM facts.clicks")
            rows = cursor.fetchall()
            with pytest.raises(MySQLdb.OperationalError, match="read-only"):
                cursor.execute("INSERT INTO facts.clicks VALUES (2, 1)")
            return rows or _raise()

    errors = (MySQLdb.Error, _NotYet)
    assert waiting.until(rows_of_bi, what="the replica", seconds=30, errors=errors) == ((1, 17),)


def test_redis_accepts_only_the_password_of_its_configuration(start, tmp_path):
    import shutil

    client = pytest.importorskip("redis")
    if not any(map(shutil.which, ("redis-server", "redis-check-rdb"))):
        pytest.skip(f"Package {redis.PACKAGE} is not installed: `make test` installs it.")
    server = redis.Redis(tmp_path / "redis", free_port(), {redis.ACCOUNT: "secret"})
    start(server)
    assert client.Redis.from_url(server.url).set("key", "value")
    with pytest.raises(client.AuthenticationError), client.Redis(port=server.port, password="other") as other:
        other.ping()
    assert (server.home / "redis.conf").stat().st_mode & 0o077 == 0


def test_cassandra_nodes_divide_the_ring_evenly_in_any_order_of_joining(tmp_path):
    member = cassandra.Member(NODES, tmp_path / "key.p12")
    tokens = sorted(token for address in NODES for token in member.tokens(address))
    steps = {after - before for before, after in zip(tokens, tokens[1:], strict=False)}
    assert len(tokens) == 12 and len(steps) == 1
    assert tokens[0] == -(2**63)  # the ring begins there


def test_demo_events_go_to_every_loopback_address_and_to_no_other(monkeypatch):
    monkeypatch.setenv("MINUTEMARK_INGEST", "")
    lake = connections.lake(PASSWORDS, 9042, hosts=NODES, local_dc="datacenter1")
    for name, value in {**lake, **connections.warehouse(PASSWORDS, 3306)}.items():
        monkeypatch.setenv(name, value)
    assert foreign_hosts() == []
    for name, value in connections.lake(PASSWORDS, 9042, hosts=(*NODES, "10.0.0.1")).items():
        monkeypatch.setenv(name, value)
    assert foreign_hosts() == ["10.0.0.1"]


class _NotYet(Exception):
    pass


def _raise():
    raise _NotYet
