"""Which process each cluster fault kills; the processes are stand-ins."""

from __future__ import annotations

import os
from types import SimpleNamespace

import psutil
import pytest

from tests.faults import cluster, system
from tests.faults.system import GuaranteeBroken, System

NOT_A_PROCESS = 2**22 + 1  # beyond Linux's largest pid


@pytest.fixture
def our_parent_is_a_worker(monkeypatch) -> int:
    programs = [{"name": "celery-worker-1", "pid": os.getppid()}, {"name": "spark-worker-1", "pid": NOT_A_PROCESS}]
    monkeypatch.setattr(cluster.supervisor, "processes", lambda: programs)
    return os.getppid()


def test_the_worker_of_a_task_is_an_ancestor_of_its_process(our_parent_is_a_worker) -> None:
    assert cluster._program_above(os.getpid(), "celery-worker").pid == our_parent_is_a_worker
    with pytest.raises(GuaranteeBroken, match="none of the spark-worker"):
        cluster._program_above(os.getpid(), "spark-worker")


def test_the_search_is_repeated_when_a_task_has_just_ended(our_parent_is_a_worker, monkeypatch) -> None:
    tasks = iter([("early", NOT_A_PROCESS), None, ("late", os.getpid())])
    airflow = SimpleNamespace(running_task=lambda *_: next(tasks))
    killed = []
    monkeypatch.setattr(cluster, "kill_with_children", killed.append)
    run = cluster._kill_worker_of(SimpleNamespace(airflow=airflow, until=System.until), "transform_delta")
    assert (run, [process.pid for process in killed]) == ("late", [our_parent_is_a_worker])


def test_the_driver_of_a_transform_is_that_of_its_worker(monkeypatch) -> None:
    drivers = [driver(f"/state/worker-{number}/tmp/minutemark-0/key", number) for number in (1, 2)]
    task = SimpleNamespace(environ=lambda: {"TMPDIR": "/state/worker-2/tmp"})
    monkeypatch.setattr(system.supervisor, "spark_drivers", lambda: drivers)
    monkeypatch.setattr(system.psutil, "Process", lambda _: task)
    airflow = SimpleNamespace(running_task=lambda *_: ("run", 17))
    run, chosen = System.driver_of_transform(SimpleNamespace(airflow=airflow, until=System.until))
    assert (run, chosen.pid) == ("run", 2)


def test_all_drivers_are_killed_even_if_one_has_just_ended(monkeypatch) -> None:
    killed = []

    def gone() -> None:
        raise psutil.NoSuchProcess(1)

    drivers = [SimpleNamespace(kill=gone), SimpleNamespace(kill=lambda: killed.append(2))]
    monkeypatch.setattr(system.supervisor, "spark_drivers", lambda: drivers)
    assert System.kill_drivers() == drivers
    assert killed == [2]


def driver(folder: str, pid: int) -> SimpleNamespace:
    return SimpleNamespace(pid=pid, environ=lambda: {"SPARK_LOCAL_DIRS": folder})
