"""An application that keeps running on a standalone cluster: which jobs use it, what ends it, and what other users see of it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from include.connections import endpoint
from include.spark import installation
from include.spark.problems import EXECUTOR_LOST
from local import waiting
from local.process import Child, free_port
from local.servers.server import HOST
from local.servers.spark_standalone import Master, Worker
from tests.spark import submitting
from tests.spark.rows import MINUTE
from tests.spark.submitting import NEXT_MINUTE
from tests.warm_drivers import end_warm_drivers

SECRET = "of-the-tests-cluster"
STAGED = "SELECT SUM(raw_rows), SUM(counted_rows), SUM(rejected_rows) FROM etl.staged_counts WHERE attempt = {}"
EXPECTED = [(4, 2, 1)]  # of the rows in tests/spark/conftest.py
MANY_ROWS = 50_000  # estimated rows of a batch that is read in several tasks


class Cluster:
    """A master, and two workers of one core each; a test may kill any of the three and start it again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.master = Master(folder / "master", free_port(), web_port=free_port(), secret=SECRET)
        self.workers = [self._worker(name) for name in ("first", "second")]
        self.ui_port = free_port()
        self.running: dict[str, Child] = {}

    def _worker(self, name: str) -> Worker:
        return Worker(
            self.folder / name,
            free_port(),
            web_port=free_port(),
            secret=SECRET,
            master_url=self.master.url,
            memory_mb=512,
        )

    def start(self, server: Master | Worker) -> None:
        child = Child(server.prepare(), server.home.with_suffix(".log"), env=server.environment())
        self.running[server.home.name] = child
        server.wait_until_ready(alive=child.alive, log=str(child.log))

    def kill(self, server: Master | Worker) -> None:
        child = self.running.pop(server.home.name)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()

    def start_all(self) -> None:
        for server in (self.master, *self.workers):
            if server.home.name not in self.running:
                self.start(server)

    def stop(self) -> None:
        for child in reversed(self.running.values()):
            child.stop(20)

    def executors(self) -> dict[int, str]:
        """Command line of each running executor, by process id."""
        lines = {process.pid: _command_line(process) for process in psutil.process_iter()}
        urls = [f"--worker-url spark://Worker@{HOST}:{worker.port}" for worker in self.workers]
        return {pid: line for pid, line in lines.items() if any(f"{url} " in f"{line} " for url in urls)}


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.fixture(scope="module")
def _cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="mm-spark-") as folder:
        cluster = Cluster(Path(folder))
        try:
            yield cluster
        finally:
            end_warm_drivers()
            cluster.stop()


@pytest.fixture
def cluster(_cluster: Cluster, warm_drivers: None) -> Cluster:
    """The complete cluster. An application of an earlier test may still run on it, as an earlier minute's does in production."""
    _cluster.start_all()
    until(lambda: len(_cluster.master.workers()) == 2, "two workers")
    return _cluster


@pytest.fixture
def submit(cluster: Cluster, four_events: None) -> Callable[..., subprocess.CompletedProcess]:
    """Runs an attempt in a warm driver, with Spark's UI and event log on."""
    (cluster.folder / "events").mkdir(exist_ok=True)
    own = {
        "spark.authenticate.secret": SECRET,
        "spark.executor.memory": "512m",
        "spark.dynamicAllocation.enabled": "false",
        "spark.executor.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
        "spark.ui.enabled": "true",
        "spark.ui.port": str(cluster.ui_port),
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": f"file://{cluster.folder}/events",
    }

    def run(attempt: int, *, conf: dict | None = None, **more) -> subprocess.CompletedProcess:
        settings = {**own, **(conf or {})}
        return submitting.submit(attempt, keep=True, master=cluster.master.url, conf=settings, **more)

    return run


@pytest.fixture
def unlock_staging(query) -> Iterator[Callable[[], None]]:
    """Until this is called, no job can stage events."""
    query("LOCK TABLES recruitment.events_staged WRITE")
    yield lambda: query("UNLOCK TABLES")
    query("UNLOCK TABLES")


