"""The supervisor on real processes: a program that dies is restarted, and a stopped stack leaves no process."""

import dataclasses
import os
import signal
import stat
import subprocess
import sys
import time

import psutil
import pytest

from local import environment, start, supervisor
from local.environment import MARK
from local.problems import Problem
from local.supervisor import Program

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
# Starts a grandchild in a separate session, as a task does with a Spark driver, and ends.
STRAY = [
    sys.executable,
    "-c",
    "import subprocess, sys; subprocess.Popen(sys.argv[1:], start_new_session=True)",
    *SLEEP,
]


def until(condition, seconds=15):
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.05)
    return result


@pytest.fixture
def stack(tmp_path, monkeypatch):
    """Defines programs; `variables` are added to the environment of each."""
    for name in ("ROOT", "STATE", "RUN", "LOGS"):
        monkeypatch.setattr(supervisor, name, tmp_path / name.lower())
        (tmp_path / name.lower()).mkdir()
    env = {**os.environ, MARK: str(tmp_path / "state")}

    def define(*programs, **variables):
        return supervisor.ensure(
            [dataclasses.replace(program, env={**env, **variables, **program.env}) for program in programs]
        )

    yield define
    supervisor.shut_down(20)


def pid_of(name):
    return next(
        (process["pid"] for process in supervisor.processes() if process["name"] == name and process["pid"]), None
    )


def test_a_program_that_dies_is_started_again(stack):
    stack(Program("sleeper", SLEEP, 10))
    supervisor.start("sleeper")
    first = until(lambda: pid_of("sleeper"))
    until(lambda: supervisor.state_of("sleeper") == "RUNNING")
    os.kill(first, signal.SIGKILL)
    assert until(lambda: (pid := pid_of("sleeper")) and pid != first)


def test_the_supervisor_listens_on_a_socket_that_only_its_owner_can_use(stack):
    stack(Program("sleeper", SLEEP, 10))
    supervisord = psutil.Process(supervisor._call().supervisor.getPID())
    assert not supervisord.net_connections("inet")
    places = {
        net_connection.laddr.partition(".sock")[0]
        for net_connection in supervisord.net_connections("unix")
        if net_connection.laddr
    }
    assert places == {str(supervisor.socket()).removesuffix(".sock")}
    assert stat.S_IMODE(supervisor.socket().stat().st_mode) == 0o600


def test_a_program_can_join_later_and_the_first_continues(stack):
    stack(Program("first", SLEEP, 10))
    supervisor.start("first")
    first = until(lambda: pid_of("first"))
    stack(Program("first", SLEEP, 10), Program("second", SLEEP, 20))
    supervisor.start("first", "second")
    until(lambda: pid_of("second"))
    assert pid_of("first") == first


def test_a_program_that_joins_does_not_affect_the_others(stack):
    stack(Program("first", SLEEP, 10))
    supervisor.start("first")
    first = until(lambda: pid_of("first"))
    supervisor.add_programs(Program("guest", SLEEP, 20, env=dict(os.environ)))
    supervisor.start("guest")
    guest = until(lambda: pid_of("guest"))
    stack(Program("first", SLEEP, 10), Program("second", SLEEP, 20))  # knows nothing of the guest
    supervisor.start("second")
    until(lambda: pid_of("second"))
    assert (pid_of("first"), pid_of("guest")) == (first, guest)
    supervisor.shut_down(20)
    assert not psutil.pid_exists(guest)


def test_stopping_leaves_no_process_not_even_a_stray_one(stack):
    stack(Program("sleeper", SLEEP, 10), Program("errand", STRAY, 20, once=True))
    supervisor.start("sleeper", "errand")
    supervisor.wait_for_exit("errand", 15)
    marked = {process.pid for process in until(lambda: list(supervisor.marked_processes()))}
    supervisor.shut_down(20)
    assert not supervisor.running()
    assert not [pid for pid in marked if psutil.pid_exists(pid)]


def test_a_start_after_the_stack_was_stopped_elsewhere_is_explained(stack):
    """`make stop` in another terminal, while `make run` starts the stack."""
    stack(Program("sleeper", SLEEP, 10))
    supervisor.shut_down(20)
    stopped = r"sleeper: supervisord does not run any more.*\n.*another terminal"
    with pytest.raises(Problem, match=stopped):
        supervisor.start("sleeper")
    with pytest.raises(Problem, match=stopped):
        supervisor.wait_for_exit("sleeper", 600)


def test_a_spark_driver_that_ends_while_the_stack_is_being_stopped_leaves_nothing_running(stack, monkeypatch):
    """A driver ends by itself with the task whose job it runs."""
    with subprocess.Popen(SLEEP) as process:
        driver = psutil.Process(process.pid)
        process.kill()
    monkeypatch.setattr(supervisor, "spark_drivers", lambda: [driver])
    stack(Program("kafka", SLEEP, 10), Program("scheduler", SLEEP, 90), Program("errand", STRAY, 90, once=True))
    supervisor.start("kafka", "scheduler", "errand")
    supervisor.wait_for_exit("errand", 15)
    until(lambda: pid_of("kafka") and pid_of("scheduler"))
    marked = [process.pid for process in supervisor.marked_processes()]
    supervisor.shut_down(20)
    assert not supervisor.running()
    assert not [pid for pid in marked if psutil.pid_exists(pid)]


