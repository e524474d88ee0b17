"""supervisord: it starts the stack's processes, restarts those that die, rotates their logs, and ends them all.

Nothing starts by itself: `local.start` starts the programs in the order of their dependencies. Each program has
a separate environment in a private file; a running program whose command or environment has changed is stopped, so
that the next start uses the new ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from include.spark import warm_driver
from local import environment
from local.environment import MARK
from local.files import write_private
from local.layout import LOGS, ROOT, RUN, STATE, VENV, socket_path
from local.problems import Problem

STORES = {"bigquery", "cassandra", "kafka", "mariadb", "mariadb-replica", "mysql", "postgres", "redis"}
SPARK_CLUSTER = {"spark-master", "spark-worker"}
API_SERVER = "api-server"
TASK_RUNNERS = {"scheduler", "triggerer", "celery-worker"}
_TASK_SECONDS = 5  # the time that tasks get before they are interrupted
UP_OR_STARTING = ("STARTING", "BACKOFF", "RUNNING")
SPARK_APPLICATION = "/include/spark/run.py"  # in the project, or in a worker's copy of it

_CONFIGURATION = """\
[supervisord]
logfile = {logs}/supervisord.log
logfile_maxbytes = 5MB
logfile_backups = 2
pidfile = {run}/supervisord.pid
childlogdir = {logs}
directory = {root}
identifier = minutemark

[unix_http_server]
file = {socket}
chmod = 0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl = unix://{socket}

