"""What tests of Kafka Connect share: the compiled transform, the tests' own compiled Java classes, and a worker.

`local` is imported only in the fixtures: `astro dev pytest` runs without it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.docker import sink
from tests.java import needs_java_compiler

if TYPE_CHECKING:
    from tests.docker.worker import Worker


@pytest.fixture(scope="session")
def connect_jars() -> Path:
    """The folder of the worker's jars. Skips the test if the jars or a Java compiler are missing."""
    from local.layout import CONNECT_JARS, SPARK_JARS

    if not shutil.which("java") or not list(CONNECT_JARS.glob("connect-runtime-*.jar")):
        pytest.skip(f"Kafka Connect needs Java 17, and its jars in {CONNECT_JARS}: `make setup` fetches them.")
    if not list(SPARK_JARS.glob("java-driver-core-*.jar")):
        pytest.skip(f"The tests' sink needs the Cassandra driver in {SPARK_JARS}: `make setup` fetches it.")
    needs_java_compiler()
    return CONNECT_JARS


@pytest.fixture(scope="session")
def transform_classes(connect_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the transform's classes."""
    from local import connect

    folder = tmp_path_factory.mktemp("java") / "lake-event"
    connect.compile_java(connect.IMAGE / "transform" / "src" / "main", folder)
    return folder


@pytest.fixture(scope="session")
def test_classes(transform_classes: Path) -> Path:
    """The folder of the tests' own classes: a sink, and a program around the transform."""
    return sink.compile_classes(transform_classes, transform_classes.with_name("test-classes"))


@pytest.fixture(scope="session")
def sink_plugin(test_classes: Path) -> Path:
    """The tests' sink as a plugin of a worker: its jar, beside those of the Cassandra driver.

    If MINUTEMARK_TEST_SINK names the folder of the DataStax sink, the same tests run with that sink.
    """
    if real := os.environ.get("MINUTEMARK_TEST_SINK"):
        return Path(real)
    return sink.plugin(test_classes, test_classes.with_name("test-sink"))


@pytest.fixture(scope="package")
def connect_worker(
    connect_jars: Path,
    sink_plugin: Path,
    kafka_broker: dict[str, str],
    cassandra_node: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Worker]:
    """A real worker, without connectors."""
    from tests.docker.worker import Worker

    worker = Worker(tmp_path_factory.mktemp("connect"), sink_plugin)
    worker.start()
    yield worker
    worker.stop()
