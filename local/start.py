"""`make run` and `make services`: everything from an installed project to its first merged minute.

Slow steps run in parallel: Cassandra starts while Airflow's database is created, and Airflow while the schema is applied.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import datetime as dt
import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

import yaml

from include import env_file
from include.errors import MinutemarkError
from include.lake.change_log import changed_days
from include.lake.session import lake
from include.operations import setup
from include.pipelines import all_pipelines
from include.warehouse.session import value
from local import airflow_api, connections, environment, login, ports, supervisor, waiting, warehouse
from local.layout import AIRFLOW_HOME, DATA, LOGS, ROOT, STATE, VENV
from local.problems import Problem
from local.progress import say, step
from local.servers import bigquery_emulator, cassandra, kafka, mariadb, mysql, postgres
from local.supervisor import Program

CASSANDRA, MARIADB, MYSQL, KAFKA, POSTGRES = "cassandra", "mariadb", "mysql", "kafka", "postgres"
BIGQUERY = bigquery_emulator.NAME
MIGRATION, SPARK_ARCHIVE = "airflow-migrate", "spark-archive"
CLEANING = "airflow-clean"
# EARLY programs need no store. LATE programs run tasks and triggers, so they wait until the stores answer.
EARLY, LATE = ("api-server", "dag-processor"), ("scheduler", "triggerer")

_BI = connections.variable("warehouse_bi")
_PORTS = {
    CASSANDRA: ("CASSANDRA_PORT", "CASSANDRA_STORAGE_PORT"),
    MARIADB: ("MARIADB_PORT",),
    MYSQL: ("MARIADB_PORT",),
    KAFKA: ("KAFKA_PORT", "KAFKA_CONTROLLER_PORT"),
    POSTGRES: ("POSTGRES_PORT",),
    BIGQUERY: ("BIGQUERY_PORT",),
}

# Beside the database that these files describe.
_UNPAUSED = DATA / POSTGRES / "unpaused"
_MIGRATED = DATA / POSTGRES / "database-of"


def _with_settings(program: Program, configuration: str) -> Program:
    """The program with a digest of its configuration in its environment, so that a change restarts it."""
    digest = hashlib.sha256(configuration.encode()).hexdigest()
    return dataclasses.replace(program, env={**program.env, "MINUTEMARK_STORE_SETTINGS": digest})


class Stack:
    """The processes of one project folder, with the ports and the environment they share."""

    early, late = EARLY, LATE

    def __init__(self) -> None:
        STATE.mkdir(parents=True, exist_ok=True)
        self.ports = ports.chosen()
        self.environment = environment.prepare(self.ports)
        self.warehouse = self.environment.warehouse
        if self.warehouse == MYSQL and not self.environment.external_warehouse:
            mysql.fetch()
        self.env = environment.airflow_environment(self.environment, self.ports)
        self.airflow = airflow_api.Airflow(self.ports["AIRFLOW_PORT"])
        self.stopped: dict[str, list[str]] = {}
        self._is_supervised = False
        self.first_runs: list[str] = []  # the minute DAGs whose first run belongs to this start

    @property
    def airflow_programs(self) -> tuple[str, ...]:
        return self.early + self.late

    def ports_of(self, store: str) -> set[int]:
        """The ports that clients of a store connect to."""
        return {self.ports[_PORTS[store][0]]}

    @staticmethod
    def temporary_folders() -> list[Path]:
        """The folders of tasks' temporary files."""
        return [Path(tempfile.gettempdir())]

    def start_stores(self) -> None:
        """Start the stores that are not the user's own; return before they answer."""
        stores = self._stores()
        if BIGQUERY in stores:
            bigquery_emulator.install()
        self._require_ports({name: _PORTS[name] for name in stores})
        self._define_programs()
        for name in stores:
            if name in (self.warehouse, KAFKA):  # `_program_of_store` has prepared Cassandra
                with step(f"create the data folder of {self._server(name).name}", min_seconds=1.0):
                    self._server(name).prepare()
            supervisor.start(name)

    def await_stores(self) -> None:
        """Wait until the stores answer, and make their accounts."""
        for name in sorted(self._stores(), key=lambda name: name == CASSANDRA):  # the slowest one last
            server, seconds = self._server(name), 600 if name == CASSANDRA else 180
            with step(f"start {server.name}"):
                server.wait_until_ready(
                    seconds=seconds, alive=partial(supervisor.is_up_or_starting, name), log=log_of(name)
                )

    def apply_schema(self) -> None:
        """Apply the schema, as the DAG minutemark_setup does in other deployments."""
        env_file.use(self.environment.variables)
        with step("apply the schema of lake and warehouse"):
            try:
                setup.set_up()
            except Exception as error:
                problem = str(error) if isinstance(error, MinutemarkError) else f"{type(error).__name__}: {error}"
                remedy = "Fix the cause, then run the same command again. It continues from here."
                raise Problem("Schema of lake and warehouse", problem, remedy) from error

    def start_airflow(self) -> None:
        """Create Airflow's database and start the programs that need no store."""
        self._require_ports({"api-server": ("AIRFLOW_PORT",)})
        AIRFLOW_HOME.mkdir(mode=0o700, parents=True, exist_ok=True)
        login.make_passwords(self.env)
        self.start_metadata()
        self._migrate()
        supervisor.start(*self.early)

    def login_hint(self) -> str:
        """How users log in to Airflow."""
        if not login.is_required(self.env):
            return f"{login.SETTING}=none: every user of this machine is an administrator of Airflow."
        return "Log in as {username}, password {password}.".format(**login.credentials())

    def start_scheduling(self) -> None:
        """Start the programs that run tasks, once the stores are ready; return when all of Airflow is healthy."""
        supervisor.start(*self.late)
        with step("start Airflow"):
            waiting.until(
                self.require_health,
                what=f"Airflow on {self.airflow.url}",
                seconds=600,
                errors=(OSError, ValueError, _NotYet),
                alive=lambda: all(map(supervisor.is_up_or_starting, self.airflow_programs)),
                log=str(LOGS),
            )

    def start_metadata(self) -> None:
        """Start PostgreSQL, with databases for Airflow's metadata and the lakehouse's catalog.

        The Airflow of `make run` and that of `astro dev start --standalone` have separate databases.
        """
        self._require_ports({POSTGRES: _PORTS[POSTGRES]})
        self._define_programs()
        server = self._server(POSTGRES)
        if not supervisor.is_up_or_starting(POSTGRES):
            with step(f"create the data folder of {server.name}", min_seconds=1.0):
                server.prepare()
            supervisor.start(POSTGRES)
        with step(f"start {server.name}"):
            server.wait_until_ready(alive=partial(supervisor.is_up_or_starting, POSTGRES), log=log_of(POSTGRES))

    def _migrate(self) -> None:
        """Create Airflow's database, or upgrade it if another version made it."""
        version = _installed_airflow()
        if _MIGRATED.is_file() and _MIGRATED.read_text() == version:
            return
        with step("create or upgrade Airflow's database"):
            supervisor.start(MIGRATION)
            supervisor.wait_for_exit(MIGRATION, 600)
        _MIGRATED.write_text(version)

    def require_health(self) -> None:
        """Raise an error unless every program of Airflow runs, and every component is healthy."""
        sick = [name for name, state in self.airflow.health().items() if state not in ("healthy", None)]
        running = {process["name"] for process in supervisor.processes() if process["statename"] == "RUNNING"}
        sick += [name for name in self.airflow_programs if name not in running]
        if sick:
            raise _NotYet(", ".join(sick))

    def start_pipelines(self) -> None:
        """Create the pools, start ingest and demo traffic, and start a first run of every pipeline that is not paused.

        The other DAGs wait: they would compete for the cores.
        """
        minute_dags = [f"{name}_minute" for name in all_pipelines()]
        with airflow_api.explained():
            for pool in _declared_pools():
                self.airflow.make_pool(pool["pool_name"], pool["pool_slot"], pool.get("pool_description", ""))
            with step("load the DAGs"):
                paused = waiting.until(
                    lambda: self._require_dags(minute_dags),
                    what="Airflow's DAGs",
                    seconds=90,
                    errors=(OSError, _NotYet),
                    log=log_of("dag-processor"),
                )
            traffic = {name: state for name, state in paused.items() if name.endswith("_demo_traffic")}
            # The DAGs that follow the topics start together with those that fill them.
            self._unpause(traffic | {name: state for name, state in paused.items() if name.endswith("_ingest")})
            if traffic:
                with step("send the first demo events"):
                    self._await_events()
            unpaused = self._unpause({name: is_paused for name, is_paused in paused.items() if name in minute_dags})
            # A run of a DAG that a user has paused would only be queued.
            self.first_runs = [dag_id for dag_id in minute_dags if dag_id in unpaused or not paused[dag_id]]
            if idle := [dag_id for dag_id in minute_dags if dag_id not in self.first_runs]:
                say(f"   No first run, because the DAG is paused in Airflow: {', '.join(idle)}")
            for dag_id in self.first_runs:
                self._require_run(dag_id)

    @staticmethod
    def _await_events() -> None:
        """Wait for events in the lake: a run that finds none would delay the first merge to the next run."""
        with lake() as session:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                if any(changed_days(session, pipeline.lake_table) for pipeline in all_pipelines().values()):
                    return
                time.sleep(0.25)

    def start_other_dags(self) -> None:
        """Unpause the other DAGs after the first run, which needs all cores; the demo's history comes before housekeeping."""
        with airflow_api.explained():
            dags = self.airflow.dags()
            history_dags = self._unpause(
                {name: is_paused for name, is_paused in dags.items() if name.endswith("_demo_past")}
            )
            if history_dags:
                with step("send the demo's history"):
                    self._await_runs(history_dags, 120)
            self._unpause(dags)

    def _await_runs(self, dag_ids: list[str], seconds: float) -> None:
        """Wait until each DAG has a finished run, or the time is up: without these runs, the boards merely have gaps."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            newest = [self.airflow.runs(dag_id, 1) for dag_id in dag_ids]
            if all(runs and runs[0]["state"] in ("success", "failed") for runs in newest):
                return
            time.sleep(1)

    def _require_run(self, dag_id: str) -> None:
        """An unpaused DAG usually starts a run of the latest minute by itself; if it does not, start one."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            if any(run["state"] in ("running", "queued") for run in self.airflow.runs(dag_id, 1)):
                return
            time.sleep(0.5)
        self.airflow.trigger(dag_id, "First run, by make run")

    def _require_dags(self, dag_ids: list[str]) -> dict[str, bool]:
        if broken := self.airflow.import_errors():
            file, error = next(iter(broken.items()))
            raise Problem(f"DAG file {file}", error, "Fix it, then run `make run` again.")
        dags = self.airflow.dags()
        if absent := [dag_id for dag_id in dag_ids if dag_id not in dags]:
            raise _NotYet(f"not there yet: {', '.join(absent)}")
        return dags

    def _unpause(self, paused: Mapping[str, bool]) -> list[str]:
        """Unpause each DAG only once per database of Airflow: a DAG that is paused later stays paused after the next start."""
        known_dags = set(_UNPAUSED.read_text().split()) if _UNPAUSED.exists() else set()
        new_dags = [dag_id for dag_id, is_paused in paused.items() if is_paused and dag_id not in known_dags]
        for dag_id in new_dags:
            self.airflow.unpause(dag_id)
        _UNPAUSED.write_text("\n".join(sorted(known_dags | set(paused))) + "\n")
        return new_dags

    def _stores(self) -> list[str]:
        external = {
            CASSANDRA: self.environment.external_lake,
            self.warehouse: self.environment.external_warehouse,
            KAFKA: self.environment.external_kafka or not self.environment.ingest,
            BIGQUERY: not bigquery_emulator.is_local(self.environment.variables),
        }
        return [name for name, is_external in external.items() if not is_external]

    def _require_ports(self, names: Mapping[str, tuple[str, ...]]) -> None:
        """Raise Problem unless the ports of programs that do not run yet are free."""
        if supervisor.running():
            self._define_programs()  # stops programs that run with another port, or in place of these
        for program, needed in names.items():
            if not supervisor.running() or not supervisor.is_up_or_starting(program):
                ports.require_free(self.ports, needed)
        ports.save(self.ports)

    def _define_programs(self) -> None:
        """Hand the programs to the supervisor, which stops those that run with another command or environment.

        Raises Problem if `make stop` in another terminal has ended the supervisor that this start has used.
        """
        if self._is_supervised and not supervisor.running():
            raise supervisor.stopped_elsewhere("The stack")
        self._is_supervised = True
        stopped = supervisor.ensure(self._programs())
        by_reason: dict[tuple[str, ...], list[str]] = {}
        for name, differences in stopped.items():
            by_reason.setdefault(tuple(differences), []).append(name)
        for differences, names in by_reason.items():
            if differences:
                say(f"   Restarting {', '.join(names)}: {', '.join(differences)} changed")
            else:
                say(f"   Stopped {', '.join(names)}: no longer part of this stack")
        if _BI in {name for differences in stopped.values() for name in differences}:
            self._warn_superset_user()
        self.stopped |= stopped

    @staticmethod
    def _warn_superset_user() -> None:
        if supervisor.is_up_or_starting("superset"):
            say(f"   Superset still has the old {_BI}: run `make dashboards` again.")

    def resume(self) -> None:
        """Restart programs of Airflow that a change has stopped; `make run` starts everything anyway."""
        supervisor.start(*(name for name in (*self.airflow_programs, CLEANING) if name in self.stopped))

    def _programs(self) -> list[Program]:
        python = str(VENV / "bin" / "python")
        airflow = str(VENV / "bin" / "airflow")
        port = str(self.ports["AIRFLOW_PORT"])
        programs = [
            # INT to the server alone: it ends its sessions and writes what is left; TERM would wait for every client.
            self._store(POSTGRES, self._server(POSTGRES).command(), 20, as_group=False, stop_signal="INT"),
            self._airflow(MIGRATION, [airflow, "db", "migrate"], 50, once=True),
            self._airflow(SPARK_ARCHIVE, ["nice", "-n", "10", python, "-m", "include.spark.warm_start"], 60, once=True),
            self._airflow(CLEANING, [python, "-m", "local.metadata"], 60),
            self._airflow(
                "api-server", [airflow, "api-server", "--host", "127.0.0.1", "--port", port, "--workers", "1"], 70
            ),
            # Logs are read from the files: log servers would listen on every interface.
            self._airflow("scheduler", [airflow, "scheduler", "--skip-serve-logs"], 90),
            self._airflow("dag-processor", [airflow, "dag-processor"], 90),
            self._airflow("triggerer", [airflow, "triggerer", "--skip-serve-logs"], 90),
        ]
        return [*programs, *map(self._program_of_store, self._stores())]

    def _airflow(self, name: str, command: list[str], priority: int, **settings) -> Program:
        return Program(name, command, priority, env=self.env, **settings)

    def _store(self, name: str, command: list[str], priority: int, **settings) -> Program:
        return Program(name, command, priority, env=environment.store_environment(self.ports, _PORTS[name]), **settings)

    def _program_of_store(self, name: str) -> Program:
        server = self._server(name)
        if name == CASSANDRA:
            return _with_settings(self._store(name, server.prepare(), 10), server.configuration_file.read_text())
        program = self._store(name, server.command(), 10)
        if name == KAFKA:
            return _with_settings(program, server.configuration())
        return dataclasses.replace(program, env={**program.env, **server.variables()}) if name == BIGQUERY else program

    def _server(self, name: str):
        """The server of that name, with the ports and passwords of this stack."""
        if home := self.environment.variables.get("JAVA_HOME"):
            os.environ["JAVA_HOME"] = home
        if name == BIGQUERY:
            return environment.emulator(self.ports, self.environment.variables[bigquery_emulator.TOKEN])
        kind, passwords, *more = {
            CASSANDRA: (cassandra.Node, connections.lake_passwords, "storage_port"),
            MARIADB: (mariadb.Server, connections.warehouse_passwords),
            MYSQL: (mysql.Server, connections.warehouse_passwords),
            KAFKA: (kafka.Broker, connections.broker_passwords, "controller_port"),
            POSTGRES: (postgres.Server, connections.postgres_passwords),
        }[name]
        places: dict[str, Any] = dict(zip(("port", *more), (self.ports[port] for port in _PORTS[name]), strict=True))
        return kind(DATA / name, passwords=passwords(self.environment.passwords), **places)