def test_a_supervisor_that_is_shutting_down_knows_no_program(stack):
    """`make status` during `make stop`: supervisord then answers only requests for its own state."""
    stubborn = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', flush=True)\ntime.sleep(600)"
    stack(Program("stubborn", [sys.executable, "-c", stubborn], 10))
    supervisor.start("stubborn")
    until(lambda: supervisor.last_output("stubborn") == "ready")
    pid = pid_of("stubborn")
    supervisor._call().supervisor.shutdown()
    assert supervisor.processes() == [] and supervisor.state_of("stubborn") == "UNKNOWN"
    assert psutil.pid_exists(pid)
    os.kill(pid, signal.SIGKILL)


class Starting(start.Stack):
    """A stack without programs, whose start is under way."""

    def __init__(self):
        self.stopped, self._is_supervised = {}, False

    def _programs(self):
        return []


def test_a_start_does_not_bring_back_a_stack_that_was_stopped_elsewhere(stack):
    starting = Starting()
    starting._define_programs()
    assert supervisor.running()
    supervisor.shut_down(20)
    with pytest.raises(Problem, match="The stack: supervisord does not run any more"):
        starting._define_programs()
    assert not supervisor.running()
    Starting()._define_programs()  # the next start
    assert supervisor.running()


def test_a_failed_command_is_reported_with_its_last_output(stack):
    stack(Program("errand", [sys.executable, "-c", "raise ValueError('no such luck')"], 10, once=True))
    supervisor.start("errand")
    with pytest.raises(Problem, match="no such luck"):
        supervisor.wait_for_exit("errand", 15)


def test_each_program_is_stopped_with_its_own_signal(stack, tmp_path):
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, lambda *_: (open(sys.argv[1], 'w').write('INT'), sys.exit(0)))\n"
        "print('ready', flush=True)\ntime.sleep(600)"
    )
    script = tmp_path / "reporter.py"
    script.write_text(code)
    stack(Program("reporter", [sys.executable, str(script), str(tmp_path / "signal")], 10, stop_signal="INT"))
    supervisor.start("reporter")
    until(lambda: supervisor.last_output("reporter") == "ready")
    supervisor.shut_down(20)
    assert (tmp_path / "signal").read_text() == "INT"


WRONG_CONNECTION = '{"host": "nowhere", "password": "a % \'b\' \\"c\\" $d"}'
CORRECT_CONNECTION = '{"host": "127.0.0.1", "password": "100 % \'right\' \\"word\\" $PATH\nsecond line"}'


def test_a_corrected_connection_restarts_only_the_programs_that_use_it(stack):
    store = Program(
        "mariadb", SLEEP, 10, env={"AIRFLOW_CONN_WAREHOUSE_ETL": "not for stores", "MINUTEMARK_PASSWORD": "1"}
    )
    reader, idle = Program("scheduler", SLEEP, 90), Program("triggerer", SLEEP, 90)
    stack(store, reader, idle, AIRFLOW_CONN_WAREHOUSE_ETL=WRONG_CONNECTION, MINUTEMARK_PASSWORD="1")
    supervisor.start("mariadb", "scheduler")
    wrong, store_pid = until(lambda: pid_of("scheduler")), until(lambda: pid_of("mariadb"))
    until(lambda: psutil.Process(wrong).environ().get("AIRFLOW_CONN_WAREHOUSE_ETL") == WRONG_CONNECTION)

    corrected = stack(store, reader, idle, AIRFLOW_CONN_WAREHOUSE_ETL=CORRECT_CONNECTION)
    assert corrected == {"scheduler": ["AIRFLOW_CONN_WAREHOUSE_ETL", "MINUTEMARK_PASSWORD"]}
    assert not psutil.pid_exists(wrong)
    supervisor.start("mariadb", "scheduler", "triggerer")
    for name in ("scheduler", "triggerer"):
        pid = until(lambda name=name: pid_of(name))
        until(lambda pid=pid: psutil.Process(pid).environ().get("AIRFLOW_CONN_WAREHOUSE_ETL") == CORRECT_CONNECTION)
        assert "MINUTEMARK_PASSWORD" not in psutil.Process(pid).environ()  # removed, not only overwritten
    assert pid_of("mariadb") == store_pid

    running = pid_of("scheduler")
    assert stack(store, reader, idle, AIRFLOW_CONN_WAREHOUSE_ETL=CORRECT_CONNECTION) == {}
    assert pid_of("scheduler") == running


