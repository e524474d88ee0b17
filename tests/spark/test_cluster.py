"""An application that stays on a standalone cluster: who uses it, what ends it, and what others see of it."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from local import waiting
from local.process import Child, free_port
from local.servers.spark_standalone import Master, Worker
from tests.spark import submitting
from tests.spark.rows import MINUTE
from tests.spark.submitting import NEXT
from tests.warm_drivers import end_warm_drivers

SECRET = "of-the-tests-cluster"
STAGED = "SELECT SUM(raw_rows), SUM(counted_rows), SUM(rejected_rows) FROM etl.staged_counts WHERE attempt = {}"
RIGHT = [(4, 2, 1)]  # of the rows in tests/spark/conftest.py
MANY = 50_000  # estimated rows of a batch that is read in several tasks


class Cluster:
    """A master, and two workers of one core each, any of which a test may kill and start again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.master = Master(folder / "master", free_port(), web_port=free_port(), secret=SECRET)
        self.workers = [self._worker(name) for name in ("first", "second")]
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
        found = {}
        for process in psutil.process_iter(["pid", "cmdline"]):
            line = " ".join(process.info["cmdline"] or ())
            if "CoarseGrainedExecutorBackend" in line and str(self.master.port) and f":{SECRET}" not in line:
                environment = _environment_of(process)
                if environment.get("SPARK_LOCAL_DIRS", "").startswith(str(self.folder)):
                    found[process.pid] = line
        return found


def _environment_of(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


@pytest.fixture(scope="module")
def _cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="mm-spark-") as folder:
        cluster = Cluster(Path(folder))
        try:
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture
def cluster(_cluster: Cluster, warm_drivers: None) -> Iterator[Cluster]:
    """The cluster, complete, without an application before and after."""
    _cluster.start_all()
    until(lambda: len(_cluster.master.workers()) == 2, "two workers")
    yield _cluster
    end_warm_drivers()
    if _cluster.master.home.name in _cluster.running:
        until(lambda: not _cluster.master.applications(), "the end of its applications")
    until(lambda: not _cluster.executors(), "the end of its executors")


@pytest.fixture
def submit(cluster: Cluster, written: None) -> Callable[..., subprocess.CompletedProcess]:
    def run(attempt: int, *, keep: bool = True, conf: dict | None = None, **more) -> subprocess.CompletedProcess:
        settings = {"spark.authenticate.secret": SECRET, "spark.executor.memory": "512m", **(conf or {})}
        return submitting.submit(attempt, keep=keep, master=cluster.master.url, conf=settings, **more)

    return run


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
    application, executors = application_of(cluster), cluster.executors()
    assert len(executors) == 2
    second = submit(102, minutes=(NEXT, MINUTE), rows=MANY)
    assert second.returncode == 0, second.stdout
    assert (application_of(cluster), cluster.executors()) == (application, executors)
    assert query(STAGED.format(101)) == query(STAGED.format(102)) == RIGHT
    jars = [file.name for worker in cluster.workers for file in worker.work_folder.rglob("*connector_2*.jar")]
    assert len(jars) == 2, "They are sent once to each executor."
