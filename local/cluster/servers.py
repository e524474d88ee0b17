"""The servers of the cluster, and the connections that lead to them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from local import connections
from local.layout import DATA
from local.process import free_port
from local.servers.cassandra import Member, Node
from local.servers.kafka import Broker, Quorum, new_cluster_id
from local.servers.mariadb import Server as MariaDB
from local.servers.redis import ACCOUNT, Redis
from local.servers.server import Server
from local.servers.spark_standalone import Master, Worker

NODES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
BROKERS, SPARK_WORKERS = 3, 2
_DATA_CENTER = "datacenter1"
_WORKER_CORES, _WORKER_MEMORY = 2, 2_560
# Each Celery worker has its own long-lived application: together they take all cores of Spark's workers.
_SHARE = {"spark.cores.max": "2", "spark.executor.cores": "1", "spark.executor.memory": "768m"}


@dataclass(frozen=True)
class Servers:
    """All servers of the cluster except PostgreSQL, which `Stack` starts."""

    nodes: list[Node]
    brokers: list[Broker]
    primary: MariaDB
    replica: MariaDB
    redis: Redis
    master: Master
    workers: list[Worker]

    def by_program(self) -> dict[str, Server]:
        """Each server by the name of its program and data folder, in the order in which they start."""
        servers = [*self.nodes, *self.brokers, self.primary, self.replica, self.redis, self.master, *self.workers]
        return {server.home.name: server for server in servers}

    def connections(self, passwords: Mapping[str, str]) -> dict[str, str]:
        """Variables of all connections, as a deployment would set them: account bi reads the replica."""
        warehouse, replica = (connections.warehouse(passwords, server.port) for server in (self.primary, self.replica))
        bi = connections.variable("warehouse_bi")
        return {
            **connections.lake(passwords, self.nodes[0].port, hosts=NODES, local_dc=_DATA_CENTER),
            **warehouse,
            bi: replica[bi],
            **connections.broker(passwords, *(broker.port for broker in self.brokers)),
            **connections.spark(self.master.url, _SHARE, self.master.secret),
        }


def new_servers(passwords: Mapping[str, str]) -> Servers:
    """Servers on free ports, with data folders of the stack."""
    accounts = connections.warehouse_passwords(passwords)
    secret = secrets.token_urlsafe(24)
    master = Master(DATA / "spark-master", free_port(), web_port=free_port(), secret=secret)
    return Servers(
        nodes=_nodes(connections.lake_passwords(passwords)),
        brokers=_brokers(connections.broker_passwords(passwords)),
        primary=MariaDB(DATA / "mariadb", free_port(), accounts, replication="primary"),
        replica=MariaDB(DATA / "mariadb-replica", free_port(), accounts, replication="replica"),
        redis=Redis(DATA / "redis", free_port(), {ACCOUNT: secrets.token_urlsafe(24)}),
        master=master,
        workers=[
            Worker(
                DATA / f"spark-worker-{number}",
                free_port(),
                web_port=free_port(),
                secret=secret,
                master_url=master.url,
                cores=_WORKER_CORES,
                memory_mb=_WORKER_MEMORY,
            )
            for number in range(1, SPARK_WORKERS + 1)
        ],
    )


def _nodes(passwords: Mapping[str, str]) -> list[Node]:
    member = Member(NODES, DATA / "internode.p12")
    port, storage_port = free_port(), free_port()
    return [
        Node(
            DATA / f"cassandra-{number}",
            port,
            passwords,
            throw_away=True,
            host=address,
            storage_port=storage_port,
            heap_mb=384,
            member=member,
        )
        for number, address in enumerate(NODES, 1)
    ]


def _brokers(passwords: Mapping[str, str]) -> list[Broker]:
    quorum = Quorum(new_cluster_id(), tuple(free_port() for _ in range(BROKERS)))
    return [
        Broker(DATA / f"kafka-{number}", free_port(), passwords, controller_port=port, quorum=quorum, node_id=number)
        for number, port in enumerate(quorum.controller_ports, 1)
    ]


_FIRST_GROUP = 30_000


def group_of(server: Server) -> int | None:
    """The group that only this node of Cassandra runs in: the kernel uses it to recognize the node's packets.

    None for other servers, and if this process does not run as root.
    """
    if not isinstance(server, Node) or os.geteuid() != 0:
        return None
    return _FIRST_GROUP + NODES.index(server.host)
