"""What a driver does when a standalone master no longer knows its application. Session and master are stand-ins."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from include.spark import cluster


class Master:
    """Answers whether the application is unknown: returns True or False, or raises. The last answer is repeated."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: bool | Exception) -> None:
        monkeypatch.setattr(cluster, "_is_unknown", self._answer)
        self._answers = list(answers)
        self.requests = 0
        self.cancelled = threading.Event()

    def _answer(self, spark: object) -> bool:
        self.requests += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def session(self, master: str = "spark://master:7077"):
        """A session with an application at this master."""
        context = SimpleNamespace(master=master, applicationId="app-1", cancelAllJobs=self.cancelled.set)
        return SimpleNamespace(sparkContext=context)


@pytest.fixture
def threads() -> Iterator[None]:
    """No thread of the check outlives its job."""
    before = threading.active_count()
    yield
    until(lambda: threading.active_count() == before)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_running_job_is_cancelled_when_the_master_refuses_its_application_twice(threads, monkeypatch) -> None:
    """Otherwise it would wait until the task's timeout for executors that never come."""
    master = Master(monkeypatch, False, True)
    with cluster.watch_application(master.session(), seconds=0.01):
        assert master.cancelled.wait(10)
    assert master.requests >= 3


@pytest.mark.parametrize(
    "answers",
    [
        (False,),
        (True, False),  # a master that was starting
        (ConnectionError("no answer"),),
        (True, ConnectionError("no answer"), True, ConnectionError("no answer")),
    ],
)
def test_a_running_job_is_not_cancelled_for_a_single_refusal_or_without_an_answer(
    threads, monkeypatch, answers
) -> None:
    master = Master(monkeypatch, *answers)
    with cluster.watch_application(master.session(), seconds=0.01):
        until(lambda: master.requests > 6)
    assert not master.cancelled.is_set()


def test_only_a_standalone_master_is_checked(threads, monkeypatch) -> None:
    master = Master(monkeypatch, True)
    with cluster.watch_application(master.session("yarn"), seconds=0.01):
        time.sleep(0.1)
    assert not master.requests
