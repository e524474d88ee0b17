"""A driver that keeps running: which jobs get it, when it ends, and what it leaves. The drivers are processes without Spark."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from include.spark import warm_driver
from include.spark.problems import EXECUTOR_LOST, LAKE_FAILED
from include.spark.warm_driver import DriverEnded, WarmDriver
from local.layout import ROOT
from tests.warm_drivers import end_warm_drivers

# Logs its own process id, and returns the status that the job's file requests.
DRIVER = """
    import json, logging, os, pathlib, sys, time
    from include.spark import listener

    listener.IDLE_SECONDS = float(os.environ.get("IDLE", 60))
    log = logging.getLogger("minutemark")
    log.setLevel(logging.INFO)
    log.propagate = False

    def run(file):
        job = json.loads(file.read_text())
        log.info("pid %s", os.getpid())
        print("printed by the machine", flush=True)
        if "sleep" in job:
            file.with_suffix(".started").touch()
            time.sleep(job["sleep"])
        log.info("done")
        return job["status"]

    folder = pathlib.Path(sys.argv[1])
    lost = folder.parent / "lost"
    driver = listener.Listener(folder, logging.Formatter("%(message)s"))
    driver.serve(run, lambda: None, log, can_run=lambda: str(os.getpid()) not in (lost.read_text() if lost.exists() else ""))
