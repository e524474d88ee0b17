"""What tests of Kafka Connect share: the transform and the tests' own Java classes, compiled."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from local import connect
from local.layout import CONNECT_JARS, ROOT

TESTS_JAVA = ROOT / "tests" / "docker" / "connect"


@pytest.fixture(scope="session")
def connect_jars() -> Path:
    """The worker's jars, where a compiler is there, too."""
    if not shutil.which("java") or not list(CONNECT_JARS.glob("connect-runtime-*.jar")):
        pytest.skip(f"Kafka Connect needs Java 17, and its jars in {CONNECT_JARS}: `make setup` fetches them.")
    if not connect.has_compiler():
        pytest.skip("This Java has no compiler: install a JDK (Debian: apt-get install openjdk-17-jdk-headless).")
    return CONNECT_JARS


@pytest.fixture(scope="session")
def transform_classes(connect_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the transform's classes."""
    folder = tmp_path_factory.mktemp("java") / "lake-event"
    connect.compile_java(connect.IMAGE / "transform" / "src" / "main", folder)
    return folder


@pytest.fixture(scope="session")
def test_classes(transform_classes: Path) -> Path:
    """The folder of the tests' own classes: a sink, and a program around the transform."""
    folder = transform_classes.with_name("test-sink")
    connect.compile_java(TESTS_JAVA, folder, also=[transform_classes])
    return folder
