"""supervisord: it starts the stack's processes, restarts what dies, rotates their logs, and ends them all.

Nothing starts by itself: `local.start` starts the programs in the order in which they need each other.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
import xmlrpc.client
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from include.spark import kept_driver
from local.environment import MARK
from local.layout import LOGS, ROOT, RUN, STATE, VENV, socket_path
from local.problems import Problem

STORES = {"cassandra", "kafka", "mariadb", "postgres"}
COMING = ("STARTING", "BACKOFF", "RUNNING")
SPARK_APPLICATION = ROOT / "include" / "spark" / "run.py"

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
files = {joined}/*.conf
"""

_PROGRAM = """
[program:{name}]
command = {command}
directory = {root}
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
    once: bool = False  # an errand: not restarted when it ends
    as_group: bool = True  # its children get the signal too
    stop_signal: str = "TERM"


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


def ensure(programs: list[Program], env: Mapping[str, str]) -> None:
    """Start supervisord, or teach a running one the programs it does not know yet."""
    for folder in (LOGS, RUN):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    configuration = _CONFIGURATION.format(
        logs=_escaped(LOGS),
        run=_escaped(RUN),
        root=_escaped(ROOT),
        socket=_escaped(socket()),
        joined=_escaped(_joined()),
    )
    path = RUN / "supervisord.conf"
    path.write_text(configuration + "".join(_section(program) for program in programs))
    if running():
        _learn()
        return
    # Who joined another supervisord joins this one when it is asked for again.
    for old in _joined().glob("*.conf"):
        old.unlink()
    command = [str(VENV / "bin" / "supervisord"), "-c", str(path)]
    done = subprocess.run(command, env=dict(env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise Problem("supervisord", done.stdout.strip()[-500:], f"Read {LOGS / 'supervisord.log'}.")


def join(*programs: Program) -> None:
    """Teach the running supervisord programs that are no part of every stack."""
    _joined().mkdir(mode=0o700, exist_ok=True)
    for program in programs:
        (_joined() / f"{program.name}.conf").write_text(_section(program))
    _learn()


def _joined() -> Path:
    return RUN / "joined"


def _section(program: Program) -> str:
    return _PROGRAM.format(
        name=program.name,
        command=_escaped(subprocess.list2cmdline(program.command)),
        root=_escaped(ROOT),
        logs=_escaped(LOGS),
        priority=program.priority,
        restart="false" if program.once else "true",
        start_seconds=0 if program.once else 1,
        stop_signal=program.stop_signal,
        as_group="true" if program.as_group else "false",
    )


def _learn() -> None:
    """Have supervisord read its configuration again, and take what is new in it."""
    added, _, _ = _call().supervisor.reloadConfig()[0]
    for name in added:
        _call().supervisor.addProcessGroup(name)


def start(*names: str) -> None:
    """Start programs, without waiting for them; those that run already are left alone."""
    for name in names:
        try:
            _call().supervisor.startProcess(name, False)
        except xmlrpc.client.Fault as fault:
            if "ALREADY_STARTED" not in fault.faultString:
                raise Problem(
                    name, f"supervisord cannot start it: {fault.faultString}", f"Read {log_of(name)}."
                ) from fault


def stop(name: str) -> None:
    """Stop a program and wait for its end; supervisord leaves it stopped."""
    _call().supervisor.stopProcess(name, True)


def processes() -> list[dict]:
    """What supervisord knows of each program: name, statename, pid, start, exitstatus. Empty when it does not run."""
    try:
        return _call().supervisor.getAllProcessInfo()
    except OSError:
        return []


def state_of(name: str) -> str:
    return next((process["statename"] for process in processes() if process["name"] == name), "UNKNOWN")


def require_coming(name: str) -> None:
    """Raise Problem when a program ended or was given up instead of coming up."""
    state = state_of(name)
    if state not in COMING:
        raise Problem(name, f"its state is {state.lower()}; last log line: {last_words(name)}", f"Read {log_of(name)}.")


def last_words(name: str) -> str:
    path = log_of(name)
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    telling = [line for line in lines[-40:] if "ERROR" in line or "Error" in line or "Exception" in line]
    return (telling or lines or ["(none)"])[-1].strip()[:300]


def shut_down(seconds: float = 60) -> list[str]:
    """End the programs, supervisord, and what outlived them. Returns the names of what had to be ended one by one."""
    import psutil

    with contextlib.suppress(OSError, xmlrpc.client.Error, psutil.Error):
        supervisord = psutil.Process(_call().supervisor.getPID())
        names = {process["name"] for process in processes()}
        # Side by side, but the stores after those that write to them.
        _stop_together(names - STORES, seconds)
        _stop_together(names & STORES, seconds)
        _call().supervisor.shutdown()
        supervisord.wait(seconds)
    return _end_leftovers()


def _stop_together(names: set[str], seconds: float) -> None:
    for name in names:
        with contextlib.suppress(xmlrpc.client.Fault):
            _call().supervisor.stopProcess(name, False)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(process["pid"] for process in processes() if process["name"] in names):
            return
        time.sleep(0.1)


def _end_leftovers() -> list[str]:
    """End every process that carries this stack's mark: Spark drivers, task processes in sessions of their own."""
    import psutil

    waiting = {process.pid for driver in spark_drivers() for process in (driver, *driver.children())}
    found = list(marked_processes())
    names = [f"{process.info['name']} ({process.pid})" for process in found if process.pid not in waiting]
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, left = psutil.wait_procs(found, timeout=15)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=5)
    kept_driver.sweep()
    return names


def marked_processes() -> Iterator:
    """Processes whose environment carries this stack's mark."""
    import psutil

    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK) == str(STATE):
                yield process


def spark_drivers() -> list:
    """The JVMs of Spark drivers that wait for the next run; tasks have started them, not supervisord."""
    import psutil

    found = []
    for process in marked_processes():
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            if "--keep" in command and str(SPARK_APPLICATION) in command and process.name() == "java":
                found.append(process)
    return found


def wait_for_exit(name: str, seconds: float) -> None:
    """Wait for an errand to end. Raises Problem when it failed or takes too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        info = next((process for process in processes() if process["name"] == name), None)
        if info and info["statename"] in ("EXITED", "FATAL", "STOPPED") and info["stop"]:
            if info["exitstatus"] == 0:
                return
            raise Problem(name, f"ended with {info['exitstatus']}: {last_words(name)}", f"Read {log_of(name)}.")
        time.sleep(0.3)
    raise Problem(name, f"not done within {seconds:.0f} s", f"Read {log_of(name)}.")


def _escaped(value: object) -> str:
    """supervisord expands % in its configuration."""
    return str(value).replace("%", "%%")


def _call() -> xmlrpc.client.ServerProxy:
    from supervisor.xmlrpc import SupervisorTransport

    return xmlrpc.client.ServerProxy("http://127.0.0.1", SupervisorTransport("", "", f"unix://{socket()}"))