[include]
files = {added}/*.conf
"""

_PROGRAM = """
[program:{name}]
command = {launcher} {definition}
# The program does not see this variable: it makes supervisord recognize a changed command or environment.
environment = DEFINITION="{digest}"
directory = {directory}
priority = {priority}
autostart = false
autorestart = {restart}
startsecs = {start_seconds}
startretries = 20
stopwaitsecs = 20
stopsignal = {stop_signal}
stopasgroup = {as_group}
killasgroup = true
redirect_stderr = true
stdout_logfile = {logs}/{name}.log
stdout_logfile_maxbytes = 10MB
stdout_logfile_backups = 3
"""


@dataclass(frozen=True)
class Program:
    """One process of the stack. Lower priorities stop last."""

    name: str
    command: list[str]
    priority: int
    once: bool = False  # a one-off: not restarted when it ends
    as_group: bool = True  # its children get the signal too
    stop_signal: str = "TERM"
    env: Mapping[str, str] = field(default_factory=dict, repr=False)  # its whole environment
    directory: Path | None = None  # its working directory; None: the project's folder

    @property
    def definition(self) -> dict:
        """The content of its private file, which local/launch.py reads."""
        return {"command": self.command, "environment": dict(self.env)}


def kind_of(name: str) -> str:
    """A program's name without the number of its node: `cassandra` for cassandra-1, cassandra-2 …"""
    return re.sub(r"-\d+$", "", name)


def socket() -> Path:
    return socket_path("supervisor.sock", RUN)


def log_of(name: str) -> Path:
    """Where a program's output goes."""
    return LOGS / f"{name}.log"


def running() -> bool:
    """True while a supervisord of this project answers."""
    try:
        return _call().supervisor.getState()["statename"] == "RUNNING"
    except (OSError, xmlrpc.client.Error):
        return False


def ensure(programs: Iterable[Program]) -> dict[str, list[str]]:
    """Start supervisord, or give these definitions to a running one, which stops the programs that they change.

    Returns the programs that it stopped, each with the names of the variables that differ, or "command"; the list
    is empty if the program was removed. `start` starts the changed ones again.
    """
    for folder in (LOGS, RUN):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    configuration = _CONFIGURATION.format(
        logs=_escaped(LOGS),
        run=_escaped(RUN),
        root=_escaped(ROOT),
        socket=_escaped(socket()),
        added=_escaped(_added_folder()),
    )
    path = RUN / "supervisord.conf"
    differences = {program.name: _write_definition(program) for program in programs}
    write_private(path, configuration + "".join(_section(program) for program in programs))
    if running():
        return _reload(differences)
    # Programs that were added to a former supervisord are added to this one when they are next started.
    for old in _added_folder().glob("*.conf"):
        old.unlink()
    command = [str(VENV / "bin" / "supervisord"), "-c", str(path)]
    env = {**environment.bare(), MARK: str(STATE)}
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise Problem("supervisord", done.stdout.strip()[-500:], f"Read {LOGS / 'supervisord.log'}.")
    return {}


def add_programs(*programs: Program) -> None:
    """Add programs that are not part of every stack to the running supervisord."""
    _added_folder().mkdir(mode=0o700, exist_ok=True)
    differences = {program.name: _write_definition(program) for program in programs}
    for program in programs:
        write_private(_added_folder() / f"{program.name}.conf", _section(program))
    _reload(differences)


def _added_folder() -> Path:
    return RUN / "joined"  # the name that running stacks know


def _definition_of(name: str) -> Path:
    return RUN / "programs" / f"{name}.json"


def _write_definition(program: Program) -> list[str]:
    """Write the program's definition; return what differs from the previous one: names of variables, and "command"."""
    path = _definition_of(program.name)
    try:
        previous = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        previous: dict = {"command": program.command, "environment": {}}
    write_private(path, json.dumps(program.definition))
    old, new = map(environment.variables_that_restart, (previous["environment"], program.env))
    changed = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    return changed + (["command"] if previous["command"] != program.command else [])


def _section(program: Program) -> str:
    definition = {"command": program.command, "environment": environment.variables_that_restart(program.env)}
    digest = hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()
    launcher = [sys.executable, "-I", "-S", str(Path(__file__).with_name("launch.py"))]
    return _PROGRAM.format(
        name=program.name,
        launcher=_escaped(subprocess.list2cmdline(launcher)),
        definition=_escaped(subprocess.list2cmdline([str(_definition_of(program.name))])),
        digest=digest,
        directory=_escaped(program.directory or ROOT),
        logs=_escaped(LOGS),
        priority=program.priority,
        restart="false" if program.once else "true",
        start_seconds=0 if program.once else 1,
        stop_signal=program.stop_signal,
        as_group="true" if program.as_group else "false",
    )


def _reload(differences: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Have supervisord read its configuration again; stop the programs that changed or were removed, and their tasks."""
    call = _call().supervisor
    added, changed, removed = call.reloadConfig()[0]
    outdated = {*changed, *removed}
    stopped = {process["name"] for process in processes() if process["statename"] in UP_OR_STARTING} & outdated
    _stop_in_order(stopped, 60)
    for name in outdated:
        call.removeProcessGroup(name)
    for name in (*added, *changed):
        call.addProcessGroup(name)
    return {name: [] if name in removed else differences.get(name) or ["command"] for name in sorted(stopped)}


def start(*names: str) -> None:
    """Start programs, without waiting for them; those that are already running are left alone."""
    for name in names:
        try:
            _call().supervisor.startProcess(name, False)
        except xmlrpc.client.Fault as fault:
            if "ALREADY_STARTED" not in fault.faultString:
                raise Problem(
                    name, f"supervisord cannot start it: {fault.faultString}", f"Read {log_of(name)}."
                ) from fault
        except OSError as error:
            raise stopped_elsewhere(name) from error


def stopped_elsewhere(what: str) -> Problem:
    """The problem if supervisord has ended while a command starts programs."""
    remedy = (
        f"Unless it was stopped in another terminal, read {LOGS / 'supervisord.log'}. Then run the same command again."
    )
    return Problem(what, "supervisord does not run any more", remedy)


def stop(name: str) -> None:
    """Stop a program and wait for its end; supervisord leaves it stopped."""
    _call().supervisor.stopProcess(name, True)


def processes() -> list[dict]:
    """What supervisord knows of each program: name, statename, pid, start, exitstatus.

    Empty if supervisord does not run, or is shutting down.
    """
    try:
        return _call().supervisor.getAllProcessInfo()
    except (OSError, xmlrpc.client.Error):
        return []


def state_of(name: str) -> str:
    return next((process["statename"] for process in processes() if process["name"] == name), "UNKNOWN")


def is_up_or_starting(name: str) -> bool:
    """Whether a program runs or supervisord still tries to start it."""
    return state_of(name) in UP_OR_STARTING


def require_up_or_starting(name: str) -> None:
    """Raise Problem if a program has ended, or supervisord has given up starting it."""
    state = state_of(name)
    if state not in UP_OR_STARTING:
        raise Problem(
            name, f"its state is {state.lower()}; last log line: {last_output(name)}", f"Read {log_of(name)}."
        )


def last_output(name: str) -> str:
    path = log_of(name)
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    error_lines = [line for line in lines[-40:] if "ERROR" in line or "Error" in line or "Exception" in line]
    return (error_lines or lines or ["(none)"])[-1].strip()[:300]


def shut_down(seconds: float = 60) -> list[str]:
    """End the programs, supervisord, and everything they started; return when nothing of the stack runs any more.

    Returns the names of the processes that outlived the program that had started them.
    """
    names = []
    with contextlib.suppress(OSError, xmlrpc.client.Error, psutil.Error):
        supervisord = psutil.Process(_call().supervisor.getPID())
        known = {process["name"] for process in processes()}
        names += _stop_in_order(known, seconds)
        _call().supervisor.shutdown()
        supervisord.wait(seconds)
    return names + _end_leftovers()


def _stop_in_order(names: set[str], seconds: float) -> list[str]:
    """Stop programs, the stores last; returns the names of processes that outlived the program that had started them."""
    # A task that ends reports to the API server. Without it, the task would retry for longer than supervisord waits.
    task_programs = {name for name in names if kind_of(name) not in STORES | SPARK_CLUSTER | {API_SERVER}}
    _request_stop(task_programs)
    if not _wait_until_stopped(task_programs, _TASK_SECONDS):
        _interrupt_tasks(task_programs)
        _wait_until_stopped(task_programs, seconds)
    # Only TASK_RUNNERS run tasks; a restart of any other program leaves a working Spark driver alone.
    leftovers = _end_leftovers() if TASK_RUNNERS & set(map(kind_of, names)) else []
    for kinds in ({API_SERVER}, SPARK_CLUSTER, STORES):
        group = {name for name in names if kind_of(name) in kinds}
        _request_stop(group)
        _wait_until_stopped(group, seconds)
    return leftovers


def _request_stop(names: set[str]) -> None:
    for name in names:
        with contextlib.suppress(xmlrpc.client.Fault):
            _call().supervisor.stopProcess(name, False)


def _wait_until_stopped(names: set[str], seconds: float) -> bool:
    """Whether all of them end within that time."""
    deadline = time.monotonic() + seconds
    while any(process["pid"] for process in processes() if process["name"] in names):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _interrupt_tasks(names: set[str]) -> None:
    """Interrupt the children of these programs that have their own process groups: Airflow's tasks, which ignore SIGTERM."""
    for program in [process["pid"] for process in processes() if process["name"] in names and process["pid"]]:
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(program).children(recursive=True):
                with contextlib.suppress(psutil.Error, ProcessLookupError):
                    if os.getpgid(child.pid) != os.getpgid(program):
                        child.send_signal(signal.SIGINT)


def _end_leftovers(seconds: float = 5) -> list[str]:
    """End all processes of this stack that do not descend from supervisord: Spark drivers, and tasks in sessions of their own."""
    names = []
    while leftovers := _leftovers():
        driver_pids = {process.pid for driver in spark_drivers() for process in with_children(driver)}
        names += [f"{process.info['name']} ({process.pid})" for process in leftovers if process.pid not in driver_pids]
        for process in leftovers:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        _, survivors = psutil.wait_procs(leftovers, timeout=seconds)
        for process in survivors:
            with contextlib.suppress(psutil.Error):
                process.kill()
        if psutil.wait_procs(survivors, timeout=5)[1]:
            break  # not even SIGKILL ends a process that waits for a disk
    warm_driver.sweep()
    return names


def _leftovers() -> list:
    """Marked processes that are not descendants of supervisord."""
    supervised: set[int] = set()
    with contextlib.suppress(OSError, xmlrpc.client.Error, psutil.Error):
        supervisord = psutil.Process(_call().supervisor.getPID())
        supervised = {supervisord.pid, *(child.pid for child in supervisord.children(recursive=True))}
    return [process for process in marked_processes() if process.pid not in supervised]


def marked_processes(state: Path | None = None) -> Iterator:
    """Processes whose environment has the mark of this stack, or of the stack in another folder."""
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK) == str(state or STATE):
                yield process


def spark_drivers() -> list:
    """The JVMs of warm Spark drivers, which tasks start, not supervisord."""
    drivers = []
    for process in marked_processes():
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            is_ours = any(argument.endswith(SPARK_APPLICATION) for argument in command)
            if "--keep" in command and is_ours and process.name() == "java":
                drivers.append(process)
    return drivers


def with_children(process: psutil.Process) -> set[psutil.Process]:
    """A process and all that descend from it; itself alone if it has ended."""
    with contextlib.suppress(psutil.Error):
        return {process, *process.children(recursive=True)}
    return {process}


def wait_for_exit(name: str, seconds: float) -> None:
    """Wait for a one-off program to end. Raises Problem if it failed, takes too long, or is stopped elsewhere."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        info = next((process for process in processes() if process["name"] == name), None)
        if info is None and not running():
            raise stopped_elsewhere(name)
        if info and info["statename"] in ("EXITED", "FATAL", "STOPPED") and info["stop"]:
            if info["exitstatus"] == 0:
                return
            raise Problem(name, f"ended with status {info['exitstatus']}: {last_output(name)}", f"Read {log_of(name)}.")
        time.sleep(0.3)
    raise Problem(name, f"not done within {seconds:.0f} s", f"Read {log_of(name)}.")


def _escaped(value: object) -> str:
    """supervisord expands % in its configuration."""
    return str(value).replace("%", "%%")


def _call() -> Any:
    """A proxy of supervisord's XML-RPC interface."""
    from supervisor.xmlrpc import SupervisorTransport

    return xmlrpc.client.ServerProxy("http://127.0.0.1", SupervisorTransport("", "", f"unix://{socket()}"))