"""
KEY = "abcdef-0123456789ab"


@pytest.fixture
def run_job(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[int, list[str]]]]:
    """Runs a job in the driver of KEY; returns its status and log lines."""
    monkeypatch.setattr(tempfile, "tempdir", str(short_path))
    yield lambda status=0, **job: run_in_driver(short_path, status, **job)
    end_warm_drivers()


def run_in_driver(
    folder: Path, status: int, *, code: str = DRIVER, idle: float = 60, key: str = KEY, **job
) -> tuple[int, list[str]]:
    result: list[str] = []
    with driver(code, idle, key) as kept:
        return kept.run(job_file(folder, status=status, **job), result.append), result


def driver(code: str = DRIVER, idle: float = 60, key: str = KEY) -> WarmDriver:
    command = [sys.executable, "-c", textwrap.dedent(code), str(warm_driver.folder_of(key))]
    return WarmDriver(key, command, {**os.environ, "PYTHONPATH": str(ROOT), "IDLE": str(idle)})


def job_file(folder: Path, **job: object) -> Path:
    file = folder / f"{time.monotonic_ns()}.json"
    file.write_text(json.dumps(job))
    return file


def await_that(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    """True also for a zombie, which is a child of this process that nobody has waited for."""
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True


def pid_in(output: list[str]) -> int:
    return int(output[0].removeprefix("pid "))


def test_the_next_job_finds_the_driver_that_the_first_one_started(run_job) -> None:
    _, first = run_job()
    _, second = run_job()
    assert first[:2] == second[:2] == [f"pid {pid_in(first)}", "done"]


def test_what_the_jvm_prints_during_a_job_follows_the_jobs_own_lines(run_job) -> None:
    run_job()
    assert run_job()[1][2:] == ["printed by the machine"]  # without the lines of the first job


def test_a_failed_job_is_the_last_one_of_its_driver(run_job) -> None:
    status, failed = run_job(status=1)
    await_that(lambda: is_gone(pid_in(failed)), "the driver stayed after a failure")
    _, next_one = run_job()
    assert status == 1
    assert pid_in(next_one) != pid_in(failed)


def test_a_driver_keeps_running_when_an_executor_was_lost(run_job) -> None:
    """The application has other executors, or gets new ones."""
    status, failed = run_job(status=EXECUTOR_LOST)
    assert status == EXECUTOR_LOST
    assert pid_in(run_job()[1]) == pid_in(failed)


@pytest.mark.parametrize(("status", "limit"), [(EXECUTOR_LOST, 2), (LAKE_FAILED, 3)])
def test_a_driver_ends_after_several_lost_executors_or_failures_of_the_lake_in_a_row(
    run_job, status: int, limit: int
) -> None:
    """A success in between restarts the count; a client that only connects does not."""
    first = pid_in(run_job(status=status)[1])
    run_job()
    for _ in range(limit):
        assert warm_driver._connect_to(warm_driver.folder_of(KEY), close=True)
        assert pid_in(run_job(status=status)[1]) == first
    await_that(lambda: is_gone(first), "the driver stayed after the last failure")


def test_a_driver_whose_application_is_lost_leaves_the_job_to_a_new_one(run_job) -> None:
    _, first = run_job()
    (warm_driver.folder_of(KEY).parent / "lost").write_text(str(pid_in(first)))
    status, second = run_job()
    assert status == 0 and pid_in(second) != pid_in(first)
    await_that(lambda: is_gone(pid_in(first)), "the driver without an application stayed")


def test_a_driver_with_outdated_settings_ends_when_one_with_new_settings_starts(run_job) -> None:
    """⚑ On a cluster it would hold the cores that the new one waits for."""
    former = pid_in(run_job()[1])
    place = KEY.partition("-")[0]
    newer = pid_in(run_job(key=f"{place}-ba9876543210")[1])
    await_that(lambda: is_gone(former), "the driver with outdated settings stayed")
    run_job(key="fedcba-0123456789ab")
    assert not is_gone(newer), "Drivers of another place do not replace it."


def test_a_driver_with_outdated_settings_finishes_its_running_job_first(run_job, short_path: Path) -> None:
    result: list[int] = []
    running = threading.Thread(target=lambda: result.append(run_job(sleep=1)[0]))
    running.start()
    await_that(lambda: list(short_path.glob("*.started")) != [], "the job never started")
    assert run_job(key=f"{KEY.partition('-')[0]}-ba9876543210")[0] == 0
    running.join(20)
    assert result == [0]


def test_an_idle_driver_ends_and_the_next_job_starts_a_new_one(run_job) -> None:
    _, first = run_job(idle=0.2)
    await_that(lambda: is_gone(pid_in(first)), "the idle driver stayed")
    folder = warm_driver.folder_of(KEY)
    assert not (folder / "socket").exists()
    assert pid_in(run_job()[1]) != pid_in(first)


def test_one_driver_runs_two_concurrent_jobs_one_after_the_other(run_job) -> None:
    _, before = run_job()
    result: list[int] = []
    threads = [threading.Thread(target=lambda: result.append(pid_in(run_job(sleep=0.3)[1]))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert result == [pid_in(before)] * 2


def test_a_driver_ends_with_its_killed_task(run_job, short_path: Path) -> None:
    """⚑ The task's next attempt needs the cores, and the memory."""
    working = pid_in(run_job()[1])
    job = job_file(short_path, status=0, sleep=60)
    task = textwrap.dedent(
        f"""
        import pathlib, tempfile
        tempfile.tempdir = {str(short_path)!r}
        from include.spark.warm_driver import WarmDriver
        WarmDriver({KEY!r}, ["false"], {{}}).run(pathlib.Path({str(job)!r}), print)
        """
    )
    killed = subprocess.Popen([sys.executable, "-c", task], env={**os.environ, "PYTHONPATH": str(ROOT)})
    await_that(lambda: job.with_suffix(".started").exists(), "the job never started")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    await_that(lambda: is_gone(working), "the driver outlived its task")


def test_a_driver_that_is_killed_during_a_job_is_an_error_and_the_next_job_gets_a_new_one(
    run_job, short_path: Path
) -> None:
    working = pid_in(run_job()[1])
    job = job_file(short_path, status=0, sleep=60)
    ended: list[str] = []

    def run() -> None:
        try:
            with driver() as kept:
                kept.run(job, lambda line: None)
        except DriverEnded as error:
            ended.append(str(error))

    running = threading.Thread(target=run)
    running.start()
    await_that(lambda: job.with_suffix(".started").exists(), "the job never started")
    os.kill(working, signal.SIGKILL)
    running.join(20)
    assert ended and "while it ran the job" in ended[0] and "printed by the machine" in ended[0]
    assert pid_in(run_job()[1]) != working


