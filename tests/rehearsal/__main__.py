"""`make rehearse`: start what `astro dev start` starts, as processes instead of Docker, and verify both pipelines.

The services, their commands, variables, order and health checks come from docker-compose.override.yml and
astro-compose.yml, the connections and pools from airflow_settings.yaml. Each image has a stand-in (machine.py): the
same software from `.local/`. The processes run in a sandbox (sandbox.py), under the containers' names and on their
ports. docs/deploy.md lists what the rehearsal does not cover.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.error import HTTPError

import yaml

from include.errors import MinutemarkError
from local import airflow_api
from local.layout import ROOT, SPARK_JARS
from local.problems import Problem
from local.process import free_port
from local.progress import say, step
from tests.rehearsal import sandbox
from tests.rehearsal.machine import HOME, LEFT_OUT, Machine, planned

SETTINGS = ROOT / "airflow_settings.yaml"

_AIRFLOW_PORT = 8080
_NAMES = ("conn_id", "conn_type")
_PATIENCE = 600.0  # seconds until both pipelines are fresh
_POISON = {"events": 200, "poison": 0.2, "broken": 0.05, "duplicate": 0.1, "late": 0.1}


# Outside the sandbox


def main() -> int:
    """Run the rehearsal in a sandbox; KEEP=1 keeps it until Ctrl-C. Returns its exit status. Raises MinutemarkError."""
    planned(os.environ)  # here too: a file that cannot be read is reported before anything starts
    port = int(os.environ.get("AIRFLOW_PORT") or free_port())
    # For sockets: a path below the project may be too long for them.
    folder = tempfile.mkdtemp(prefix="minutemark-rehearsal-")
    shutil.rmtree(HOME, ignore_errors=True)
    _make_archive()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with sandbox.outside_listener(port) as listener:
            command = sandbox.python("tests.rehearsal", str(listener.fileno()), str(port), folder)
            status = sandbox.run(command, keep_open=[listener.fileno()])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if status == 0:
        shutil.rmtree(HOME, ignore_errors=True)
    return status


def _make_archive() -> None:
    """Make the class archive for Spark, as the build of the image does."""
    from include.spark import warm_start

    os.environ.setdefault("MINUTEMARK_SPARK_JARS", str(SPARK_JARS))
    with step("class archive for Spark, as in the image"):
        warm_start.main()


# Inside: Airflow, as the Astro CLI and a new user see it


def apply_settings(airflow: airflow_api.Airflow) -> None:
    """Create pools and connections through the REST API, as the Astro CLI does from airflow_settings.yaml."""
    for pool in _settings()["pools"]:
        airflow.make_pool(pool["pool_name"], pool["pool_slot"], pool["pool_description"])
    for conn_id, fields in _connections().items():
        airflow.make_connection(conn_id, fields)


def connection_variables() -> dict[str, str]:
    """The same connections for programs outside Airflow."""
    return {f"AIRFLOW_CONN_{conn_id.upper()}": json.dumps(fields) for conn_id, fields in _connections().items()}


def _settings() -> dict:
    return yaml.safe_load(SETTINGS.read_text())["airflow"]


def _connections() -> dict[str, dict]:
    """The fields of each connection, under the names that Airflow has for them."""
    connections = {}
    for declared in _settings()["connections"]:
        others = {name.removeprefix("conn_"): value for name, value in declared.items() if name not in _NAMES}
        connections[declared["conn_id"]] = {"conn_type": declared["conn_type"], **others}
    return connections


def _rehearse(machine: Machine, airflow: airflow_api.Airflow) -> None:
    machine.start()
    machine.await_up("api-server", "scheduler", "triggerer", "dag-processor")
    _until(machine, "Airflow to answer", lambda: airflow.health()["scheduler"] == "healthy")
    machine.note("Airflow answers")
    apply_settings(airflow)
    machine.note("airflow_settings.yaml is applied")
    _until(machine, "minutemark_setup", lambda: _state_of(airflow, "minutemark_setup") == "success")
    machine.note("minutemark_setup has succeeded")
    _until(machine, "both pipelines to be fresh", _progress(machine, airflow))
    say(f"Both pipelines are fresh {machine.seconds():.0f} s after the start of the services.")
    machine.await_up(*machine.services)
    _poison(machine)
    _verify(machine, airflow)


def _progress(machine: Machine, airflow: airflow_api.Airflow) -> Callable[[], bool]:
    """Read the Pipelines page and print what is new; true once each pipeline has merged something and is fresh."""
    from include.pipelines import all_pipelines

    waiting = {(name, state) for name in all_pipelines() for state in ("merged", "fresh")}

    def poll() -> bool:
        for pipeline in airflow.get("/minutemark/api/pipelines")["pipelines"]:
            reached = {
                "merged": pipeline["last_merged_at"],
                "fresh": pipeline["last_merged_at"] and pipeline["state"] == "fresh",
            }
            for name, state in sorted(waiting, reverse=True):  # merged before fresh
                if name == pipeline["pipeline"] and reached[state]:
                    machine.note(f"{name} is {state}")
                    waiting.discard((name, state))
        return not waiting

    return poll


def _state_of(airflow: airflow_api.Airflow, dag_id: str) -> str | None:
    return next((run["state"] for run in airflow.runs(dag_id, 1)), None)


def _poison(machine: Machine) -> None:
    """Send broken, late and duplicate events and messages that cannot be events, and wait until the latter are rejected."""
    from include.demo.traffic import run_traffic
    from include.pipelines import all_pipelines

    os.environ |= machine.services["scheduler"].environment | connection_variables()
    poison = {}
    for name, pipeline in all_pipelines().items():
        until = datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=30)
        poison[name] = run_traffic(pipeline, seconds=2, until=until, **_POISON).poison
        machine.note(f"{name} got {poison[name]} messages that are not events")
    for name, count in poison.items():
        _until(machine, f"rejected messages of {name}", lambda name=name, count=count: _count_rejected(name) >= count)
        machine.note(f"{name} lists these messages as rejected events")


def _count_rejected(pipeline: str) -> int:
    from include.warehouse.session import warehouse

    with warehouse() as conn:
        cursor = conn.cursor()
        cursor.execute("SELECT COUNT(*) FROM etl.rejected_events WHERE pipeline = %s AND origin = 'kafka'", (pipeline,))
        return cursor.fetchone()[0]


def _verify(machine: Machine, airflow: airflow_api.Airflow) -> None:
    dag_id = "minutemark_verify"
    run_id = airflow.trigger(dag_id, "Rehearsal")
    _await_success(machine, airflow, dag_id, run_id)
    machine.note("verify finds no difference")


def _await_success(machine: Machine, airflow: airflow_api.Airflow, dag_id: str, run_id: str) -> None:
    state = _until(
        machine,
        f"run {run_id} of {dag_id}",
        lambda: (result := airflow.run_state(dag_id, run_id)) in ("success", "failed") and result,
    )
    if state == "failed":
        raise Problem(f"DAG {dag_id}", f"run {run_id} failed", f"Read {HOME / 'airflow' / 'logs'}.")


def _until(machine: Machine, what: str, condition: Callable[[], object]):
    """Wait for the first true result; retry while the API does not answer. Raises Problem on timeout."""
    deadline = time.monotonic() + max(60.0, _PATIENCE - machine.seconds())
    while True:
        machine.raise_if_failed()
        last: object = None
        try:
            if result := condition():
                return result
        except (OSError, ValueError, KeyError) as error:
            last = error
        if time.monotonic() > deadline:
            raise Problem(
                "Rehearsal", f"timed out while waiting for {what} ({last})", f"Read the logs in {HOME / 'logs'}."
            )
        time.sleep(0.5)


def _rehearse_in_sandbox(listener: int, port: int, temporary: str) -> int:
    """The rehearsal itself, as the sandbox's only user."""
    os.environ["TMPDIR"] = tempfile.tempdir = temporary
    (HOME / "logs").mkdir(parents=True)
    services = planned(os.environ)
    names = [*services, *LEFT_OUT]
    sandbox.set_up(names, HOME / "hosts")
    sandbox.publish(socket.socket(fileno=listener), _AIRFLOW_PORT)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for name, reason in LEFT_OUT.items():
        say(f"   {name} is left out: {reason}.")
    say(f"   Airflow will be on http://127.0.0.1:{port}, the logs are in {HOME / 'logs'}.")
    machine, airflow = Machine(services, temporary), airflow_api.Airflow(_AIRFLOW_PORT)
    try:
        _rehearse(machine, airflow)
        say(f"The rehearsal took {machine.seconds():.0f} s.")
        if os.environ.get("KEEP"):
            say(f"Airflow is on http://127.0.0.1:{port}. Ctrl-C stops everything.")
            while True:
                signal.pause()
    except (Problem, HTTPError) as error:
        say(f"\n{airflow_api.explain(error) if isinstance(error, HTTPError) else error}")
        return 1
    except KeyboardInterrupt:
        return 130 if not os.environ.get("KEEP") else 0
    finally:
        machine.stop()
    return 0


if __name__ == "__main__":
    if arguments := sys.argv[1:]:
        sys.exit(sandbox.as_init(lambda: _rehearse_in_sandbox(int(arguments[0]), int(arguments[1]), arguments[2])))
    try:
        sys.exit(main())
    except MinutemarkError as problem:
        say(f"\n{problem}")
        sys.exit(1)