class _NotYet(Exception):
    """Something is not ready yet."""


def log_of(name: str) -> str:
    return str(supervisor.log_of(name))


def _installed_airflow() -> str:
    import importlib.metadata

    return importlib.metadata.version("apache-airflow")


def _declared_pools() -> list[dict]:
    """The pools of airflow_settings.yaml, which `astro dev start` applies; one list for every way to run."""
    path = ROOT / "airflow_settings.yaml"
    if not path.exists():
        raise Problem(str(path), "the file is missing", "Restore it. It declares the pools.")
    settings = yaml.safe_load(path.read_text())
    return [pool for pool in settings["airflow"].get("pools") or [] if pool.get("pool_name")]


def wait_for_other_starts() -> IO:
    """Wait until no other command is starting this stack; none can start it until the returned file is closed.

    Two first starts at once would delete each other's data folders and make different passwords.
    """
    STATE.mkdir(parents=True, exist_ok=True)
    lock = (STATE / ".starting").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("   … wait for another `make run` or `make services` to finish starting")
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def services() -> None:
    """Start only the stores and Airflow's database, before `astro dev start --standalone`."""
    with wait_for_other_starts():
        stack = Stack()
        stack.start_stores()
        stack.start_metadata()
        stack.await_stores()
        stack.apply_schema()
        stack.resume()
    for name in (*stack._stores(), POSTGRES):
        say(f"   {name} listens on 127.0.0.1:{stack.ports[_PORTS[name][0]]}")
    say("Load the connections with `source .local/env`. `make stop` stops the stores.")


