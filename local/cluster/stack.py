"""The programs of the cluster: three Cassandra nodes, three brokers, a warehouse with a replica, a Spark cluster, Redis,
and Airflow with two schedulers and two Celery workers that share no files except task logs.

To Airflow these are external stores: connections name all nodes, and account bi reads the replica.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from include.lake import cluster
from local import connections, environment, supervisor, waiting
from local.cluster.servers import NODES, group_of, new_servers
from local.environment import MARK
from local.isolation import copy_to
from local.layout import DATA, LOGS, STATE, VENV
from local.progress import step
from local.servers import postgres
from local.servers.server import Server
from local.start import Stack, log_of
from local.supervisor import Program

SCHEDULERS, CELERY_WORKERS = ("scheduler-1", "scheduler-2"), ("celery-worker-1", "celery-worker-2")
_TASKS_PER_WORKER = 6


class Cluster(Stack):
    """A stack of many nodes. The stack's state is in a separate folder: see local/isolation.py."""

    late = (*SCHEDULERS, *CELERY_WORKERS, "triggerer")

    def __init__(self) -> None:
        DATA.mkdir(mode=0o700, parents=True, exist_ok=True)
        passwords = connections.new_passwords()
        self.servers = new_servers(passwords)
        self.programs = self.servers.by_program()
        os.environ |= self.servers.connections(passwords) | {cluster.SETTING: str(len(NODES))}
        super().__init__()
        self.env |= self._celery_settings()
        for worker in CELERY_WORKERS:
            copy_to(_home(worker) / "project")  # in a deployment, the worker's image contains the project
            (_home(worker) / "tmp").mkdir()

    def start_stores(self) -> None:
        """Start all stores but the Cassandra nodes that join later; return before the stores answer."""
        with step("create the data folders"):
            for server in self.programs.values():
                server.prepare()
        self._define_programs()
        supervisor.start(*(name for name in self.programs if name not in self._joining_nodes))

    def await_stores(self) -> None:
        """Wait until the stores answer; Cassandra's nodes can only join one after the other."""
        for name in sorted(self.programs, key=self._joining_nodes.__contains__):
            if name in self._joining_nodes:
                supervisor.start(name)
            with step(f"start {name}"):
                self.programs[name].wait_until_ready(
                    seconds=300, alive=partial(supervisor.is_up_or_starting, name), log=log_of(name)
                )
        self.servers.replica.replicate_from(self.servers.primary)

    def start_scheduling(self) -> None:
        super().start_scheduling()
        with step("start Celery's workers"):
            waiting.until(
                self.require_workers,
                what="Celery's workers",
                seconds=180,
                errors=(_WorkersNotReady,),
                alive=lambda: all(map(supervisor.is_up_or_starting, CELERY_WORKERS)),
                log=str(LOGS),
            )

    def ports_of(self, store: str) -> set[int]:
        """The ports of all nodes of a store."""
        return {server.port for name, server in self.programs.items() if supervisor.kind_of(name) == store}

    @staticmethod
    def temporary_folders() -> list[Path]:
        return [_home(worker) / "tmp" for worker in CELERY_WORKERS]

    @property
    def _joining_nodes(self) -> list[str]:
        return [node.home.name for node in self.servers.nodes[1:]]

    def require_workers(self) -> None:
        """Raise an error unless every Celery worker answers."""
        from celery import Celery

        with Celery(broker=self.servers.redis.url) as app:
            answers = app.control.ping(timeout=2)
        if len(answers) < len(CELERY_WORKERS):
            raise _WorkersNotReady(f"{len(answers)} of {len(CELERY_WORKERS)} answer")

    def _celery_settings(self) -> dict[str, str]:
        return {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CELERY__BROKER_URL": self.servers.redis.url,
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{self.env[postgres.SETTING]}",
            "AIRFLOW__CELERY__WORKER_CONCURRENCY": str(_TASKS_PER_WORKER),
        }

    def _programs(self) -> list[Program]:
        by_name = {program.name: program for program in super()._programs()}
        scheduler = by_name.pop("scheduler").command
        schedulers = [self._airflow(name, scheduler, 90) for name in SCHEDULERS]
        return [
            *by_name.values(),
            *schedulers,
            *(_worker_program(name, self.env) for name in CELERY_WORKERS),
            *map(_program_of, self.programs.values()),
        ]


def _program_of(server: Server) -> Program:
    """The program of a store, without connections in its environment."""
    group = group_of(server)
    group_prefix = ["setpriv", "--regid", str(group), "--clear-groups"] if group else []
    spark = {name: value for name, value in (server.environment() or {}).items() if name.startswith("SPARK_")}
    env = {**environment.bare(), **spark, "JAVA_HOME": os.environ.get("JAVA_HOME", ""), MARK: str(STATE)}
    return Program(server.home.name, [*group_prefix, *server.command()], 10, env=env)


def _worker_program(name: str, env: dict[str, str]) -> Program:
    """A Celery worker with its own home, copy of the project and temporary files. Task logs are in the API server's folder."""
    home = _home(name)
    worker_env = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "project" / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(home / "project" / "plugins"),
        "PYTHONPATH": str(home / "project"),
        "TMPDIR": str(home / "tmp"),
        "C_FORCE_ROOT": "1",
    }
    # A log server would listen on every interface; the API server reads the logs from their folder.
    command = [str(VENV / "bin" / "airflow"), "celery", "worker", "--celery-hostname", name, "--skip-serve-logs"]
    return Program(name, command, 90, env={**env, **worker_env}, directory=home / "project")


def _home(worker: str) -> Path:
    """A short path, because sockets are under it."""
    return STATE / worker.replace("celery-worker", "worker")


class _WorkersNotReady(Exception):
    """Not every worker answers yet."""
