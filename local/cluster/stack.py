"""The programs of the cluster: three Cassandra nodes, three brokers, a warehouse with a replica, a Spark cluster, Redis,
and Airflow with two schedulers and two Celery workers that share no files.

To Airflow these are stores of the user's own: connections name all nodes, and account bi reads the replica.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from include.lake import cluster
from local import connections, environment, supervisor, waiting
from local.environment import MARK
from local.isolation import copy_to
from local.layout import DATA, LOGS, STATE, VENV
from local.process import free_port
from local.progress import step
from local.servers import cassandra, kafka, mariadb, postgres, redis, spark_standalone
from local.servers.server import Server
from local.start import Stack, coming, log_of
from local.supervisor import Program

NODES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
BROKERS, SPARK_WORKERS, CELERY_WORKERS, SCHEDULERS = 3, 2, 2, 2
PRIMARY, REPLICA, REDIS, MASTER = "mariadb", "mariadb-replica", "redis", "spark-master"
_TASKS = 6  # of a worker at once
_FIRST_GROUP = 30_000
# Each Celery worker has an application of its own, which stays: together they take what Spark's workers have.
_SHARE = {"spark.cores.max": "2", "spark.executor.cores": "1", "spark.executor.memory": "768m"}
_SPARK_CORES, _SPARK_MEMORY = 2, 2_560


class Cluster(Stack):
    """A stack of many nodes, whose state is in a folder of its own: see local/isolation.py."""

    early = ("api-server", "dag-processor")
    late = (
        *(f"scheduler-{number}" for number in range(1, SCHEDULERS + 1)),
        *(f"celery-worker-{number}" for number in range(1, CELERY_WORKERS + 1)),
        "triggerer",
    )

    def __init__(self) -> None:
        DATA.mkdir(mode=0o700, parents=True, exist_ok=True)
        passwords = connections.new_passwords()
        self.servers = _servers(passwords)
        os.environ |= _connections(self.servers, passwords) | {cluster.SETTING: str(len(NODES))}
        super().__init__()
        self.env |= self._settings_of_celery()
        for worker in self._workers():
            copy_to(_home(worker) / "project")  # as its image has it
            (_home(worker) / "tmp").mkdir()

    def start_stores(self) -> None:
        """Start all but the Cassandra nodes that join later; return before they answer."""
        for server in self.servers.values():
            with step(f"create the data folder of {server.name}", quick=1.0):
                server.prepare()
        self._define_programs()
        supervisor.start(*(name for name in self.servers if name not in self._joining()))

    def await_stores(self) -> None:
        """Wait until the stores answer; Cassandra's nodes join one after the other, as they must."""
        for name in sorted(self.servers, key=lambda name: name in self._joining()):
            if name in self._joining():
                supervisor.start(name)
            server = self.servers[name]
            with step(f"start {name}"):
                server.wait_until_ready(seconds=300, alive=coming(name), log=log_of(name))
        self.servers[REPLICA].replicate_from(self.servers[PRIMARY])

    def start_scheduling(self) -> None:
        super().start_scheduling()
        with step("start Celery's workers"):
            waiting.until(
                self._require_workers,
                what="Celery's workers",
                seconds=180,
                errors=(_NoWorker,),
                alive=lambda: all(coming(name)() for name in self._workers()),
                log=str(LOGS),
            )

    def _require_workers(self) -> None:
        from celery import Celery

        with Celery(broker=self.servers[REDIS].url) as app:
            answers = app.control.ping(timeout=2)
        if len(answers) < CELERY_WORKERS:
            raise _NoWorker(f"{len(answers)} of {CELERY_WORKERS} answer")

    def ports_of(self, store: str) -> set[int]:
        """Of all its nodes."""
        return {server.port for name, server in self.servers.items() if supervisor.kind_of(name) == store}

    def temporary_folders(self) -> list[Path]:
        """Where tasks keep what they need while they run."""
        return [_home(worker) / "tmp" for worker in self._workers()]

    @staticmethod
    def _joining() -> list[str]:
        return [f"cassandra-{number}" for number in range(2, len(NODES) + 1)]

    @classmethod
    def _workers(cls) -> list[str]:
        return [name for name in cls.late if name.startswith("celery-worker")]

    def _settings_of_celery(self) -> dict[str, str]:
        return {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CELERY__BROKER_URL": self.servers[REDIS].url,
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{self.env[postgres.SETTING]}",
            "AIRFLOW__CELERY__WORKER_CONCURRENCY": str(_TASKS),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_SIZE": "3",  # twice as many processes share the server's connections
        }

    def _programs(self) -> list[Program]:
        one = {program.name: program for program in super()._programs()}
        airflow = one.pop("scheduler").command
        schedulers = [self._airflow(name, airflow, 90) for name in self.late if name.startswith("scheduler")]
        stores = [
            Program(name, [*_in_group(group_of(name)), *server.command()], 10, env=_environment_of(server))
            for name, server in self.servers.items()
        ]
        return [*one.values(), *schedulers, *map(self._worker, self._workers()), *stores]

    def _worker(self, name: str) -> Program:
        """A Celery worker with a home, a copy of the project and temporary files of its own."""
        home = _home(name)
        own = {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(home / "project" / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(home / "project" / "plugins"),
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
            "PYTHONPATH": str(home / "project"),
            "TMPDIR": str(home / "tmp"),
            "C_FORCE_ROOT": "1",
        }
        # The server for logs would listen on every interface.
        command = [str(VENV / "bin" / "airflow"), "celery", "worker", "--celery-hostname", name, "--skip-serve-logs"]
        return Program(name, command, 90, env={**self.env, **own}, directory=home / "project")


def _environment_of(server: Server) -> dict[str, str]:
    """What a store sees: no connection."""
    spark = {name: value for name, value in (server.environment() or {}).items() if name.startswith("SPARK_")}
    return {**environment.bare(), **spark, "JAVA_HOME": os.environ.get("JAVA_HOME", ""), MARK: str(STATE)}


class _NoWorker(Exception):
    """A worker that is still coming."""


def group_of(name: str) -> int | None:
    """The group that only this node of Cassandra runs in: by it the kernel tells its packets from those of others."""
    if supervisor.kind_of(name) != "cassandra" or os.geteuid() != 0:
        return None
    return _FIRST_GROUP + int(name.rpartition("-")[2])


def _in_group(group: int | None) -> list[str]:
    return ["setpriv", "--regid", str(group), "--clear-groups"] if group else []


def _home(worker: str) -> Path:
    """Short: a path below it is that of a socket."""
    return STATE / worker.replace("celery-worker", "worker")


def _servers(passwords: Mapping[str, str]) -> dict[str, Server]:
    """All servers but PostgreSQL, in the order in which they start."""
    lake = {"port": free_port(), "storage_port": free_port(), "passwords": connections.lake_passwords(passwords)}
    member = cassandra.Member(NODES, DATA / "internode.p12")
    quorum = kafka.Quorum(kafka.new_cluster_id(), tuple(free_port() for _ in range(BROKERS)))
    accounts = connections.warehouse_passwords(passwords)
    secret = secrets.token_urlsafe(24)
    master = spark_standalone.Master(DATA / MASTER, free_port(), web_port=free_port(), secret=secret)
    return {
        **{
            f"cassandra-{number}": cassandra.Node(
                DATA / f"cassandra-{number}", host=address, member=member, heap_mb=384, throw_away=True, **lake
            )
            for number, address in enumerate(NODES, 1)
        },
        **{
            f"kafka-{number}": kafka.Broker(
                DATA / f"kafka-{number}",
                free_port(),
                connections.broker_passwords(passwords),
                controller_port=port,
                quorum=quorum,
                node_id=number,
            )
            for number, port in enumerate(quorum.controller_ports, 1)
        },
        PRIMARY: mariadb.Server(DATA / PRIMARY, free_port(), accounts, replication="primary"),
        REPLICA: mariadb.Server(DATA / REPLICA, free_port(), accounts, replication="replica"),
        MASTER: master,
        **{
            f"spark-worker-{number}": spark_standalone.Worker(
                DATA / f"spark-worker-{number}",
                free_port(),
                web_port=free_port(),
                secret=secret,
                master_url=master.url,
                cores=_SPARK_CORES,
                memory_mb=_SPARK_MEMORY,
            )
            for number in range(1, SPARK_WORKERS + 1)
        },
        REDIS: redis.Redis(DATA / REDIS, free_port(), {redis.ACCOUNT: secrets.token_urlsafe(24)}),
    }


def _connections(servers: Mapping[str, Server], passwords: Mapping[str, str]) -> dict[str, str]:
    """Variables of all connections, which a deployment would set itself."""
    ports = {name: server.port for name, server in servers.items()}
    warehouse, replica = (connections.warehouse(passwords, ports[name]) for name in (PRIMARY, REPLICA))
    bi = connections.variable("warehouse_bi")
    return {
        **connections.lake(passwords, ports["cassandra-1"], hosts=NODES, local_dc="datacenter1"),
        **warehouse,
        bi: replica[bi],
        **connections.broker(passwords, *(port for name, port in ports.items() if name.startswith("kafka"))),
        **connections.spark(servers[MASTER].url, _SHARE, servers[MASTER].secret),
    }