def run(make_stack: Callable[[], Stack] = Stack) -> Stack:
    """Start everything, including the first run of each pipeline. Raises Problem."""
    began = time.monotonic()
    stack = make_stack()
    stack.start_stores()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        airflow = pool.submit(stack.start_airflow)
        try:
            stack.await_stores()
            stack.apply_schema()
        finally:
            concurrent.futures.wait([airflow])
        airflow.result()
    stack.start_scheduling()
    stack.start_pipelines()
    say(f"   Airflow: {stack.airflow.url}   ({time.monotonic() - began:.0f} s since the start)")
    say(f"   {stack.login_hint()}")
    return stack


def await_first_merge(stack: Stack, since: dt.datetime, seconds: float) -> bool:
    """Wait until a batch is merged, or the first runs succeed because nothing has changed since the last merge.

    True at once if every minute DAG is paused. False if neither happens in time, which is not an error.
    """
    if not stack.first_runs:
        return True
    deadline = time.monotonic() + seconds
    began = time.monotonic()
    say("   … complete the first run, from the lake to the warehouse")
    while time.monotonic() < deadline:
        # Checked before the newest merge is read: otherwise, a run that merges in between would look like a run without changes.
        with airflow_api.explained():
            have_succeeded = all(_has_succeeded(stack, dag_id) for dag_id in stack.first_runs)
        with warehouse.reader() as connection:
            merged_at = value(connection.cursor(), "SELECT MAX(merged_at) FROM etl.batches")
        if merged_at and merged_at >= since:
            say(f"   ✓ complete the first run, from the lake to the warehouse  {time.monotonic() - began:.1f} s")
            return True
        if have_succeeded:
            say("   ✓ first run: the lake has not changed since the last merge")
            return True
        for name in stack.airflow_programs:
            supervisor.require_up_or_starting(name)
        time.sleep(0.5)
    return False


def _has_succeeded(stack: Stack, dag_id: str) -> bool:
    """Whether the newest run has succeeded; raises Problem if it has failed."""
    for run in stack.airflow.runs(dag_id, 1):
        if run["state"] == "failed":
            task = stack.airflow.failed_task(dag_id, run["dag_run_id"])
            remedy = f"Open {stack.airflow.url}/dags/{dag_id}, or read {AIRFLOW_HOME / 'logs'}."
            raise Problem(f"First run of {dag_id}", f"task {task} failed", remedy)
        return run["state"] == "success"
    return False