def after_reading(act: Callable[[], None]) -> Callable[[str], None]:
    """A function for `say` that calls `act` when the job has read its rows, before it stages them."""

    def take(line: str) -> None:
        if "minutemark read: " in line:
            act()

    return take


def until(condition: Callable[[], bool], what: str, seconds: float = 120) -> None:
    def check() -> None:
        if not condition():
            raise LookupError(what)

    waiting.until(check, what=what, seconds=seconds, errors=(LookupError, OSError, KeyError))


def application_of(cluster: Cluster) -> str:
    [application] = cluster.master.applications()
    return application


def test_the_next_job_uses_the_same_application_and_executors(cluster: Cluster, submit, query) -> None:
    first = submit(101)
    assert first.returncode == 0, first.stdout
    application = application_of(cluster)
    until(lambda: len(cluster.executors()) == 2, "an executor on each worker")
    executors = cluster.executors()
    second = submit(102, minutes=(NEXT_MINUTE, MINUTE), rows=MANY_ROWS)
    assert second.returncode == 0, second.stdout
    assert (application_of(cluster), cluster.executors()) == (application, executors)
    assert query(STAGED.format(101)) == query(STAGED.format(102)) == EXPECTED
    jars = [file.parent for worker in cluster.workers for file in worker.work_folder.rglob("*-connector_2*.jar")]
    assert len(jars) == len(set(jars)) <= 2, "Each executor gets them once."


def test_no_password_is_on_a_command_line_in_a_file_or_on_a_page(cluster: Cluster, submit) -> None:
    assert submit(103).returncode == 0
    stores = [endpoint(name).password for name in ("lake_reader", "warehouse_etl")]
    drivers = [
        _command_line(p) for p in psutil.process_iter() if f"--jars {installation.spark_jars()[0]}" in _command_line(p)
    ]
    lines = [*cluster.executors().values(), *drivers]
    assert len(drivers) >= 1 and len(lines) > len(drivers)
    assert not lines_with(lines, [*stores, SECRET])
    environments = [str(psutil.Process(pid).environ()) for pid in cluster.executors()]
    assert not lines_with(environments, stores), (
        "Other programs of the user can read an executor's environment: it must not have a store's password."
    )
    assert {stat.S_IMODE(Path(f"/proc/{pid}/environ").stat().st_mode) for pid in cluster.executors()} == {0o400}
    files = [
        file
        for folder in (*(worker.home for worker in cluster.workers), cluster.folder / "events")
        for file in folder.rglob("*")
        if file.is_file() and file.suffix != ".jar" and file.name != "spark.properties"
    ]
    texts = [file.read_text(errors="replace") for file in files]
    assert any("SparkListenerEnvironmentUpdate" in text for text in texts) and any("Executor" in text for text in texts)
    assert not lines_with(texts, [*stores, SECRET])
    ui_url = f"http://{HOST}:{cluster.ui_port}"
    application = application_of(cluster)
    pages = [f"api/v1/applications/{application}/{page}" for page in ("environment", "jobs", "sql?details=true")]
    answers = [page_of(f"{ui_url}/{page}") for page in (*pages, "environment/", "SQL/", "SQL/execution/?id=0")]
    assert "spark.authenticate" in answers[0] and application in answers[0]
    assert not lines_with(answers, [*stores, SECRET])


def lines_with(texts: list[str], secrets: list[str | None]) -> list[str]:
    """The lines that have one of the secrets."""
    return [line for text in texts for line in text.splitlines() if any(secret in line for secret in secrets if secret)]