def test_processes_that_an_outdated_program_has_started_end_with_it(stack):
    stack(Program("scheduler", [*STRAY[:-1], f"{SLEEP[-1]} # stray"], 90, once=True), AIRFLOW_CONNECTION="old")
    supervisor.start("scheduler")
    supervisor.wait_for_exit("scheduler", 15)
    [stray] = [process.pid for process in supervisor.marked_processes() if "# stray" in process.cmdline()[-1]]
    stack(Program("scheduler", SLEEP, 90), AIRFLOW_CONNECTION="old")
    assert psutil.pid_exists(stray)  # nothing ran that had to be replaced
    supervisor.start("scheduler")
    until(lambda: pid_of("scheduler"))
    stack(Program("scheduler", SLEEP, 90), AIRFLOW_CONNECTION="new")
    assert not psutil.pid_exists(stray)


def test_a_restart_of_a_program_without_tasks_does_not_end_a_spark_driver(stack):
    errand = Program("scheduler", [*STRAY[:-1], f"{SLEEP[-1]} # stray"], 90, once=True)
    stack(errand, Program("superset", SLEEP, 90))
    supervisor.start("scheduler", "superset")
    supervisor.wait_for_exit("scheduler", 15)
    [stray] = [process.pid for process in supervisor.marked_processes() if "# stray" in process.cmdline()[-1]]
    until(lambda: pid_of("superset"))
    assert stack(errand, Program("superset", [*SLEEP, "changed"], 90)) == {"superset": ["command"]}
    assert psutil.pid_exists(stray)


def test_a_variable_of_another_terminal_restarts_nothing_and_is_passed_on(stack):
    stack(Program("sleeper", SLEEP, 10), WT_SESSION="1", PATH="/bin", https_proxy="http://a")
    supervisor.start("sleeper")
    first = until(lambda: pid_of("sleeper"))
    until(lambda: psutil.Process(first).environ().get("WT_SESSION") == "1")
    assert stack(Program("sleeper", SLEEP, 10), WT_SESSION="2", PATH="/usr/bin", https_proxy="http://a") == {}
    assert pid_of("sleeper") == first
    changed = stack(Program("sleeper", SLEEP, 10), WT_SESSION="2", PATH="/usr/bin", https_proxy="http://b")
    assert changed == {"sleeper": ["https_proxy"]}


def test_a_changed_command_restarts_its_program_and_a_removed_program_stops(stack):
    stack(Program("first", SLEEP, 10), Program("second", SLEEP, 20))
    supervisor.start("first", "second")
    pids = [until(lambda name=name: pid_of(name)) for name in ("first", "second")]
    assert stack(Program("first", [*SLEEP, "changed"], 10)) == {"first": ["command"], "second": []}
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    supervisor.start("first")
    first = psutil.Process(until(lambda: pid_of("first")))
    until(lambda: first.cmdline()[-1:] == ["changed"])
    assert supervisor.state_of("second") == "UNKNOWN"


def test_no_password_is_in_a_command_line_or_in_a_file_that_others_can_read(stack, tmp_path):
    stack(Program("sleeper", SLEEP, 10), AIRFLOW_CONN_WAREHOUSE_ETL=CORRECT_CONNECTION)
    supervisor.start("sleeper")
    until(lambda: psutil.Process(until(lambda: pid_of("sleeper"))).cmdline() == SLEEP)
    for process in psutil.process_iter(["cmdline"]):
        assert "$PATH\nsecond line" not in " ".join(process.info["cmdline"] or [])
    holders = [path for path in tmp_path.rglob("*") if path.is_file() and b"second line" in path.read_bytes()]
    assert holders
    assert {stat.S_IMODE(path.stat().st_mode) for path in holders} == {0o600}


def test_stopping_finds_a_process_that_has_changed_its_title(stack, tmp_path):
    title = "import setproctitle, time\nsetproctitle.setproctitle('task ' * 9)\ntime.sleep(600)"
    start = "import subprocess, sys\nsubprocess.Popen(sys.argv[1:], start_new_session=True)"
    command = [sys.executable, "-c", start, sys.executable, "-c", title]
    stack(Program("worker", command, 10, once=True), **environment.VISIBLE)
    supervisor.start("worker")
    supervisor.wait_for_exit("worker", 15)
    titled = until(
        lambda: [
            marked_process
            for marked_process in supervisor.marked_processes()
            if marked_process.cmdline()[0].startswith("task")
        ]
    )
    assert len(supervisor.shut_down(20)) == 1
    assert not titled[0].is_running()


def test_a_task_that_ignores_the_signal_is_interrupted_and_its_program_reports_it(stack, tmp_path):
    task = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', flush=True)\ntime.sleep(600)"
    worker = (
        "import signal, subprocess, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: None)\n"
        "code = subprocess.Popen([sys.executable, '-c', sys.argv[1]], process_group=0).wait()\n"
        "open(sys.argv[2], 'w').write(str(code))"
    )
    stack(Program("scheduler", [sys.executable, "-c", worker, task, str(tmp_path / "reported")], 90))
    supervisor.start("scheduler")
    until(lambda: supervisor.last_output("scheduler") == "ready")
    assert supervisor.shut_down(30) == []
    assert int((tmp_path / "reported").read_text()) == -signal.SIGINT
