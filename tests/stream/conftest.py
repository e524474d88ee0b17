"""What tests of streams share: a pipeline with a separate topic, and stream processes as spark-submit runs them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator

import psutil
import pytest

from include.connections import SPARK, endpoint
from include.pipelines import Pipeline
from include.spark.installation import CannotSubmit
from include.stream import catch_up, submission
from tests.kafka.conftest import pipeline, refusing_change_log, send, until  # noqa: F401  # fixtures

_START_SECONDS = 120


@pytest.fixture(scope="session", autouse=True)
def stream_jars() -> None:
    if not shutil.which("java"):
        pytest.skip("Spark needs Java 17, which is not on the PATH: install it.")
    pytest.importorskip("pyspark")
    try:
        submission.stream_jars()
    except CannotSubmit as error:
        pytest.skip(str(error))


class StreamProcess:
    """A stream that follows its topic in separate processes, as a task of Airflow starts them."""

    def __init__(self, streamed: Pipeline, seconds: float) -> None:
        spark = endpoint(SPARK)
        self._prepared = submission.prepare(streamed, spark, seconds=seconds)
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            catch_up.command(self._prepared, spark),
            env={**os.environ, **self._prepared.env_vars},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        self.lines.extend(line.rstrip() for line in self.process.stdout or ())

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def command_lines(self) -> str:
        """The command lines of all processes that are still running."""
        words = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                words += process.cmdline()
        return " ".join(words)

    def processes(self) -> list[psutil.Process]:
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def until(self, condition: Callable[[], object]) -> object:
        """Wait for the first true result while the stream runs."""

        def answer() -> object:
            assert self.process.poll() is None, self.output
            return condition()

        return until(answer, _START_SECONDS)

    def wait(self) -> int:
        """Wait until the stream ends by itself; returns its exit status."""
        status = self.process.wait(_START_SECONDS)
        self._reader.join(30)
        return status

    def kill(self) -> None:
        """Send SIGKILL to all processes of the stream."""
        if self.process.poll() is None:
            for process in self.processes():
                process.send_signal(signal.SIGKILL)
        self.process.wait(30)
        shutil.rmtree(self._prepared.dir, ignore_errors=True)


@pytest.fixture
def start(pipeline: Pipeline) -> Iterator[Callable[..., StreamProcess]]:  # noqa: F811
    """Starts the pipeline's stream in separate processes; what still runs at the test's end is killed."""
    streams: list[StreamProcess] = []

    def start_stream(seconds: float = 300) -> StreamProcess:
        streams.append(StreamProcess(pipeline, seconds))
        return streams[-1]

    yield start_stream
    for stream in streams:
        stream.kill()