def test_a_job_that_cannot_be_read_fails_with_the_reason_and_is_the_last_one_of_its_driver(run_job, short_path) -> None:
    output: list[str] = []
    with driver() as kept:
        assert kept.run(short_path / "absent.json", output.append) == 1
    assert "the job failed: [Errno 2] No such file or directory" in output[0] and "absent.json" in output[0]
    await_that(lambda: warm_driver._connect_to(warm_driver.folder_of(KEY), close=True) is None, "the driver stayed")
    assert run_job()[0] == 0


def test_disconnecting_ends_the_job(run_job, short_path: Path) -> None:
    """Airflow's timeout and its kill button do this."""
    working = pid_in(run_job()[1])
    job = job_file(short_path, status=0, sleep=60)
    kept, ended = driver(), []

    def run() -> None:
        try:
            kept.run(job, lambda line: None)
        except DriverEnded as error:
            ended.append(error)

    running = threading.Thread(target=run)
    running.start()
    await_that(lambda: job.with_suffix(".started").exists(), "the job never started")
    kept.end()
    running.join(20)
    assert ended
    await_that(lambda: is_gone(working), "the driver continued")


def test_a_driver_that_cannot_start_says_why(run_job) -> None:
    with pytest.raises(DriverEnded, match="(?s)while it was starting.*no such setting"):
        run_job(code="raise SystemExit('no such setting')")


def test_a_path_too_long_for_a_socket_is_reported(run_job, short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(short_path / ("long" * 20)))
    with pytest.raises(DriverEnded, match="too long for a socket. Set TMPDIR"):
        run_job()


@pytest.mark.parametrize("kind", ["file", "link to nothing", "link to a folder"])
def test_a_file_or_a_link_in_the_place_of_the_folder_is_reported(run_job, short_path: Path, kind: str) -> None:
    place = warm_driver.folder_of(KEY).parent
    if kind == "file":
        place.touch()
    else:
        place.symlink_to(short_path if kind == "link to a folder" else short_path / "nowhere")
    with pytest.raises(DriverEnded, match=f"{place} is a file, a link, .* Remove it, or set TMPDIR"):
        run_job()


def test_the_folder_of_a_killed_driver_is_swept_by_the_next_one(run_job) -> None:
    abandoned = warm_driver.folder_of("ba9876543210")
    abandoned.mkdir(parents=True)
    (abandoned / "blockmgr").mkdir()
    run_job()
    assert not abandoned.exists()


def test_a_folder_that_another_driver_sweeps_before_it_is_locked_is_recreated(run_job, monkeypatch) -> None:
    """Between the two steps of a start, another start may sweep the folder, which is not locked yet."""
    make_private, sweeps = warm_driver._make_private, []

    def make_and_sweep(folder: Path) -> None:
        make_private(folder)
        if folder == warm_driver.folder_of(KEY) and not sweeps:
            sweeps.append(warm_driver.sweep())

    monkeypatch.setattr(warm_driver, "_make_private", make_and_sweep)
    assert run_job()[0] == 0
    assert sweeps and (warm_driver.folder_of(KEY) / "socket").exists()


def test_a_folder_that_is_swept_while_its_start_waits_for_the_lock_is_recreated(run_job) -> None:
    """A sweep removes the file that the waiting start has opened: it would lock a file that nobody else sees."""
    folder = warm_driver.folder_of(KEY)
    folder.mkdir(parents=True, mode=0o700)
    result: list[int] = []
    starting = threading.Thread(target=lambda: result.append(run_job()[0]))
    with (folder / "starting").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        starting.start()
        waits = re.compile(rf"-> FLOCK .*:{os.fstat(lock.fileno()).st_ino} ")
        await_that(lambda: waits.search(Path("/proc/locks").read_text()) is not None, "it never waited for the lock")
        shutil.rmtree(folder)
    starting.join(20)
    assert result == [0]
    assert (folder / "starting").exists() and (folder / "socket").exists()