def page_of(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read().decode()


def test_the_application_survives_a_killed_worker(cluster: Cluster, submit, query, unlock_staging) -> None:
    """The attempt fails if the rows that it had read were on that worker; nothing else fails."""
    assert submit(104, minutes=(NEXT_MINUTE,)).returncode == 0
    application = application_of(cluster)

    def kill() -> None:
        before = len(cluster.executors())
        cluster.kill(cluster.workers[0])
        until(lambda: len(cluster.executors()) < before, "the end of its executor")
        unlock_staging()

    done = submit(105, rows=MANY_ROWS, say=after_reading(kill))
    assert done.returncode in (0, EXECUTOR_LOST), done.stdout
    assert query(STAGED.format(105)) == (EXPECTED if done.returncode == 0 else [(None, None, None)])
    after = submit(106)
    assert after.returncode == 0, after.stdout
    assert application_of(cluster) == application
    assert query(STAGED.format(106)) == EXPECTED


def test_lost_executors_fail_the_attempt_with_the_reason_and_are_replaced(
    cluster, submit, query, unlock_staging
) -> None:
    assert submit(107, minutes=(NEXT_MINUTE,)).returncode == 0
    application = application_of(cluster)

    def kill() -> None:
        killed = cluster.executors()
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        until(lambda: not killed.keys() & cluster.executors().keys(), "the end of all executors")
        unlock_staging()

    lost = submit(108, say=after_reading(kill))
    assert lost.returncode == EXECUTOR_LOST and "An executor was lost" in lost.stdout, lost.stdout
    after = submit(109)
    assert after.returncode == 0, after.stdout
    assert application_of(cluster) == application
    assert query(STAGED.format(109)) == EXPECTED


def test_after_a_restart_of_the_master_the_next_attempt_gets_a_new_application(cluster, submit, query) -> None:
    """The new master does not know the former application, which would never get another executor."""
    assert submit(110, minutes=(NEXT_MINUTE,)).returncode == 0
    application = application_of(cluster)
    cluster.kill(cluster.master)
    cluster.start(cluster.master)
    until(lambda: len(cluster.master.workers()) == 2, "two workers of the new master")
    after = submit(111)
    assert after.returncode == 0, after.stdout
    assert application_of(cluster) != application
    assert query(STAGED.format(111)) == EXPECTED


def test_a_job_of_an_application_that_the_master_no_longer_knows_fails_soon(
    cluster, submit, query, unlock_staging
) -> None:
    """Otherwise the job would wait for executors until the task's timeout."""
    assert submit(117, minutes=(NEXT_MINUTE,)).returncode == 0

    def restart() -> None:
        cluster.kill(cluster.master)
        cluster.start(cluster.master)
        until(lambda: len(cluster.master.workers()) == 2, "two workers of the new master")
        for pid in cluster.executors():
            os.kill(pid, signal.SIGKILL)
        until(lambda: not cluster.executors(), "the end of its executors")
        unlock_staging()

    started = time.monotonic()
    failed = submit(118, say=after_reading(restart))
    assert failed.returncode == 1 and "no longer knows the application" in failed.stdout, failed.stdout
    assert time.monotonic() - started < 300
    after = submit(119)
    assert after.returncode == 0, after.stdout
    assert query(STAGED.format(119)) == EXPECTED


def test_the_application_ends_when_the_task_of_its_job_is_gone(cluster: Cluster, submit, query, unlock_staging) -> None:
    """⚑ The task's next attempt needs the executors."""
    assert submit(112, minutes=(NEXT_MINUTE,)).returncode == 0

    def leave() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        submit(113, say=after_reading(leave))
    until(lambda: not cluster.master.applications(), "the end of the application")
    until(lambda: not cluster.executors(), "the end of its executors")
    unlock_staging()
    assert query(STAGED.format(113)) == [(None, None, None)]


def test_idle_executors_are_released_and_come_back_for_the_next_job(cluster: Cluster, submit, query) -> None:
    """With dynamic allocation: neither the rows nor the shuffles of a finished job keep them."""
    assert submit(114, minutes=(NEXT_MINUTE,)).returncode == 0
    former = application_of(cluster)
    conf = {
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.executorIdleTimeout": "1s",
        "spark.dynamicAllocation.shuffleTracking.timeout": "1s",
        "spark.executor.cores": "1",
    }
    first = submit(115, conf=conf, rows=MANY_ROWS)
    assert first.returncode == 0, first.stdout
    until(lambda: former not in cluster.master.applications(), "the end of the application with the former settings")
    application = application_of(cluster)
    until(lambda: not cluster.executors(), "the release of all executors")
    second = submit(116, conf=conf)
    assert second.returncode == 0, second.stdout
    assert application_of(cluster) == application
    assert query(STAGED.format(115)) == query(STAGED.format(116)) == EXPECTED