@pytest.fixture
def full_queue(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket of a driver of KEY that accepts no client, and whose queue is full."""
    monkeypatch.setattr(tempfile, "tempdir", str(short_path))
    folder = warm_driver.folder_of(KEY)
    folder.mkdir(parents=True, mode=0o700)
    with socket.socket(socket.AF_UNIX) as listening, contextlib.ExitStack() as clients:
        listening.bind(str(folder / "socket"))
        listening.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                clients.enter_context(waiting := socket.socket(socket.AF_UNIX)).setblocking(False)
                waiting.connect(str(folder / "socket"))
        yield listening


def test_a_driver_with_a_full_queue_blocks_neither_the_lock_nor_other_drivers(full_queue, run_job) -> None:
    """⚑ It is neither replaced nor swept: its client waits for a place in the queue, without locking the folder."""
    folder = warm_driver.folder_of(KEY)
    connecting = driver()
    waiting = threading.Thread(target=connecting._connect, daemon=True)
    waiting.start()
    time.sleep(0.3)
    with (folder / "starting").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert run_job(key=f"{KEY.partition('-')[0]}-ba9876543210")[0] == 0, "The driver with new settings does not start."
    assert waiting.is_alive() and (folder / "socket").exists()
    while waiting.is_alive():
        full_queue.accept()[0].close()
        waiting.join(0.1)
    connecting.disconnect()


def test_a_client_that_sends_no_request_does_not_block_the_others(run_job) -> None:
    code = DRIVER.replace("listener.IDLE_SECONDS", "listener.REQUEST_SECONDS = 0.3; listener.IDLE_SECONDS")
    first = pid_in(run_job(code=code)[1])
    with warm_driver._connect_to(warm_driver.folder_of(KEY)):
        assert pid_in(run_job()[1]) == first


def test_a_client_that_does_not_read_counts_as_disconnected(run_job, short_path: Path) -> None:
    """⚑ A suspended task must not hold the driver until Airflow's timeout."""
    code = DRIVER.replace("listener.IDLE_SECONDS", "listener._SEND_SECONDS = 1; listener.IDLE_SECONDS")
    code = code.replace('log.info("pid', 'log.info("%s", "x" * job.get("size", 0)); log.info("pid')
    assert run_job(code=code)[0] == 0
    result: list[int] = []
    following = threading.Thread(target=lambda: result.append(run_job()[0]), daemon=True)
    with warm_driver._connect_to(warm_driver.folder_of(KEY)) as suspended:
        suspended.sendall((json.dumps({"job": str(job_file(short_path, status=0, size=10_000_000))}) + "\n").encode())
        following.start()
        following.join(20)
        assert result == [0], "The driver waits for the suspended client."


def test_a_driver_whose_clean_up_fails_leaves_no_socket(run_job) -> None:
    _, output = run_job(code=DRIVER.replace("lambda: None", "lambda: 1 / 0"))
    await_that(lambda: is_gone(pid_in(output)), "the driver stayed")
    assert not (warm_driver.folder_of(KEY) / "socket").exists()


def test_an_idle_time_of_zero_gives_each_job_its_own_driver(run_job) -> None:
    _, first = run_job(idle=0)
    await_that(lambda: is_gone(pid_in(first)), "the driver stayed")
    assert pid_in(run_job(idle=0)[1]) != pid_in(first)


def test_only_its_user_can_enter_the_folder(run_job) -> None:
    run_job()
    folder = warm_driver.folder_of(KEY)
    assert {path.stat().st_mode & 0o777 for path in (folder, folder.parent)} == {0o700}


def test_all_drivers_can_be_ended_at_once(run_job) -> None:
    working = pid_in(run_job()[1])
    end_warm_drivers()
    await_that(lambda: is_gone(working), "the driver stayed")
    assert not warm_driver.folder_of(KEY).exists()
